"""`vidgan study make | serve | report`: what people prefer, pair by pair.

  vidgan study make DIR --a ours=FOLDER --b theirs=FOLDER
  vidgan study serve DIR
  vidgan study report DIR

make pairs the clips of two or more systems (or of a system and reality) and
writes them anew, all of one size, rate and length. serve shows the pairs side
by side on a local web page and stores every answer at once. report says who
won how often, ranks the systems, and says how far to trust it.
"""

import argparse
import json
import pathlib

from vidgan_jax.reports import preferences
from vidgan_jax.store import files
from vidgan_jax.study import make
from vidgan_jax.study import serve
from vidgan_jax.study import store
from vidgan_jax.study import summary as summary_lib
from vidgan_jax.verbs import existing

_LETTERS = "abcdefgh"


def main(argv: list[str]) -> int:
  """The verb."""
  args = _parser().parse_args(argv)
  return args.run(args) or 0


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="vidgan study",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  actions = parser.add_subparsers(
    dest="action", required=True, metavar="make | serve | report"
  )
  for name, run, options, text in (
    ("make", _make, _make_options, "folders of clips -> a study"),
    ("serve", _serve, _serve_options, "a study -> a web page for its raters"),
    ("report", _report, _report_options, "the answers -> numbers and a page"),
  ):
    action = actions.add_parser(
      name, help=text, description=text, allow_abbrev=False
    )
    action.set_defaults(run=run)
    action.add_argument("dir", metavar="STUDY_DIR")
    options(action.add_argument)
  return parser


def _make_options(add) -> None:
  """Options of `make`; but for the systems those of `study.make.Options`."""
  texts = dict.fromkeys(_LETTERS, argparse.SUPPRESS) | {
    "a": "a system: what to call it, and the folder of its clips",
    "b": "another",
    "c": "and more, up to --h",
  }
  for letter, text in texts.items():
    required = letter in "ab"
    add(f"--{letter}", required=required, metavar="NAME=FOLDER", help=text)
  add(
    "--question",
    default="Which clip looks more real?",
    help="what raters are asked (default: %(default)s)",
  )
  add(
    "--pairs",
    type=int,
    metavar="N",
    help="pairs that a rater sees (default: 20, or as many as the clips make)",
  )
  for name, default, text in (
    ("checks", 3, "attention checks among the pairs"),
    ("failures", 0, "leave out raters who fail more checks than this"),
    ("clips", 50, "clips of each system at most, drawn at random"),
    ("seed", 0, "of every draw"),
  ):
    text += " (default: %(default)s)"
    add(f"--{name}", type=int, default=default, metavar="N", help=text)
  add(
    "--ties",
    action=argparse.BooleanOptionalAction,
    default=True,
    help="may a rater see no difference? (default: yes)",
  )
  add(
    "--check",
    choices=("degraded", "same"),
    default="degraded",
    help="a check is a clip against itself, ruined (default), or against "
    "itself, where only a tie is right",
  )
  add(
    "--match",
    choices=("auto", "names", "random"),
    default="auto",
    help="pair clips of one name, or at random; auto (default): by name if "
    "all names agree, at random if none does",
  )
  add(
    "--size",
    type=int,
    metavar="PIXELS",
    help="shorter side of all clips (default: that of the smallest)",
  )
  add("--square", action="store_true", help="cut the middle square out of all")
  add("--fps", type=float, help="of all clips (default: of the slowest system)")
  add(
    "--seconds",
    type=float,
    help="length of all clips (default: that of the shortest)",
  )


def _serve_options(add) -> None:
  add(
    "--host",
    default="127.0.0.1",
    help="address to listen on; 0.0.0.0 lets the whole network in "
    "(default: %(default)s)",
  )
  add(
    "--port",
    type=int,
    default=8765,
    help="0 takes any that is free (default: %(default)s)",
  )


def _report_options(add) -> None:
  add("--json", action="store_true", help="print JSON instead of the tables")
  add(
    "--html", metavar="FILE", help="the page (default: STUDY_DIR/report.html)"
  )
  add("--overwrite", action="store_true",
      help="replace the FILE of --html")  # fmt: skip
  add(
    "--min-votes",
    type=int,
    default=30,
    metavar="N",
    help="warn where two systems met less often (default: %(default)s)",
  )


def _make(args) -> None:
  systems = {}
  for letter in _LETTERS:
    text = vars(args)[letter]
    if text is None:
      continue
    name, equals, folder = text.partition("=")
    if not (equals and name.strip() and folder):
      raise store.StudyError(
        f"--{letter} {text}: give a name and a folder, as in "
        f"--{letter} ours=runs/ours/clips."
      )
    if name.strip() in systems:
      raise store.StudyError(
        f"--{letter} {text}: the name {name.strip()!r} is taken; give every "
        "system a name of its own."
      )
    systems[name.strip()] = folder
  options = make.Options(
    **{f: vars(args)[f] for f in make.Options.__dataclass_fields__}
  )
  make.make(args.dir, systems, options)
  print(f"-> {args.dir}; next: vidgan study serve {args.dir}")


def _serve(args) -> None:
  with serve.Server(store.load(args.dir), args.host, args.port) as server:
    print(f"The study is at {server.url} (Ctrl-C ends it).", flush=True)
    if args.host not in ("127.0.0.1", "localhost", "::1"):
      print("Whoever reaches this machine can answer.", flush=True)
    try:
      server.serve_forever()
    except KeyboardInterrupt:
      print("\nEnded; every answer is stored.")


def _report(args) -> None:
  existing.check(filter(None, [args.html]), args.overwrite)
  study = store.load(args.dir)
  summary = summary_lib.summarize(study, min_votes=args.min_votes)
  if args.json:
    print(json.dumps(summary, indent=2, allow_nan=False))
  else:
    print(preferences.text(summary))
  page = pathlib.Path(args.html or study.folder / "report.html")
  try:
    files.write_text(page, preferences.html(summary))
  except OSError as error:
    raise store.StudyError(
      f"{page} cannot be written ({error.strerror}): name another place, "
      "--html FILE."
    ) from None
  if not args.json:
    print(f"-> {page}")
