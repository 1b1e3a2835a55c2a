"""`vidgan evaluate`: numbers for checkpoints, and for clips of any system.

  vidgan evaluate WORKDIR
  vidgan evaluate --generated DIR_OR_FILE --reference DIR_OR_DATASET
  vidgan evaluate --paired OUT REF

The first runs the evaluators of `config.evals`, or those of --metrics, on the
newest checkpoint, on one (--step), on all (--all), or on each new one of a
running job (--follow); results go to WORKDIR/eval/STEP.json, metrics.jsonl and
evaluation.html.
The second compares two sets of clips, folders of videos or others; the third
aligned videos of the same names. In the first two, several processes that are
started alike take a share of the clips each.
"""

import argparse

from vidgan_jax import config as config_lib
from vidgan_jax.verbs import existing


def main(argv: list[str]) -> int:
  """The verb."""
  parser = argparse.ArgumentParser(
    prog="vidgan evaluate",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("workdir", nargs="?", help="of a run, or one checkpoints/STEP of it")
  add("--step", type=int, help="checkpoint; default: newest")
  add("--all", action="store_true", help="every checkpoint")
  add(
    "--follow",
    action="store_true",
    help="each new checkpoint of a running job, until its last one",
  )
  add(
    "--weights",
    choices=("ema", "raw", "both"),
    default="ema",
    help="default: ema",
  )
  add(
    "--metrics",
    help="evaluators, comma separated, instead of the config's; with options "
    "as in \"fvd(protocol='tfhub'),swd\"",
  )
  add(
    "--generated",
    metavar="DIR_OR_FILE",
    help="clips of any system: videos, GIFs, image folders, .npy, .npz",
  )
  add(
    "--reference",
    metavar="DIR_OR_DATASET",
    help="real clips: the same, or a prepared data set",
  )
  add(
    "--split",
    help="of the data set --reference; default: test; others as in TFDS: "
    "'train[90%%:]'",
  )
  add("--train", metavar="DIR_OR_DATASET", help="clips of its training")
  add(
    "--paired", nargs=2, metavar=("OUT", "REF"), help="aligned videos or arrays"
  )
  add(
    "--frames",
    type=int,
    help="of a clip in files, from its start; default: 16, with --paired all",
  )
  add("--stride", type=int, help="between these frames; default: 1")
  add("--size", type=int, help="bring clips in files to this many pixels")
  add("--num", type=int, help="clips that each metric is to use")
  add(
    "--fit-features",
    action="store_true",
    help="learn the features of fd_self from the data set first",
  )
  add("--out", metavar="FILE.json", help="where the values go")
  add("--report", metavar="FILE.html", help="a page to look at")
  add(
    "--overwrite",
    action="store_true",
    help="replace --out and --report if they are there already",
  )
  args = parser.parse_args(argv)
  modes = (args.workdir, args.generated or args.reference, args.paired)
  if sum(mode is not None for mode in modes) != 1:
    parser.error(
      "give one of WORKDIR, --generated with --reference, and --paired"
    )
  _check(args)
  existing.check(filter(None, (args.out, args.report)), args.overwrite)
  from vidgan_jax.verbs import evaluations  # JAX, once there is work.

  evaluations.run(args)
  return 0


def _check(args) -> None:
  """Refuses options that do not belong together."""
  files = (
    *("generated", "reference", "split", "train", "frames", "stride", "size"),
  )
  wrong = {
    "workdir": (*files, "out"),
    "paired": (
      *("step", "all", "follow", "num", "fit_features", "size", "split"),
      *("generated", "reference", "train"),
    ),
    "files": ("step", "all", "follow"),
  }
  mode = "workdir" if args.workdir else "paired" if args.paired else "files"
  subject = {
    "workdir": "a WORKDIR",
    "paired": "--paired",
    "files": "--generated",
  }
  for name in wrong[mode]:
    if getattr(args, name):
      raise config_lib.ConfigError(
        f"--{name.replace('_', '-')} says nothing of {subject[mode]}: leave it "
        "out."
      )
  for name in ("frames", "stride", "size"):
    value = getattr(args, name)
    if value is not None and value < 1:
      raise config_lib.ConfigError(
        f"--{name} {value}: give a whole number of at least 1."
      )
  if mode == "files" and not (args.generated and args.reference):
    raise config_lib.ConfigError(
      "--generated and --reference belong together: the clips to judge, and "
      "the real ones."
    )
  if mode == "files" and args.weights != "ema":
    raise config_lib.ConfigError("--weights is for a WORKDIR alone.")
  if args.num is not None and args.num < 2:
    raise config_lib.ConfigError(f"--num {args.num}: give at least 2.")
  if sum([args.step is not None, args.all, args.follow]) > 1:
    raise config_lib.ConfigError("Give one of --step, --all and --follow.")
