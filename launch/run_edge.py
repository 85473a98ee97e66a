"""Streams a CSV file through an exported package as a device would; writes labels, codes, bouts and syllables.

  python launch/run_edge.py --package=runs/fsq/export --input=recording.csv --out=edge
  python launch/run_edge.py --package=package.zip --input=recording.csv --time_column=time --realtime=true --out=edge

Needs absl-py, ml-collections and NumPy, and onnxruntime, ai-edge-litert or HailoRT; no JAX.
"""

from absl import flags

from behavejax.launcher import run

_PACKAGE = flags.DEFINE_string("package", None, "Folder that the export wrote, or the zip of it.", required=True)
_INPUT = flags.DEFINE_string("input", None, "CSV file with a column per channel.", required=True)
_OUT = flags.DEFINE_string("out", "edge", "Folder for windows.csv, ethogram.csv and syllables.csv.")
_BACKEND = flags.DEFINE_string("backend", "auto", "auto, onnx, tflite, tflite_int8, tflite_int8_qat or hailo.")
_CHUNK = flags.DEFINE_integer("chunk", 50, "Samples fed at once.", lower_bound=1)
_TIME_COLUMN = flags.DEFINE_string("time_column", "", "Column of time stamps; none: every row follows the one before.")
_TIME_UNIT = flags.DEFINE_enum("time_unit", "s", ["s", "ms", "us"], "Unit of the time stamps.")
_RATE_HZ = flags.DEFINE_float("rate_hz", 0.0, "What the source delivers; 0: unknown.", lower_bound=0.0)
_LATENESS_S = flags.DEFINE_float("lateness_s", 0.0, "How long a missing sample is waited for.", lower_bound=0.0)
_MAX_GAP_S = flags.DEFINE_float("max_gap_s", None, "Windows that touch a longer gap are left out.", lower_bound=0.0)
_THREADS = flags.DEFINE_integer("threads", 1, "Of the model, on the processor.", lower_bound=1)
_REALTIME = flags.DEFINE_boolean("realtime", False, "Take as long as the recording took.")


def main() -> None:
  from behavejax.export.runtime import Runtime
  from behavejax.export.stream import describe, stream_file

  runtime = Runtime(
    _PACKAGE.value, _BACKEND.value, _LATENESS_S.value, _MAX_GAP_S.value,
    rate_hz=_RATE_HZ.value or None, threads=_THREADS.value,
  )  # fmt: skip
  summary = stream_file(
    runtime, _INPUT.value, _OUT.value, chunk=_CHUNK.value, time_column=_TIME_COLUMN.value,
    time_unit=_TIME_UNIT.value, realtime=_REALTIME.value, progress=lambda line: print(line, flush=True),
  )  # fmt: skip
  print(describe(summary, runtime.preprocess.rate_hz))
  print(f"answers: {_OUT.value}")


if __name__ == "__main__":
  run(main)
