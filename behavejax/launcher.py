"""What every program in `launch/` shares: flags in, one clear line out when the input is wrong."""

import errno
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from behavejax.config import Config, did_you_mean
from behavejax.errors import InputError

_COORDINATOR = ("coordinator", "process", "processes")


def config_flag() -> flags.FlagHolder:
  """Defines `--config=configs/NAME.py:ARG`, with `--config.key=value` for single settings."""
  holder = config_flags.DEFINE_config_file("config", None, "Configuration: configs/NAME.py or configs/NAME.py:ARG.")
  flags.mark_flag_as_required("config")
  return holder


def config_source() -> tuple[str, dict[str, Any]]:
  """`NAME.py:ARG` that the config came from, and what the command line changed in it, by dotted key."""
  flag = flags.FLAGS["config"]
  return config_flags.get_config_filename(flag), dict(config_flags.get_override_values(flag))


def distributed_flags() -> None:
  """Defines the flags by which several processes find each other."""
  flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0, when several processes train together.")
  flags.DEFINE_integer("processes", 1, "Number of processes.", lower_bound=1)
  flags.DEFINE_integer("process", 0, "Which of them this is, from 0.", lower_bound=0)


def run(main: Callable[[], None]) -> None:
  """Parses flags, runs `main`, and ends with 2 and one line on standard error when the input is wrong.

  `InputError`, unreadable or missing files and a full disk are the user's; every other exception is a
  bug and keeps its traceback.
  """

  def guarded(argv: Sequence[str]) -> None:
    if len(argv) > 1:
      _fail(f"unexpected argument {argv[1]!r}; flags look like --name=value")
    logging.set_verbosity(logging.WARNING)
    try:
      _join_processes()
      main()
    except KeyboardInterrupt:
      _fail(f"interrupted; repeat the command{without_restart()} to resume", code=130)
    except Exception as error:
      message = _user_message(error)
      if message is None:
        raise
      _fail(message)

  app.run(guarded, flags_parser=_parse)


def without_restart() -> str:
  """What to leave out of a command that is repeated to resume it."""
  return " without --restart_from" if flags.FLAGS.flag_values_dict().get("restart_from") else ""


def _join_processes() -> None:
  values = flags.FLAGS.flag_values_dict()
  if not values.get("coordinator") and (values.get("processes", 1) > 1 or values.get("process", 0)):
    raise InputError("--processes and --process need --coordinator=HOST:PORT: without it each would train by itself")
  if values.get("coordinator"):
    import jax

    coordinator, process, processes = (values[name] for name in _COORDINATOR)
    jax.distributed.initialize(coordinator, num_processes=processes, process_id=process)


def _user_message(error: BaseException) -> str | None:
  """What to tell the user, or None when the program is at fault."""
  for cause in _chain(error):
    if isinstance(cause, InputError):
      return _last_line_of_trace(str(cause))
    if getattr(cause, "errno", None) == errno.ENOSPC or "No space left on device" in str(cause):
      return f"disk full while writing {getattr(cause, 'filename', None) or 'a file'}; free some space and repeat"
  if isinstance(error, OSError) and "Failed loading config file" in str(error):
    return f"the configuration cannot be loaded: {str(error).strip().splitlines()[-1].strip()}"
  if isinstance(error, OSError) and error.strerror:
    return f"{error.strerror}: {error.filename}" if error.filename else str(error)
  return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__


def _parse(argv: Sequence[str]) -> list[str]:
  """Flags, where a config file that cannot be loaded or overridden is a one-line error too."""
  try:
    return flags.FLAGS(argv)
  except (InputError, flags.Error, OSError, ValueError, TypeError, KeyError, AttributeError, SyntaxError) as error:
    _fail(_user_message(error) or _flag_message(error, argv))


def _flag_message(error: BaseException, argv: Sequence[str]) -> str:
  text = str(error.args[0] if error.args else error).strip()
  if isinstance(error, KeyError | AttributeError):
    unknown = (_unknown_setting(flag.lstrip("-").partition("=")[0].split(".")) for flag in argv)
    return next(filter(None, unknown), text)
  return _last_line_of_trace(text)


def _unknown_setting(path: Sequence[str]) -> str | None:
  """Says which part of `config.SECTION.NAME` does not exist, and what may have been meant."""
  known = asdict(Config())
  for place, name in enumerate(path[1:] if path[0] == "config" else (), start=1):
    if not isinstance(known, dict):
      return f"{'.'.join(path[:place])} is a single setting, it has no {name}"
    name = name.partition("[")[0]
    if name not in known:
      return f"{'.'.join([*path[:place], name])} is not a setting{did_you_mean(name, known)}"
    known = known[name]
  return None


def _last_line_of_trace(text: str) -> str:
  """The flag parser wraps what a config file raises into the text of a trace; its last line says what."""
  if "Traceback" not in text:
    return text
  return text.strip().splitlines()[-1].removeprefix(f"{InputError.__module__}.InputError: ")


def _fail(message: str, *, code: int = 2) -> None:
  print(f"behavejax: {' '.join(message.split())}", file=sys.stderr)
  sys.exit(code)
