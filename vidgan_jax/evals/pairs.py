"""Aligned videos in files: every paired metric, one pair at a time.

Files are matched by their names without suffix, frames by their number: a video
of which a frame does not decode is refused. Pixels are compared as they are
stored, square or not. A figure is the mean over the pairs, with its 95 %
bootstrap interval; the figures of each pair are kept.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import os
import pathlib

import numpy as np

from vidgan_jax import config as config_lib
from vidgan_jax import evals
from vidgan_jax.evals import paired
from vidgan_jax.evals import perceptual
from vidgan_jax.evals import restoration
from vidgan_jax.evals import weights
from vidgan_jax.video import clips as clips_lib
from vidgan_jax.video import folder as folder_lib
from vidgan_jax.video import read as read_lib

_FPS = 25.0  # of images, which have no rate of their own
_APART = 1.05  # ratio of frame rates that are no longer one

Measure = Callable[[np.ndarray, np.ndarray, float], float]


def _plain(measure: Callable[..., float], **options) -> Measure:
  return lambda fake, target, fps: measure(fake, target, **options)


def _xpsnr(part: str) -> Measure:
  # Equal clips have an infinite one, which has no mean.
  return lambda fake, target, fps: min(
    paired.xpsnr(fake, target, fps=fps)[part], 100.0
  )


# Each is of two clips (T, H, W, 3) uint8 and the target's frames a second.
METRICS: Mapping[str, Measure] = {
  "psnr_rgb": _plain(paired.psnr_rgb),
  "psnr_y_bt601": _plain(paired.psnr_y, matrix="bt601"),
  "psnr_y_bt709": _plain(paired.psnr_y, matrix="bt709"),
  "ssim": _plain(paired.ssim),
  "ms_ssim": _plain(paired.ms_ssim),
  "lpips_alex": _plain(perceptual.lpips, trunk="alex"),
  "lpips_vgg": _plain(perceptual.lpips, trunk="vgg"),
  "tlp": _plain(perceptual.tlp),
  "tof": _plain(paired.tof),
  "warping_error": _plain(paired.warping_error),
  "vmaf": _plain(paired.vmaf),
  "xpsnr_y": _xpsnr("y"),
  "xpsnr_u": _xpsnr("u"),
  "xpsnr_v": _xpsnr("v"),
}
_NETWORKS = {
  "lpips_alex": "lpips_alex",
  "lpips_vgg": "lpips_vgg",
  "tlp": "lpips_alex",
}


def run(
  out: str | os.PathLike,
  reference: str | os.PathLike,
  metrics: Sequence[str] = (),
) -> tuple[dict[str, evals.Value], dict[str, dict[str, float]]]:
  """Measures videos against their references.

  Args:
    out: a video, or a folder of videos, of images in folders, or film strips.
    reference: likewise, of the same names.
    metrics: some of `METRICS`; all if empty.

  Returns:
    Name -> figure, and pair -> name -> number.

  Raises:
    ValueError: videos without a partner, of other sizes or lengths, or of which
      a frame does not decode; weights that are not what they should be.
  """
  for name in metrics:
    config_lib.check_name(name, METRICS, "--metrics")
  metrics = list(metrics) or list(METRICS)
  pairs = matched(out, reference)
  rows: dict[str, dict[str, float]] = {}
  reasons: dict[str, str] = {}
  networks: dict[str, str] = {}
  for metric in set(metrics) & set(_NETWORKS):
    try:
      networks[metric] = weights.load(_NETWORKS[metric])[1]
    except weights.Missing as error:
      reasons[metric] = str(error)
  rates, others = [], []
  for name, (one, other) in pairs.items():
    (fake, rate), (target, fps) = _read(*one), _read(*other)
    if fake.shape != target.shape:
      raise ValueError(
        f"{name}: {one[1].file} has (T, H, W) = {fake.shape[:3]}, its "
        f"reference {target.shape[:3]}: paired metrics need the same frames "
        "and size."
      )
    if rate and fps and not 1 / _APART < rate / fps < _APART:
      others.append(f"{name} ({rate:g} and {fps:g})")
    rates += [fps] if fps else []
    rows[name] = {}
    for metric in metrics:
      if metric in reasons:
        continue
      try:
        number = METRICS[metric](fake, target, fps or _FPS)
        rows[name][metric] = float(number)
      except ValueError as error:
        text = str(error)
        ready = text.startswith("not computed")
        reasons[metric] = text if ready else f"not computed: {name}: {text}"
  notes = []
  if others:
    notes.append(
      f"{len(others)} of {len(rows)} videos have another frame rate than their "
      f"reference, as {others[0]} frames a second"
    )
  values = {}
  for metric in metrics:
    protocol = {
      "generated": {"files": str(out)},
      "real": {"files": str(reference)},
      "estimator": "mean over the videos, as decoded, RGB 8 bits",
      "num": len(pairs),
      "fps": [min(rates), max(rates)] if rates else None,
    }
    if metric in reasons:
      values[metric] = evals.missing(reasons[metric], protocol)
      continue
    if metric in networks:
      protocol["weights"] = networks[metric]
    values[metric] = _mean(metric, rows, protocol, notes)
  return values, rows


def _mean(metric, rows, protocol, notes) -> evals.Value:
  """The mean over the videos that have a value; says how many have none."""
  numbers = np.array([row[metric] for row in rows.values()])
  there = np.isfinite(numbers)
  without = [name for name, has in zip(rows, there) if not has]
  if not there.any():
    return evals.missing(
      f"not computed: no video has a value of {metric}: it needs two frames, "
      "and for flow something that is seen in both",
      protocol,
    )
  if without:
    notes = [
      *notes,
      f"{len(without)} of {len(numbers)} videos have no value and are left "
      f"out, as {without[0]}",
    ]
  numbers = numbers[there]
  ends: tuple = restoration.interval(numbers, 1000, 0)
  if len(numbers) < 2:
    ends = None, None
  return evals.Value(
    float(numbers.mean()), *ends, len(numbers), protocol, "; ".join(notes)
  )


def matched(out: str | os.PathLike, reference: str | os.PathLike) -> dict:
  """Name -> the two files of that name.

  Raises:
    ValueError: a file has no partner.
  """
  out, reference = pathlib.Path(out), pathlib.Path(reference)
  for path in (out, reference):
    if not path.exists():
      raise ValueError(f"{path} does not exist.")
  if out.is_file() != reference.is_file():
    raise ValueError(f"{out} and {reference}: give two files or two folders.")
  if out.is_file():
    single = lambda p: (
      p.parent,
      folder_lib.Source(file=p.name, bytes=0, modified=0),
      "videos",
    )
    return {out.stem: (single(out), single(reference))}
  found = []
  for path in (out, reference):
    layout, sources = folder_lib.scan(path, "auto")
    # The name of a folder of images has no suffix, whatever its dots.
    stem = lambda f, whole=layout == "frames": (
      f if whole else os.path.splitext(f)[0]
    )
    named = {stem(s.file): (path, s, layout) for s in sources}
    if len(named) != len(sources):
      raise ValueError(
        f"{path}: several files share a name without their suffixes: keep one."
      )
    found.append(named)
  mine, theirs = found
  if not mine or mine.keys() != theirs.keys():
    alone = sorted(mine.keys() ^ theirs.keys())
    raise ValueError(
      f"{out} has {len(mine)} videos, {reference} has {len(theirs)}, and "
      f"{len(alone)} of them have no partner of the same name"
      + (f", as {alone[0]!r}." if alone else ".")
    )
  return {name: (mine[name], theirs[name]) for name in sorted(mine)}


def _read(root, source, layout) -> tuple[np.ndarray, float | None]:
  """All frames, (T, H, W, 3) uint8, as stored, and how many make a second."""
  path = os.path.join(root, source.file)
  if layout == "videos":
    with read_lib.Reader(path) as reader:
      frames = list(reader)
    damaged = reader.damaged
  else:
    tally = clips_lib.Tally()
    options = clips_lib.Options(layout=layout)
    frames = list(clips_lib.frames(root, source, options, tally))
    damaged = tally.damaged
  if damaged:
    raise ValueError(
      f"{path}: {damaged} of its frames cannot be decoded, so the others have "
      "lost their partners: mend the video, or take the pair out."
    )
  seconds = frames[-1].time - frames[0].time
  known = layout == "videos" and len(frames) > 1
  fps = round((len(frames) - 1) / seconds, 3) if known else None
  return np.stack([frame.image for frame in frames]), fps
