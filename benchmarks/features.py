"""Speed of I3D on a CPU, beside PyTorch in the same run.

  python benchmarks/features.py [--batch 2] [--threads 2] [--rounds 5]

Both run the whole network in float32 with the same random weights on the same
clips of 16 frames of 224 pixels, on the same cores, in turns. Prints seconds a
clip (the best round: other programs only slow it down) as wall and as CPU time,
the ratios, and how far the logits are apart. Needs torch; takes two minutes.
"""

import argparse
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def measure(function):
  wall, cpu = time.perf_counter(), time.process_time()
  result = function()
  return time.perf_counter() - wall, time.process_time() - cpu, result


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--batch", type=int, default=2)
  parser.add_argument("--threads", type=int, default=2)
  parser.add_argument("--rounds", type=int, default=5)
  args = parser.parse_args()
  # XLA takes as many threads as it may have cores.
  cores = sorted(os.sched_getaffinity(0))[: args.threads]
  os.sched_setaffinity(0, cores)
  os.environ["JAX_PLATFORMS"] = "cpu"

  import jax
  import numpy as np
  import torch
  import torch_i3d

  from vidgan_jax.evals.nets import i3d

  torch.set_num_threads(len(cores))
  model = torch_i3d.randomise(torch_i3d.I3D(), 0)
  network = i3d.Network()
  params = i3d.convert({k: v.numpy() for k, v in model.state_dict().items()})
  params = jax.device_put(params)
  shape = (args.batch, 16, i3d.SIZE, i3d.SIZE, 3)
  video = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
  apply = jax.jit(lambda p, x: network.apply({"params": p}, x)["logits"])
  *compile_time, apply = measure(lambda: apply.lower(params, video).compile())
  clips = torch.from_numpy(video.transpose(0, 4, 1, 2, 3).copy())
  runs = {
    "JAX": lambda: np.asarray(apply(params, video)),
    "PyTorch": lambda: model(clips).numpy(),
  }
  times, logits = {name: [] for name in runs}, {}
  with torch.inference_mode():
    for _ in range(args.rounds + 1):  # The first one warms up.
      for name, run in runs.items():
        *spent, logits[name] = measure(run)
        times[name].append(spent)
  best = {name: np.min(t[1:], 0) / args.batch for name, t in times.items()}
  print(
    f"I3D, batch {args.batch}, {len(cores)} threads, best of {args.rounds}; "
    f"load of the machine {os.getloadavg()[0]:.1f}; "
    f"compiled in {compile_time[0]:.0f} s"
  )
  print("| | s a clip | CPU s a clip |\n|---|---|---|")
  for name, (wall, cpu) in best.items():
    print(f"| {name} | {wall:.2f} | {cpu:.2f} |")
  wall, cpu = best["JAX"] / best["PyTorch"]
  print(f"| JAX / PyTorch | {wall:.2f} | {cpu:.2f} |")
  far = np.abs(logits["JAX"] - logits["PyTorch"]).max()
  print(f"Logits differ by {far / np.abs(logits['PyTorch']).max():.1e}.")


if __name__ == "__main__":
  main()
