"""The same 20 steps on 1 device, on 8 virtual devices, by both forms, and on two processes."""

import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from behavejax.errors import InputError
from behavejax.training import parallel

ROOT = pathlib.Path(__file__).parent.parent.parent
WORKER = pathlib.Path(__file__).parent / "steps_worker.py"


def start(out, kind, devices, *more):
  env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(devices)}
  return subprocess.Popen(
    [sys.executable, str(WORKER), f"--kind={kind}", f"--out={out}", *more],
    env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
  )  # fmt: skip


def finish(*processes):
  for process in processes:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
  out = tmp_path_factory.mktemp("one") / "params.npz"
  finish(start(out, "pmap", 1))
  return dict(np.load(out))


def assert_same(out, expected):
  found = dict(np.load(out))
  assert found.pop("replicas_agree")
  assert set(found) == set(expected) - {"replicas_agree"}
  for name, value in found.items():
    np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pmap", "sharding"])
def test_eight_devices_equal_one(one_device, tmp_path, kind):
  out = tmp_path / "params.npz"
  finish(start(out, kind, 8))
  assert_same(out, one_device)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pmap", "sharding"])
def test_two_processes_equal_one(one_device, tmp_path, kind):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  out = tmp_path / "params.npz"
  finish(*(start(out, kind, 2, f"--coordinator={address}", f"--process={i}") for i in range(2)))
  assert_same(out, one_device)


def test_uneven_batch_is_refused():
  with pytest.raises(InputError, match=r"batch_size=12 cannot be shared evenly by 8 devices"):
    parallel.check_batch_size(12)
