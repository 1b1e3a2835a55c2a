"""What can be told of texts and sounds in the world of the sprites.

  python benchmarks/conditions.py [RUN] [--experts RUN RUN]

1. Onsets: precision, recall and F1 of the onsets of 256 clips' sounds against
   the bounces, within 30 ms; bounces nearer than 60 ms count as one.
2. Floors and ceilings of the evaluators `agreement` and `sync` on the worlds of
   configs/text.py and configs/sound.py: real clips judged by the text or sound
   of another clip, and by their own.
3. Clips that react: RUN, a trained one such as the quickstart's, draws to a
   beat. The correlation of its motion with the envelope of the sound, at lags
   of -2 to 2 frames, beside that of the same clips without --react.
4. Experts: RUNs of configs/align.py. One of texts finds the right text of 64
   and reads words of held-out clips (the evaluator `retrieval`). One of sounds
   finds by how many frames the sound of a clip was moved, of 17 shifts (8 to
   either side), in clips of at least two bounces.

Two minutes on two cores.
"""

import argparse
import dataclasses
import pathlib
import subprocess
import sys
import tempfile
import wave

import av
import numpy as np
from scipy import optimize

from vidgan_jax import config as config_lib
from vidgan_jax import evals
from vidgan_jax import experts
from vidgan_jax.data import reference as reference_lib
from vidgan_jax.data import sound
from vidgan_jax.data import sprites
from vidgan_jax.data import text
from vidgan_jax.evals import agreement
from vidgan_jax.evals import retrieval
from vidgan_jax.evals import sync
from vidgan_jax.measures import intervals

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
BEATS = (0.5, 1.2, 2.0, 2.4, 3.6, 4.9, 5.3, 6.0, 7.1)  # seconds
FPS = 24


def main() -> None:
  """Prints the tables."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  add = parser.add_argument
  add("run", nargs="?", help="workdir of a run of the flagship; else no 3")
  add("--experts", nargs="+", default=(), help="of these alone: table 4")
  args = parser.parse_args()
  for path in args.experts:
    judge(path)
  if args.experts:
    return
  onsets()
  for name, module in (("text", agreement), ("sound", sync)):
    bounds(name, module.Evaluator())
  if args.run:
    with tempfile.TemporaryDirectory() as folder:
      react(args.run, pathlib.Path(folder))


def onsets() -> None:
  """Table 1."""
  source = sprites.make(
    "test", resolution=24, frames=16, objects=(1, 2), radius=(0.13, 0.26)
  )
  hits = bounces = heard = 0
  for scene in map(source.scene, range(256)):
    true = sprites.bounces(scene, 2.0)[:, 0]
    true = true[(np.diff(true, prepend=-1) > 0.06) & (true < 1.95)]
    found = sound.onsets(sprites.audio(source.options, scene))
    found = found[found < 1.97]
    gap = np.abs(found[:, None] - true)
    pairs = optimize.linear_sum_assignment(np.minimum(gap, 1))
    hits += (gap[pairs] <= 0.03).sum()
    bounces, heard = bounces + len(true), heard + len(found)
  print(
    f"onsets: precision {hits / heard:.3f}, recall {hits / bounces:.3f}, "
    f"F1 {2 * hits / (heard + bounces):.3f} of {bounces} bounces"
  )


@dataclasses.dataclass(kw_only=True)
class Real:
  """Real clips in place of a model's: of the held-out clips, in their order."""

  world: dict
  text: str = "asked"
  times: tuple = tuple(np.arange(8) / 8)

  def ask(self, num, seed, text=None, sound=None):
    """The numbers of the clips."""
    del seed, text, sound
    return {"index": np.arange(num)}

  def clips(self, given, seed):
    """The clips of these numbers."""
    del seed
    source = sprites.make("test", size=len(given["index"]), **self.world)
    steps = len(self.times)
    return np.stack([e["video"][:steps] for e in source.read(given["index"])])


def bounds(name, evaluator) -> None:
  """Table 2, of one config."""
  config = config_lib.load(f"{CONFIGS}/{name}.py")
  world = {k: v for k, v in config.data.options.items() if k != "size"}
  model = Real(world=world, times=tuple(np.arange(world["frames"]) / 8))
  reference = evals.Reference(clips=(), world=world)
  for key, value in evaluator.run(model, reference):
    # What the real clips say as if a model had drawn them is no bound of it.
    if not key.endswith(("_floor", "_ceiling", "_shuffled", "_real")):
      continue
    print(f"{key:32} {value.value:.3f} [{value.low:.3f}, {value.high:.3f}]")


