"""The `vidgan` command: each verb is a module with `main(argv)`."""

import contextlib
import difflib
import importlib
import io
import os
import re
import signal
import sys
import threading

import vidgan_jax
from vidgan_jax import errors

_VERBS = {
  "prepare": "a folder of videos -> a data set",
  "train": "a config -> a workdir with checkpoints, samples and numbers",
  "evaluate": "checkpoints -> numbers",
  "generate": "a checkpoint -> new clips",
  "paint": "drawings on a local page -> video",
  "process": "real footage -> better footage",
  "weights": "public files of networks -> what the metrics need",
  "study": "pairs of clips -> what people prefer",
}


def _usage() -> str:
  verbs = "\n".join(f"  {name:<10} {text}" for name, text in _VERBS.items())
  return (
    f"vidgan {vidgan_jax.__version__}: GANs on video.\n\n"
    f"usage: vidgan VERB ...\n\n{verbs}\n\n`vidgan VERB --help` says more."
  )


@contextlib.contextmanager
def _stopped_by_signals():
  """SIGTERM and SIGHUP end the block as Ctrl-C does: nothing is half-written.

  A SIGHUP that is ignored, as by `nohup`, stays so.
  """
  with contextlib.ExitStack() as stack:
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGHUP):
        previous = signal.getsignal(number)
        if number == signal.SIGTERM or previous != signal.SIG_IGN:
          signal.signal(number, signal.default_int_handler)
          stack.callback(signal.signal, number, previous or signal.SIG_DFL)
    yield


def _open_streams() -> None:
  """Leads what a parent has closed (`>&-`) to nobody.

  Else the next file that is opened would take its place.
  """
  for number, name in enumerate(("stdin", "stdout", "stderr")):
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)
    if number and getattr(sys, name) is None:
      setattr(sys, name, open(number, "w", closefd=False))


def _quiet() -> None:
  """Silences what TensorFlow, XLA, absl and encoders say of themselves in C++.

  They read the environment when they are imported, so this comes before the
  verb is. What a user has set stays; the level 1 is JAX's doing, where it has
  been imported already.
  """
  if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
  os.environ.setdefault("SVT_LOG", "1")  # the encoder of AV1: errors alone


def _named(text: str) -> str:
  """A file whose name begins with a dash, so that it is not an option."""
  media = r"-[^-=][^=]*\.(mp4|m4v|mkv|mov|webm|avi|ts|gif|webp|a?png|jpe?g|npy)"
  if re.fullmatch(media, text, re.IGNORECASE):
    return os.path.join(os.curdir, text)
  return text


def main(argv: list[str] | None = None) -> int:
  """Runs one verb and returns the exit status."""
  _open_streams()
  argv = sys.argv[1:] if argv is None else argv
  if not argv or argv[0] in ("-h", "--help", "help"):
    print(_usage())
    return 0 if argv else 2
  if argv[0] == "--version":
    print(vidgan_jax.__version__)
    return 0
  verb, *rest = map(_named, argv)
  if verb not in _VERBS:
    close = difflib.get_close_matches(verb, _VERBS, 1, 0.0)
    print(
      f"vidgan: there is no verb {verb!r}; did you mean {close[0]!r}?\n\n"
      f"{_usage()}",
      file=sys.stderr,
    )
    return 2
  if isinstance(sys.stdout, io.TextIOWrapper):
    # Names of files that are not UTF-8 can be printed, as on stderr.
    sys.stdout.reconfigure(errors="backslashreplace")
  _quiet()
  module = importlib.import_module(f"vidgan_jax.verbs.{verb}")
  try:
    with _stopped_by_signals():
      return module.main(rest) or 0
  except KeyboardInterrupt:
    print(f"\nvidgan {verb}: stopped by Ctrl-C or SIGTERM.", file=sys.stderr)
    return 130
  except BrokenPipeError:
    return 141
  except Exception as error:
    if errors.shown_whole(error):
      raise
    print(f"vidgan {verb}: {errors.text(error)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
  sys.exit(main())
