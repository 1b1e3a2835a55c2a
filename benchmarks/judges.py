"""What the judges that need no weights say of the checkpoints of a run.

  python benchmarks/judges.py WORKDIR [--steps 150,450,1500] [--num 256]

Prints a row a checkpoint: `frd_random`, the figures of `two_sample`,
`motion/still_share` and `memory/identity_drift`, and last those of standing
clips (the first frames of the last checkpoint's clips) and of training clips in
place of generated ones. Look at the samples before you believe a column.
"""

import argparse
import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import footage  # noqa: E402

from vidgan_jax import evals  # noqa: E402
from vidgan_jax import sampler  # noqa: E402
from vidgan_jax.evals import distribution  # noqa: E402
from vidgan_jax.evals import frd_random  # noqa: E402
from vidgan_jax.evals import harness  # noqa: E402
from vidgan_jax.evals import memory  # noqa: E402
from vidgan_jax.evals import motion  # noqa: E402
from vidgan_jax.evals import two_sample  # noqa: E402
from vidgan_jax.store import workdir as workdir_lib  # noqa: E402

NAMES = (
  *("frd_random", "two_sample/frame_auc", "two_sample/frame_loss"),
  *("two_sample/motion_auc", "two_sample/motion_loss"),
  *("motion/still_share", "memory/identity_drift"),
)


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("workdir")
  parser.add_argument("--steps", help="comma separated; default: all")
  parser.add_argument("--num", type=int, default=256)
  args = parser.parse_args()
  judges = {
    judge.__module__.split(".")[-1]: judge
    for judge in (
      frd_random.Evaluator(num=args.num),
      two_sample.Evaluator(num=args.num),
      motion.Evaluator(num=args.num),
      memory.Evaluator(num=args.num, train=1024),
    )
  }
  config = workdir_lib.read_config(args.workdir)
  reference = harness.reference(config, args.workdir, judges, train=True)
  print("| | " + " | ".join(f"`{name}`" for name in NAMES) + " |")
  print("|---" * (len(NAMES) + 1) + "|")

  def row(title, clips):
    values = harness.run(judges, clips, reference, log=lambda line: None)
    cells = [f"{float(values[name]):.3g}" for name in NAMES]
    print(f"| {title} | " + " | ".join(cells) + " |", flush=True)
    return values

  steps = args.steps and [*map(int, args.steps.split(","))]
  for step in steps or workdir_lib.steps(args.workdir):
    model = sampler.load(args.workdir, step=step)
    values = row(f"step {step}", model)
  clips = np.concatenate(
    [*distribution.generated_clips(model, 1, args.num, 32)]
  )
  still = np.repeat(clips[:, :1], clips.shape[1], 1)
  row("standing clips", evals.Reference(clips=footage.Clips(still)))
  train = reference.train
  num = min(args.num, len(train))
  chosen = np.linspace(0, len(train) - 1, num).astype(int)
  copies = np.stack([x["video"] for x in train.read(chosen)])
  row("training clips", evals.Reference(clips=footage.Clips(copies)))
  for name in NAMES:
    note = values[name].note
    print(f"{name}: {note}" if note else name)


if __name__ == "__main__":
  main()
