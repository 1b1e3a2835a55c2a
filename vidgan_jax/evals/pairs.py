"""Aligned videos in files: every paired metric, one pair at a time.

Files are matched by their names without suffix. A figure is the mean over the
pairs, with its 95 % bootstrap interval; the figures of each pair are kept.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
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

Measure = Callable[[np.ndarray, np.ndarray], float]


def _xpsnr(part: str) -> Measure:
  # Equal clips have an infinite one, which has no mean.
  return lambda fake, target: min(paired.xpsnr(fake, target)[part], 100.0)


# Each is of two clips (T, H, W, 3) uint8.
METRICS: Mapping[str, Measure] = {
  "psnr_rgb": paired.psnr_rgb,
  "psnr_y_bt601": functools.partial(paired.psnr_y, matrix="bt601"),
  "psnr_y_bt709": functools.partial(paired.psnr_y, matrix="bt709"),
  "ssim": paired.ssim,
  "ms_ssim": paired.ms_ssim,
  "lpips_alex": functools.partial(perceptual.lpips, trunk="alex"),
  "lpips_vgg": functools.partial(perceptual.lpips, trunk="vgg"),
  "tlp": perceptual.tlp,
  "tof": paired.tof,
  "warping_error": paired.warping_error,
  "vmaf": paired.vmaf,
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
    ValueError: videos without a partner, or of other sizes or lengths.
  """
  for name in metrics:
    config_lib.check_name(name, METRICS, "--metrics")
  metrics = list(metrics) or list(METRICS)
  pairs = matched(out, reference)
  rows: dict[str, dict[str, float]] = {}
  reasons: dict[str, str] = {}
  for name, (one, other) in pairs.items():
    fake, target = _read(*one), _read(*other)
    if fake.shape != target.shape:
      raise ValueError(
        f"{name}: {one[1].file} has (T, H, W) = {fake.shape[:3]}, its "
        f"reference {target.shape[:3]}: paired metrics need the same frames "
        "and size."
      )
    rows[name] = {}
    for metric in metrics:
      if metric in reasons:
        continue
      try:
        rows[name][metric] = float(METRICS[metric](fake, target))
      except ValueError as error:
        if not str(error).startswith("not computed"):
          raise ValueError(f"{name}: {error}") from error
        reasons[metric] = str(error)
  values = {}
  for metric in metrics:
    protocol = {
      "generated": {"files": str(out)},
      "real": {"files": str(reference)},
      "estimator": "mean over the videos, as decoded, RGB 8 bits",
      "num": len(pairs),
    }
    if metric in reasons:
      values[metric] = evals.missing(reasons[metric], protocol)
      continue
    if metric in _NETWORKS:
      protocol["weights"] = weights.load(_NETWORKS[metric])[1]
    numbers = np.array([row[metric] for row in rows.values()])
    ends: tuple = restoration.interval(numbers, 1000, 0)
    if len(numbers) < 2:
      ends = None, None
    values[metric] = evals.Value(
      float(numbers.mean()), *ends, len(numbers), protocol
    )
  return values, rows


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
    named = {os.path.splitext(s.file)[0]: (path, s, layout) for s in sources}
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


def _read(root, source, layout) -> np.ndarray:
  """All frames, (T, H, W, 3) uint8."""
  options = clips_lib.Options(layout=layout)
  frames = clips_lib.frames(root, source, options, clips_lib.Tally())
  return np.stack([frame.image for frame in frames])
