"""`vidgan paint RUN`: paint a map, press Generate, see the video.

A page of this machine alone, which needs no network: maps are painted in the
classes that the run was trained with, at one time or at several, and what lies
between is shown at once. The drawing can be saved as a PNG, which `vidgan
generate RUN --map` reads, and the video as an mp4.
"""

import argparse

from vidgan_jax import zoo
from vidgan_jax.devices import processes
from vidgan_jax.video import drawn
from vidgan_jax.web import paint


def main(argv: list[str]) -> int:
  """The verb."""
  parser = argparse.ArgumentParser(
    prog="vidgan paint",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("run", metavar="RUN", help="workdir of a run with maps, one "
      "checkpoints/STEP of it, or the name of shipped weights")  # fmt: skip
  add("--first", metavar="FILE", help="picture that the clips begin with, of "
      "a run that continues one")  # fmt: skip
  add("--step", type=int, help="checkpoint; default: the newest")
  add("--weights", choices=("ema", "raw"), default="ema")
  add(
    "--port",
    type=int,
    default=8766,
    help="0 takes any that is free (default: %(default)s)",
  )
  _serve(parser.parse_args(argv))
  return 0


def _serve(args) -> None:
  processes.use_cache()
  sampler = zoo.find(args.run, args.step, args.weights)
  first = None if args.first is None else drawn.load(args.first)
  studio = paint.Studio(sampler, args.run, first)
  with paint.Server(studio, args.port) as server:
    print(f"Paint at {server.url} (Ctrl-C ends it).", flush=True)
    try:
      server.serve_forever()
    except KeyboardInterrupt:
      print("\nEnding.")
