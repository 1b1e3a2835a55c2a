"""How far `configs/weizmann_64.py` came: distances to people held out.

  python benchmarks/weizmann.py WORKDIR [PICTURE.png]

Prints `frd_random` against windows of 16 frames of the held-out people for the
generator, for the training set itself (a generator that copies) and for two
kinds of noise, and against the training set for the generator. Writes a
picture: a film strip a class of training clips, then of generated ones.
"""

import sys

import numpy as np

from vidgan_jax import sampler
from vidgan_jax.data import pipeline
from vidgan_jax.data import reference
from vidgan_jax.evals import distribution
from vidgan_jax.evals import frd_random
from vidgan_jax.measures import frechet
from vidgan_jax.store import workdir as workdir_lib
from vidgan_jax.video import write

NUM = 256
OPS = "clip(16)"


def windows(source, num):
  """Random windows, the same number from every clip: (num, 16, H, W, 3)."""
  video, label, seed = [], [], 0
  while len(video) < num:
    for example in reference.Clips(source, OPS, seed=seed).read(
      range(len(source))
    ):
      video.append(example["video"])
      label.append(int(example["label"]))
    seed += 1
  return np.stack(video[:num]), np.array(label[:num])


def main():
  workdir = sys.argv[1]
  config = workdir_lib.read_config(workdir)
  train, labels = windows(pipeline.make_source(config.data, "train"), NUM)
  held_out, _ = windows(pipeline.make_source(config.data, "test"), NUM)
  model = sampler.load(workdir)
  made = model.clips(model.ask(NUM) | {"label": labels}, 0)
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, train.shape).astype(np.uint8)
  grey = np.clip(
    train.mean((0, 1)) + 25 * rng.standard_normal(train.shape), 0, 255
  ).astype(np.uint8)

  network = frd_random.network()
  moments = lambda video: distribution.sample([video], network, NUM).moments
  real, seen = moments(held_out), moments(train)
  print(f"frd_random, {NUM} windows of 16 frames, step {model.step}")
  for name, video, other in (
    ("generated, to held-out people", made, real),
    ("training set (a copy), to held-out people", train, real),
    ("mean training frame + noise, to held-out", grey, real),
    ("white noise, to held-out people", noise, real),
    ("generated, to the training set", made, seen),
  ):
    print(f"  {name:45}{frechet.distance(moments(video), other):12.4f}")

  if len(sys.argv) > 2:
    rows = []
    for c in range(config.model.num_classes):
      rows.append(write.strip(train[labels == c][0][::2]))
      for clip in model.clips(model.ask(2, label=c), 1):
        rows.append(write.strip(clip[::2]))
    write.write(sys.argv[2], np.concatenate(rows)[None])


if __name__ == "__main__":
  main()
