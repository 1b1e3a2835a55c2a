"""What each metric sees: real clips, damaged step by step.

  python benchmarks/ladders.py [--data FOLDER] [--set sky] [--fit STEPS]
      [--metrics NAMES]

A set of clips (16 frames of 64 pixels) is cut into two halves of 24, of
different films. The one is the reference; the other is compared with it as it
is ("real") and after each step of each ladder of damage. Every evaluator that
needs no weights runs as `vidgan evaluate` runs it; paired metrics hold the
damaged half against itself.

Prints a table a set. `+`: the metric is worse at the first step than of real
clips, and worse at each step than at the one before; `.` else. `~` behind a
value: the intervals do not tell it apart from that of real clips. "lowest":
real clips have the best figure of the row. "Worse" is larger, smaller, or
farther from the reference's own value, as the metric has it: column "worse".

FOLDER has `sky_timelapse_mdgan/real_video.mp4`, `weizmann_mocogan/0..4` or
`asl_gestures` of docs/results.md; $VIDGAN_REAL_DATA if it is not given.
`--set sprites` needs none. `--fit`: learn the features of `fd_self` on the
reference first (500 steps: some minutes). Without it a set takes 150 seconds of
the processor. `fvd` is there where the weights of I3D are (docs/metrics.md: ten
minutes more), `lpips_alex` and `tlp` where those of LPIPS are. `--metrics
frd_random,tlp`: these alone, evaluators and paired metrics. `two_sample` runs
only if it is named.

`--set signs192` has eight clips of each half at 192 pixels, for the paired
metrics that need it: `--metrics ms_ssim,vmaf,xpsnr_y`.
"""

import argparse
import io
import os
import pathlib
import sys
import tempfile

import av
import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import footage  # noqa: E402

from vidgan_jax import evals  # noqa: E402
from vidgan_jax.data import sprites as world  # noqa: E402
from vidgan_jax.evals import fd_self  # noqa: E402
from vidgan_jax.evals import frd_random  # noqa: E402
from vidgan_jax.evals import fvd  # noqa: E402
from vidgan_jax.evals import memory  # noqa: E402
from vidgan_jax.evals import motion  # noqa: E402
from vidgan_jax.evals import paired as pairs  # noqa: E402
from vidgan_jax.evals import swd  # noqa: E402
from vidgan_jax.evals import two_sample  # noqa: E402
from vidgan_jax.nets import store as weights  # noqa: E402

SIZE, FRAMES, HALF = 64, 16, 24


# ----------------------------------------------------------------------- sets


def sky(folder):
  """48 time lapses of the sky, tiles of one film; two are of one scene."""
  path = pathlib.Path(folder, "sky_timelapse_mdgan", "real_video.mp4")
  film = np.stack(list(_film(path))[:FRAMES])
  places = [(2 + 130 * r, 2 + 130 * c) for r in range(6) for c in range(8)]
  tiles = np.stack([film[:, y : y + 128, x : x + 128] for y, x in places])
  tiles = tiles.reshape(*tiles.shape[:2], SIZE, 2, SIZE, 2, 3).mean((3, 5))
  clips = tiles.round().astype(np.uint8)
  return clips[::2], clips[1::2]


def weizmann(folder):
  """Four actions of nine people, every second frame."""
  films = []
  for path in sorted(pathlib.Path(folder, "weizmann_mocogan").glob("?/*")):
    strip = np.asarray(Image.open(path).convert("RGB"))
    films.append(strip.reshape(64, -1, 64, 3).transpose(1, 0, 2, 3)[::2])
  return _windows(films[::2]), _windows(films[1::2])


def signs(folder, size=SIZE):
  """Twenty signs of sign language, several people in one room."""
  films = []
  for path in sorted(pathlib.Path(folder, "asl_gestures").glob("*.mkv")):
    images = [Image.fromarray(image[:, 80:560]) for image in _film(path)]
    small = [
      image.resize((size, size), Image.Resampling.BOX) for image in images
    ]
    films.append(np.stack([np.asarray(image) for image in small]))
  return _windows(films[::2]), _windows(films[1::2])


def signs192(folder):
  """Eight of these, large enough for every paired metric."""
  real, half = signs(folder, 192)
  return real[:8], half[:8]


def sprites(folder=None):
  """The procedural world; needs no folder."""
  del folder
  source = world.make(
    "test", resolution=SIZE, frames=FRAMES, fps=12, size=2 * HALF
  )
  clips = np.stack([e["video"] for e in source.read(range(2 * HALF))])
  return clips[::2], clips[1::2]


SETS = {f.__name__: f for f in (sky, weizmann, signs, signs192, sprites)}


def _film(path):
  with av.open(str(path)) as film:
    for frame in film.decode(video=0):
      yield frame.to_ndarray(format="rgb24")


