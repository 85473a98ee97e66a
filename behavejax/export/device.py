"""What a device engineer reads: the README of a package and the script and commands for the Hailo compiler."""

from collections.abc import Sequence

from behavejax.export.counts import Counts


def model_script(calibration: int) -> str:
  """The `.alls` model script for `hailo optimize`.

  The input is normalised by the host, so that no normalization layer is added.
  """
  return (
    f"model_optimization_config(calibration, batch_size=8, calibset_size={calibration})\n"
    "model_optimization_flavor(optimization_level=1, compression_level=0)\n"
  )


def hailo_commands(arch: str, *, end_nodes: Sequence[str]) -> str:
  """The commands that make `model.hef` of `model.onnx`, for a user who has the Dataflow Compiler."""
  ends = " ".join(end_nodes)
  return (
    f"hailo parser onnx model.onnx --net-name behavejax --hw-arch {arch} --end-node-names {ends}\n"
    f"hailo optimize behavejax.har --hw-arch {arch} --calib-set-path calib.npy --model-script model.alls\n"
    f"hailo compiler behavejax_optimized.har --hw-arch {arch}\n"
    "mv behavejax.hef model.hef\n"
  )


def readme(
  *,
  title: str,
  shape: Sequence[int],
  rate_hz: float,
  channels: Sequence[str],
  labels: Sequence[str],
  counts: Counts,
  files: Sequence[tuple[str, int, str]],
  operators: Sequence[str],
  commands: str,
  syllables: bool,
) -> str:
  """README.md of a package.

  Args:
    title: what the model was trained on.
    shape: of the graph's input, with the batch.
    rate_hz: that the device must deliver.
    channels: in order.
    labels: in order.
    counts: of the graph.
    files: name, bytes and purpose of each.
    operators: of `model.onnx`.
    commands: for the Hailo compiler.
    syllables: whether the package holds an HSMM.
  """
  listing = "\n".join(f"| `{name}` | {size / 1e3:,.0f} kB | {purpose} |" for name, size, purpose in files)
  online = (
    "\n`answer.syllables` holds the state of the semi-Markov model at each code: its probability, how long it has\n"
    "lasted and how long it will.\n"
    if syllables
    else ""
  )
  return f"""# {title}: package for a device

How close each model comes to the trained one stands in `report.md`.

The device delivers {len(channels)} channels at {rate_hz:g} Hz, in this order: {", ".join(channels)}.
The answer is one of: {", ".join(labels) or "no labels, codes only"}.

    pip install numpy onnxruntime            (or: numpy ai-edge-litert)
    pip install --no-deps behavejax

In Python, with samples as they come:

    from behavejax.export.runtime import Runtime

    runtime = Runtime(".")
    for chunk in sensor:                   # [samples, {len(channels)}], NaN where lost
      for answer in runtime.feed(chunk):   # one per window: label, probabilities, codes
        print(answer.time_s, answer.name)
{online}
A CSV file at once, from a checkout of behavejax (`pip install absl-py ml-collections` besides):

    python launch/run_edge.py --package=. --input=recording.csv --out=answers

`preprocess.json` says all that turns raw samples into the input {list(shape)} of the graph, and holds the SHA-256 of
every file here: a package whose files do not belong together is refused.

| file | size | what it is |
|---|---:|---|
{listing}

One window costs {counts.macs / 1e6:.1f} million multiply-accumulates; the model has {counts.parameters:,} parameters
and needs {counts.activations:,} numbers of activations at once (bytes in int8).

## Hailo

`model.onnx` holds these operators only: {", ".join(operators)}. The proprietary compiler was not run on it:
`python -m behavejax.export.hailo model.onnx` compares every operator with what is documented and reported. With the
Hailo Dataflow Compiler installed:

{_indented(commands)}
The file `model.hef` beside `preprocess.json` is then run with `--backend=hailo` (it is not among the checked digests,
as it was made after them).
"""


def _indented(text: str) -> str:
  return "".join(f"    {line}\n" for line in text.splitlines())
