"""Seconds a megapixel and frame of every shipped model, at several sizes.

  python benchmarks/cost_per_pixel.py [NAME ...] [--heights 160 360 1080]
      [--frames 4]

Each model processes frames of noise in memory, as `vidgan process` does, in
the windows that it would choose. Of three passes the first compiles, and the
faster of the others counts. Where a model looks at a mask, it hides every tenth
pixel, here and there. The last figure of a row is the factor between the
dearest and the cheapest size: 1 where a pixel costs the same at all.
"""

import argparse
import fractions
import time

import numpy as np

from vidgan_jax import footage
from vidgan_jax import zoo
from vidgan_jax.video import plan
from vidgan_jax.video import stream


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("names", nargs="*", metavar="NAME")
  parser.add_argument(
    "--heights", type=int, nargs="+", default=[160, 360, 1080]
  )
  parser.add_argument("--frames", type=int, default=4)
  args = parser.parse_args()
  print("seconds a megapixel and frame")
  heads = "".join(f"{f'{height}p':>9}" for height in args.heights)
  print(f"{'':<20}{heads}{'factor':>9}", flush=True)
  for name in args.names or zoo.names():
    task, _, scale = name.partition("_x")
    stage = footage.load(task, {"scale": int(scale)} if scale else {})
    costs = [cost(stage, height, args.frames) for height in args.heights]
    figures = "".join(f"{x:9.2f}" for x in costs)
    factor = max(costs) / min(costs)
    print(f"{name:<20}{figures}{factor:9.2f}", flush=True)


def cost(stage: stream.Stage, height: int, count: int) -> float:
  """Seconds a megapixel and frame that comes in.

  Args:
    stage: what to run.
    height: of the frames, which are 16:9.
    count: of the frames.
  """
  width = height * 16 // 9
  shape = (count, height, width, 3)
  rng = np.random.default_rng(0)
  clip = rng.integers(0, 256, shape, np.uint8)
  mask = rng.random((height, width)) < 0.1
  frames = [
    stream.Frame(
      time=fractions.Fraction(i, 25),
      duration=fractions.Fraction(1, 25),
      image=image,
      mask=mask if stage.masks else None,
    )
    for i, image in enumerate(clip)
  ]
  runner = stream.Runner(stage, memory=plan.window_memory(stage))
  seconds = []
  for _ in range(3):  # The first one compiles.
    began = time.perf_counter()
    for _ in runner(frames):
      pass
    seconds.append(time.perf_counter() - began)
  return min(seconds[1:]) / (count * height * width / 1e6)


if __name__ == "__main__":
  main()