def _windows(films):
  """HALF windows: the first one of each film, then the second ones."""
  starts = sorted(
    (start, i)
    for i, film in enumerate(films)
    for start in range(0, len(film) - FRAMES + 1, FRAMES)
  )
  return np.stack([films[i][s : s + FRAMES] for s, i in starts[:HALF]])


# -------------------------------------------------------------------- damages
# Clips (N, T, H, W, 3) uint8 and a strength -> clips alike.


def h264(clips, crf):
  """Each clip through x264 and back."""
  return np.stack([_coded(clip, crf) for clip in clips])


def _coded(clip, crf):
  file = io.BytesIO()
  with av.open(file, "w", format="mp4") as out:
    stream = out.add_stream("libx264", rate=25, options={"crf": str(crf)})
    stream.height, stream.width = clip.shape[1:3]
    stream.pix_fmt = "yuv420p"
    for image in clip:
      frame = av.VideoFrame.from_ndarray(image, format="rgb24")
      yuv = frame.reformat(
        format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
      )
      out.mux(stream.encode(yuv))
    out.mux(stream.encode())
  file.seek(0)
  with av.open(file) as film:
    return np.stack(
      [
        frame.reformat(
          format="rgb24", src_colorspace="ITU709", src_color_range="MPEG"
        ).to_ndarray()
        for frame in film.decode(video=0)
      ]
    )


def modes(clips, dropped):
  """The scenes least like the first are left out, the others repeated."""
  look = clips.mean(1).reshape(len(clips), -1)
  order = np.argsort(np.square(look - look[0]).sum(1), kind="stable")
  return clips[np.resize(order[: len(clips) - dropped], len(clips))]


def still(clips, frames):
  """The last so many frames repeat the one before them."""
  last = clips.shape[1] - 1 - frames
  return clips[:, np.minimum(np.arange(clips.shape[1]), last)]


def shuffled(clips, frames):
  """So many frames of each clip change places."""
  rng, out = np.random.default_rng(0), clips.copy()
  for clip, new in zip(clips, out):
    places = rng.permutation(len(clip))[:frames]
    new[places] = clip[np.roll(places, 1)]
  return out


