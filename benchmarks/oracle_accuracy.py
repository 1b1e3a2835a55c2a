"""How well the oracle reads the world of sprites, by level of corruption.

  python benchmarks/oracle_accuracy.py [--resolution 32] [--num 48]

Prints a table in Markdown: on real clips of the test split the shares with the
right number of objects (and nothing else) and the right class, and the mean
error of places; on clips that show no object the share in which the oracle
still finds one; and clips per second. Takes less than a minute on one core.
"""

import argparse
import pathlib
import sys
import time

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from vidgan_jax.data import sprites  # noqa: E402
from vidgan_jax.evals import objects  # noqa: E402

LEVELS = (  # blur in pixels, noise of 255
  (0, 0),
  (0, 4),
  (0, 8),
  (0, 16),
  (0, 24),
  (0.5, 0),
  (0.5, 8),
  (0.7, 0),
  (0.8, 0),
  (1, 0),
  (1.5, 0),
  (2, 0),
)


def corrupt(clips, blur, noise, rng):
  clips = ndimage.gaussian_filter(clips.astype(float), (0, 0, blur, blur, 0))
  clips = clips + rng.normal(0, noise, clips.shape)
  return clips.round().clip(0, 255).astype(np.uint8)


def empty(size, num, rng):
  """Names and clips (num, 8, size, size, 3) without objects."""
  shape = (num, 8, size, size, 3)
  yield "uniform noise", rng.integers(0, 256, shape).astype(np.uint8)
  yield (
    "one colour",
    np.broadcast_to(rng.integers(0, 256, (num, 1, 1, 1, 3)), shape).astype(
      np.uint8
    ),
  )
  smooth = ndimage.gaussian_filter(rng.normal(0, 1, shape), (0, 1, 3, 3, 0))
  smooth = 90 + 60 * smooth / smooth.std()
  yield "smooth noise", smooth.clip(0, 255).astype(np.uint8)
  clips = np.full(shape, 40, np.uint8)
  for frame in clips.reshape(-1, size, size, 3):
    tall, wide = rng.integers(3, size // 2, 2)
    row, column = rng.integers(0, size - tall), rng.integers(0, size - wide)
    frame[row : row + tall, column : column + wide] = rng.integers(100, 256, 3)
  yield "flickering patches", clips
  grid = np.arange(size) + 0.5
  for sigma in (2, 3, 4):
    clips = np.full(shape, 40.0)
    for clip in clips:
      place, way = rng.uniform(size / 3, size / 1.5, 2), rng.uniform(-1, 1, 2)
      colour = rng.permutation([220, 160 * rng.random(), 60])
      for t, frame in enumerate(clip):
        x, y = place + t * way
        far = (grid - x) ** 2 + (grid[:, None] - y) ** 2
        frame += np.exp(-far / (2 * sigma**2))[..., None] * colour
    yield f"blobs, {sigma} px", clips.clip(0, 255).astype(np.uint8)


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--resolution", type=int, default=32)
  parser.add_argument("--num", type=int, default=48, help="clips a row")
  args = parser.parse_args()
  rng = np.random.default_rng(0)
  source = sprites.make(
    "test",
    resolution=args.resolution,
    frames=8,
    size=args.num,
    supervision="truth",
  )
  examples = source.read(range(args.num))
  real = np.stack([e["video"] for e in examples])
  print(
    f"{args.num} clips of 8 frames a row, {args.resolution} px, objects "
    f"{source.world['objects']}, shapes {source.world['shapes']}\n"
  )
  print(
    "| real clips | number right | class right | place error, px | law "
    "error, px | edge, px | clips/s |\n|---|---|---|---|---|---|---|"
  )
  for blur, noise in LEVELS:
    clips = corrupt(real, blur, noise, rng)
    start = time.perf_counter()
    found = objects.inspect(clips, source.world)
    rate = args.num / (time.perf_counter() - start)
    right, errors = [], []
    for f, e in zip(found, examples):
      right.append(f.count == e["count"] and f.explained >= objects.EXPLAINED)
      if right[-1]:
        true = e["positions"][:, None, : f.count]
        gap = np.linalg.norm(f.positions[:, :, None] - true, axis=-1).min(-1)
        errors.extend(gap[np.isfinite(gap)])
    label = np.mean([f.label == e["label"] for f, e in zip(found, examples)])
    laws = [f.law for f in found if f.count]
    edges = [f.edge for f in found if np.isfinite(f.edge)]
    mean = lambda x: f"{np.mean(x):.3f}" if len(x) else "-"
    print(
      f"| blur {blur} px, noise {noise} | {np.mean(right):.3f} | "
      f"{label:.3f} | {mean(errors)} | {mean(laws)} | {mean(edges)} | "
      f"{rate:.0f} |",
      flush=True,
    )
  print("\n| no object | object found | clips/s |\n|---|---|---|")
  for name, clips in empty(args.resolution, args.num, rng):
    start = time.perf_counter()
    found = objects.inspect(clips, source.world)
    rate = args.num / (time.perf_counter() - start)
    print(
      f"| {name} | {np.mean([f.count > 0 for f in found]):.3f} | {rate:.0f} |",
      flush=True,
    )


if __name__ == "__main__":
  main()