def judge(path: str) -> None:
  """Table 4, of one expert."""
  expert = experts.load(path)
  kind = "text" if expert.reads("match") else "sound"
  config = config_lib.load(f"{CONFIGS}/align.py:of={kind}")
  if kind == "sound":
    shifts(expert, dict(config.data.options))
    return
  world = {k: v for k, v in config.data.options.items() if k != "size"}
  source = text.Source(
    sprites.make("test", size=2048, **world), expert.network.text
  )
  clips = reference_lib.Clips(
    source, config.data.eval_ops, task=expert.network.task
  )
  reference = evals.Reference(clips=clips, world=clips.world)
  values = retrieval.Evaluator(num=512).run(expert.network, reference)
  for key, value in values:
    print(f"{key:32} {value.value:.3f} [{value.low}, {value.high}]")


def shifts(expert: experts.Expert, options: dict, num: int = 256) -> None:
  """Prints S1: the share of clips whose shift is found, of 17."""
  length, reach = options["frames"], 8
  options |= {"frames": length + 2 * reach, "size": 4 * num}
  source = sprites.make("test", **options)
  start, end = reach / options["fps"], (reach + length) / options["fps"]
  seen = []
  for i in range(len(source)):
    when = sprites.bounces(source.scene(i), end)[:, 0]
    if (when > start).sum() >= 2 and len(seen) < num:
      seen.append(i)
  rows = source.read(seen)
  video, heard, times = (
    np.stack([row[k] for row in rows]) for k in ("video", "sound", "times")
  )
  # What is heard all along, and the pictures of the middle, seen by themselves.
  pairs = expert.pairs(video, {"sound": heard}, times)["sync"][..., 1, :]
  middle = slice(reach, reach + length)
  given = {"sound": heard[:, middle]}
  frames = expert.pairs(video[:, middle], given, times[:, :length])["sync"]
  gaps = [
    np.linalg.norm(
      frames[..., 0, :] - pairs[:, reach + k : reach + k + length], axis=-1
    ).mean(1)
    for k in range(-reach, reach + 1)
  ]
  right = int((np.argmin(gaps, 0) == reach).sum())
  low, high = intervals.wilson(right, len(seen))
  print(
    f"shift of {len(gaps)} found in {right / len(seen):.3f} [{low:.3f}, "
    f"{high:.3f}] of {len(seen)} clips; floor {1 / len(gaps):.3f}"
  )


def react(run: str, folder: pathlib.Path) -> None:
  """Table 3."""
  rate = 44100
  t = np.arange(8 * rate) / rate
  noise = np.random.default_rng(0).standard_normal(len(t))
  beat = sum(
    np.exp(-(t - s).clip(0) / 0.12)
    * (np.sin(565 * (t - s)) + 0.5 * noise)
    * (t >= s)
    for s in BEATS
  )
  samples = (beat * 0.6).clip(-1, 1)
  path = folder / "beat.wav"
  with wave.open(str(path), "wb") as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(rate)
    file.writeframes((samples * 32000).astype("<i2").tobytes())
  step = round(rate / sound.RATE * 1000)
  heard = np.interp(np.arange(8 * sound.RATE) * step / 1000, t * rate, samples)
  envelope = sound.envelope(
    heard.astype(np.float32), np.arange(8 * FPS) / FPS, 1 / FPS, "onset"
  )
  envelope = (envelope[1:] + envelope[:-1]) / 2  # from frame to frame
  for how in (["--react", "speed=onset:6"], ["--frames", str(8 * FPS)]):
    out = folder / "clips.mp4"
    given = ["--sound", str(path)] if "--react" in how else []
    command = ["generate", run, "--out", str(out), "--overwrite", *given, *how]
    command += ["--speed", "0.3", "--fps", str(FPS), "--num", "16"]
    subprocess.run([sys.executable, "-m", "vidgan_jax", *command], check=True)
    with av.open(str(out)) as container:
      frames = [
        f.to_ndarray(format="rgb24").astype(np.float32)
        for f in container.decode(video=0)
      ]
    motion = np.array(
      [np.abs(b - a).mean() for a, b in zip(frames, frames[1:])]
    )
    inner = slice(5, -5)
    lags = [
      np.corrcoef(motion[inner], np.roll(envelope, lag)[inner])[0, 1]
      for lag in range(-2, 3)
    ]
    print(" ".join(how), "lags -2 to 2:", " ".join(f"{x:.2f}" for x in lags))


if __name__ == "__main__":
  main()
