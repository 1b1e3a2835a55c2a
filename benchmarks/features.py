"""Speed of I3D, and of the statistics of its features.

  python benchmarks/features.py [--batch 2] [--threads 2] [--rounds 5]

The whole network runs in float32 with random weights on clips of 16 frames of
224 pixels, on the device that JAX has. Prints seconds a clip (the best round:
other programs only slow it down), the share of the FLOP rate of a large matmul
of the same type on the same device, and how long the statistics of 2,048
generated and as many real clips take beside that.
On a CPU PyTorch runs the same in turns, on the same cores: wall and CPU time,
the ratios, and how far the logits are apart. Needs torch; takes two minutes.
"""

import argparse
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
CLIPS, FEATURES = 2048, 400


def measure(function):
  wall, cpu = time.perf_counter(), time.process_time()
  result = function()
  return time.perf_counter() - wall, time.process_time() - cpu, result


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--batch", type=int, help="2; not on a CPU 32")
  parser.add_argument("--threads", type=int, default=2)
  parser.add_argument("--rounds", type=int, default=5)
  args = parser.parse_args()
  # XLA takes as many threads as it may have cores.
  cores = sorted(os.sched_getaffinity(0))[: args.threads]
  os.sched_setaffinity(0, cores)

  import jax
  import jax.numpy as jnp
  import numpy as np

  from vidgan_jax.nets import i3d

  device = jax.devices()[0]
  on_cpu = device.platform == "cpu"
  batch = args.batch or (2 if on_cpu else 32)
  network = i3d.Network()
  shape = (batch, 16, i3d.SIZE, i3d.SIZE, 3)
  video = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
  video_there, model = jax.device_put(video), None
  if on_cpu:
    import torch
    import torch_i3d

    torch.set_num_threads(len(cores))
    model = torch_i3d.randomise(torch_i3d.I3D(), 0)
    params = i3d.convert({k: v.numpy() for k, v in model.state_dict().items()})
    params = jax.device_put(params)
  else:
    params = jax.jit(network.init)(jax.random.key(0), video_there)["params"]
  lowered = jax.jit(lambda p, x: network.apply({"params": p}, x)["logits"])
  lowered = lowered.lower(params, video_there)
  *compile_time, apply = measure(lowered.compile)
  runs = {"JAX": lambda: np.asarray(apply(params, video_there))}
  if on_cpu:
    clips = torch.from_numpy(video.transpose(0, 4, 1, 2, 3).copy())

    def run_torch():
      with torch.inference_mode():
        return model(clips).numpy()

    runs["PyTorch"] = run_torch
  times, logits = {name: [] for name in runs}, {}
  for _ in range(args.rounds + 1):  # The first one warms up.
    for name, run in runs.items():
      *spent, logits[name] = measure(run)
      times[name].append(spent)
  best = {name: np.min(t[1:], 0) / batch for name, t in times.items()}
  print(
    f"I3D, {device.device_kind}, batch {batch}, {len(cores)} threads, best of "
    f"{args.rounds}; load of the machine {os.getloadavg()[0]:.1f}; compiled in "
    f"{compile_time[0]:.0f} s"
  )
  print("| | s a clip | CPU s a clip |\n|---|---|---|")
  for name, (wall, cpu) in best.items():
    print(f"| {name} | {wall:.4g} | {cpu:.4g} |")
  if on_cpu:
    wall, cpu = best["JAX"] / best["PyTorch"]
    print(f"| JAX / PyTorch | {wall:.2f} | {cpu:.2f} |")
    far = np.abs(logits["JAX"] - logits["PyTorch"]).max()
    print(f"Logits differ by {far / np.abs(logits['PyTorch']).max():.1e}.")

  # The matmul has the precision that the network's convolutions ask for.
  size = 2048 if on_cpu else 8192
  square = jnp.ones((size, size), jnp.float32)
  product = jax.jit(lambda x: jnp.dot(x, x, precision="highest"))
  product(square).block_until_ready()
  multiply = lambda: product(square).block_until_ready()
  seconds = min(measure(multiply)[0] for _ in range(args.rounds))
  most = 2 * size**3 / seconds
  flops = lowered.cost_analysis()["flops"] / batch
  rate = flops / best["JAX"][0]
  print(
    f"{flops / 1e9:.1f} GFLOP a clip (as XLA counts them): {rate / 1e12:.3g} "
    f"TFLOP/s, {rate / most:.0%} of a float32 matmul's {most / 1e12:.3g} "
    f"({size} x {size})."
  )
  statistics(2 * CLIPS * best["JAX"])


def statistics(features):
  """Times all figures of two sets; `features`: seconds of the pass."""
  import numpy as np

  from vidgan_jax.measures import frechet as frechet_lib
  from vidgan_jax.measures import kernels
  from vidgan_jax.measures import neighbours

  rng = np.random.default_rng(0)
  fake, real = rng.normal(0, 1, (2, CLIPS, FEATURES)).astype(np.float32)

  def frechet():
    parts = [frechet_lib.moments([x]) for x in (fake, real)]
    return frechet_lib.estimate(*parts, fake[:, None], real[:, None])

  total = np.zeros(2)
  print(f"Statistics of {CLIPS} and {CLIPS} clips, with their intervals:")
  print("| | s | CPU s |\n|---|---|---|")
  for name, run in (
    ("Frechet", frechet),
    ("kernel", lambda: kernels.mmd(fake, real)),
    ("neighbours", lambda: neighbours.estimate(fake, real)),
  ):
    *spent, _ = measure(run)
    total += spent
    print(f"| {name} | {spent[0]:.2f} | {spent[1]:.2f} |")
  share = total / features
  print(f"| all | {total[0]:.2f} | {total[1]:.2f} |")
  print(f"| features | {features[0]:.0f} | {features[1]:.0f} |")
  print(f"| share | {share[0]:.2%} | {share[1]:.2%} |")


if __name__ == "__main__":
  main()