def repeated(clips, times):
  """Every so many frames one stands for all."""
  return clips[:, np.arange(clips.shape[1]) // times * times]


def backwards(clips, share):
  """A share of the clips runs backwards."""
  out, num = clips.copy(), round(share * len(clips))
  out[:num] = out[:num, ::-1]
  return out


LADDERS = {
  footage.noise: (5, 10, 20, 40),
  footage.blur: (0.5, 1, 2),
  h264: (28, 36, 44),
  modes: (12, 18, 22),
  still: (5, 10, 15),
  shuffled: (4, 8, 16),
  repeated: (2, 4, 8),
  backwards: (0.5, 1),
}


# -------------------------------------------------------------------- metrics

# What is worse: "more", "less", or "far" from the value of the reference.
WORSE = {
  "frd_random": "more",
  "krd_random": "more",
  "precision_random": "less",
  "recall_random": "less",
  "density_random": "less",
  "coverage_random": "less",
  "fd_self": "more",
  "kd_self": "more",
  "fvd24_16f": "more",
  "kvd24_16f": "more",
  "precision_i3d24_16f": "less",
  "recall_i3d24_16f": "less",
  "density_i3d24_16f": "less",
  "coverage_i3d24_16f": "less",
  "swd": "more",
  "two_sample/frame_auc": "more",
  "two_sample/frame_loss": "less",
  "two_sample/motion_auc": "more",
  "two_sample/motion_loss": "less",
  "motion/still_share": "more",
  "motion/speed_distance": "more",
  "motion/spectrum_distance": "more",
  "motion/arrow_distance": "more",
  "motion/warping_error": "far",
  "motion/order": "far",
  "memory/diversity": "far",
  "paired/psnr_rgb": "less",
  "paired/ssim": "less",
  "paired/ms_ssim": "less",
  "paired/vmaf": "less",
  "paired/xpsnr_y": "less",
  "paired/lpips_alex": "more",
  "paired/tlp": "more",
  "paired/tof": "more",
  "paired/warping_error": "far",
}


def paired(name, fake, real):
  """The mean over the clips of a paired metric, 25 frames a second."""
  measure = pairs.METRICS[name.removeprefix("paired/")].measure
  return float(np.mean([measure(a, b, 25.0) for a, b in zip(fake, real)]))


def evaluators(num, features=None, names=None):
  """Those that can be computed, with features of `fd_self` from a file."""
  found = {
    "frd_random": frd_random.Evaluator(num=num),
    "swd": swd.Evaluator(num=num),
    "motion": motion.Evaluator(num=num),
    "memory": memory.Evaluator(num=num),
  }
  if names and "two_sample" in names:  # It learns anew on each rung.
    found["two_sample"] = two_sample.Evaluator(num=num)
  if features:
    found["fd_self"] = fd_self.Evaluator(num=num, features=str(features))
  if weights.where("i3d").is_file():
    found["fvd"] = fvd.Evaluator(num=num)
  return [found[name] for name in found if not names or name in names]


def paired_names(side, names=None):
  """Those that clips of this side can have, or the chosen ones."""
  found = ["psnr_rgb", "ssim", "tof", "warping_error"]
  if side >= 192:
    found += ["ms_ssim", "vmaf", "xpsnr_y"]
  if weights.where("lpips_alex").is_file():
    found += ["lpips_alex", "tlp"]
  return [f"paired/{name}" for name in found if not names or name in names]


def distances(judges, fake, real):
  """Values of evaluators: name -> number; `NAME_real` is the reference's."""
  return numbers(figures(judges, fake, real))


def numbers(values):
  return {name: float(value) for name, value in values.items()}


def figures(judges, fake, real):
  """The same with their intervals: name -> `Value`."""
  values = {}
  sets = [evals.Reference(clips=footage.Clips(video)) for video in (fake, real)]
  for judge in judges:
    for name, value in judge.run(*sets):
      if isinstance(value, evals.Value):
        values[name] = value
  return values


def losses(name, values):
  """The values so turned that more is worse.

  Args:
    name: of the metric.
    values: what `distances` or `paired` gave, by name, one a rung.
  """
  way, row = WORSE[name], np.array([value[name] for value in values])
  if way == "far":  # Paired: from the undamaged clips, the first.
    aim = values[0].get(f"{name}_real", row[0])
    return abs(row - aim)
  return -row if way == "less" else row


def follows(worse):
  """Whether each is above the one before."""
  return bool((np.diff(worse) > 0).all())


# ---------------------------------------------------------------------- table


def table(real, half, judges, names):
  """Yields the lines of a table in Markdown.

  Args:
    real: clips of the reference.
    half: clips that are damaged.
    judges: evaluators.
    names: of paired metrics.
  """
  pair = lambda clips: {
    name: evals.Value(paired(name, clips, half)) for name in names
  }
  undamaged = figures(judges, half, real) | pair(half)
  first = numbers(undamaged)
  rungs = {}
  for damage, steps in LADDERS.items():
    rungs[damage.__name__] = [undamaged]
    for step in steps:
      clips = damage(half, step)
      found = figures(judges, clips, real)
      if damage is not modes:  # Other scenes have no pairs.
        found |= pair(clips)
      rungs[damage.__name__].append(found)
  titles = [f"{f.__name__} {' '.join(map(str, s))}" for f, s in LADDERS.items()]
  yield f"| | worse | real | {' | '.join(titles)} | lowest |"
  yield "|---" * (len(titles) + 4) + "|"
  for name, way in WORSE.items():
    if name not in first:
      continue
    cells, best = [], True
    for values in rungs.values():
      if name not in values[1]:
        cells.append("")
        continue
      found = [numbers(value) for value in values]
      # Rounding apart: time backwards leaves some values as they are.
      worse = np.array([float(f"{v:.4g}") for v in losses(name, found)])
      best &= bool((worse[1:] >= worse[0]).all())
      sign = "+" if follows(worse) else "."
      text = " ".join(
        f"{float(value[name]):.3g}"
        + "~" * (not evals.told_apart(value[name], undamaged[name]))
        for value in values[1:]
      )
      cells.append(f"{text} {sign}")
    aim = first.get(f"{name}_real")
    way += f" {aim:.3g}" if way == "far" and aim is not None else ""
    yield (
      f"| `{name}` | {way} | {first[name]:.3g} | {' | '.join(cells)} | "
      f"{'yes' if best else 'no'} |"
    )


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--data", default=os.environ.get("VIDGAN_REAL_DATA"))
  parser.add_argument("--set", choices=SETS, default="sky")
  parser.add_argument("--fit", type=int, default=0, metavar="STEPS")
  parser.add_argument("--metrics", help="names, comma separated")
  args = parser.parse_args()
  if args.set != "sprites" and not args.data:
    parser.error("--data FOLDER (or $VIDGAN_REAL_DATA) has the real clips.")
  real, half = SETS[args.set](args.data)
  with tempfile.TemporaryDirectory() as folder:
    features = None
    if args.fit:
      features = pathlib.Path(folder, "features.safetensors")
      fd_self.fit_features(features, footage.Clips(real), steps=args.fit)
    shape = real.shape[1:]
    print(f"{args.set}: {len(half)} clips against {len(real)}, {shape}")
    names = args.metrics.split(",") if args.metrics else None
    judges = evaluators(len(half), features, names)
    chosen = paired_names(shape[1], names)
    if unknown := set(names or ()) - {
      *(judge.__module__.split(".")[-1] for judge in judges),
      *(name.removeprefix("paired/") for name in chosen),
    }:
      parser.error(
        f"--metrics: {', '.join(sorted(unknown))} is no metric here, or its "
        "weights are missing, or the clips are too small for it."
      )
    for line in table(real, half, judges, chosen):
      print(line, flush=True)


if __name__ == "__main__":
  main()
