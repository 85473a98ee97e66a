"""Downloads resume, are checked, and appear whole or not at all."""

import functools
import hashlib
import http.server
import threading

import pytest

from behavejax.data import download
from behavejax.errors import InputError

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
  def __init__(self, log, *args):
    self.log = log
    super().__init__(*args)

  def do_GET(self):  # noqa: N802  (the name that http.server calls)
    start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
    self.log.append(start)
    self.send_response(206 if start else 200)
    self.send_header("Content-Length", str(len(CONTENT) - start))
    self.end_headers()
    self.wfile.write(CONTENT[start : start + 300_000] if self.path == "/breaks" else CONTENT[start:])

  def log_message(self, *_):
    pass


@pytest.fixture
def server():
  log = []
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, log)) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", log
    server.shutdown()


def test_interrupted_download_resumes(server, tmp_path):
  address, log = server
  path = tmp_path / "file.zip"
  with pytest.raises(InputError, match=r"repeat the command to resume"):
    download.fetch(f"{address}/breaks", path, sha256=DIGEST)
  assert not path.exists()
  download.fetch(f"{address}/breaks", path, sha256=DIGEST)
  assert path.read_bytes() == CONTENT
  assert log == [0, 300_000]
  assert [p.name for p in tmp_path.iterdir()] == ["file.zip"]
  download.fetch(f"{address}/whole", path, sha256=DIGEST)  # there already: nothing is asked for
  assert len(log) == 2


def test_wrong_digest_leaves_nothing(server, tmp_path):
  with pytest.raises(InputError, match=r"SHA-256 is .*, expected 00ff"):
    download.fetch(f"{server[0]}/whole", tmp_path / "file.zip", sha256="00ff")
  assert not list(tmp_path.iterdir())


def test_refusals(tmp_path):
  with pytest.raises(InputError, match=r"refusing to download over http"):
    download.fetch("http://example.org/file", tmp_path / "file", sha256=DIGEST)
  with pytest.raises(InputError, match=r"no download is known for config.data.name='hpat'; did you mean 'hapt'"):
    download.download("hpat", tmp_path)
  with pytest.raises(InputError, match=r"no SHA-256 is pinned for 'hapt'.*--sha256"):
    download.download("hapt", tmp_path)
