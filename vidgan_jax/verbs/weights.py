"""`vidgan weights`: the frozen networks of the metrics and their files.

Without more it lists every network, what it is for, whether its weights are
there, and if not of which public file they are made. `vidgan weights convert
NAME FILE` makes our file of a public one; nothing is downloaded. Files lie in
$VIDGAN_WEIGHTS, or in ~/.cache/vidgan_jax/weights.
"""

import argparse
import os
import sys
import textwrap

from vidgan_jax.nets import store


def table() -> str:
  """Every network, what it is, and its weights: there, or from which file."""
  names = store.names()
  width = max(map(len, names))
  lines = [f"Weights in {store.folder()}:"]
  for name in names:
    net, there = store.net(name), store.where(name).is_file()
    what = net.__doc__.split("\n")[0]
    lines.append(
      f"  {name:<{width}}  {'there' if there else 'missing':<7}  {what}"
    )
    if not there:
      lines.append(textwrap.indent(net.SOURCE, "    "))
  return "\n".join(lines)


def main(argv: list[str]) -> int:
  """The verb."""
  parser = argparse.ArgumentParser(
    prog="vidgan weights", description=__doc__.split("\n\n")[1]
  )
  verbs = parser.add_subparsers(dest="verb", metavar="convert NAME FILE")
  convert = verbs.add_parser(
    "convert", description="Makes our file of a public one."
  )
  convert.add_argument("name", metavar="NAME", help="the network")
  convert.add_argument(
    "files",
    metavar="FILE",
    nargs="+",
    help="the public file, or files: see docs/metrics.md",
  )
  args = parser.parse_args(argv)
  if args.verb is None:
    print(table())
    return 0
  say = lambda text: print(f"vidgan weights: {text}", file=sys.stderr)
  path = store.convert(args.name, args.files, log=say)
  size = os.path.getsize(path)
  store.load(args.name)
  print(f"{args.name}: {size / 2**20:.1f} MiB -> {path}")
  return 0
