"""What is measured of a clip beside its target, in one table.

`--paired` measures files by all of `METRICS`; `restoration` measures a model's
answers by some of them, under shorter names, and by what moves and is coloured.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

import numpy as np

from vidgan_jax import errors
from vidgan_jax.evals import perceptual
from vidgan_jax.measures import ffmpeg
from vidgan_jax.measures import fidelity
from vidgan_jax.measures import flow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
  """A figure of a clip beside its target.

  Attributes:
    function: (clip, target) (T, H, W, 3) -> number; see `fidelity`. Those of
      `restoration` take a weight as well.
    unit: see `evals.Value`.
    better: likewise.
    how: its part of a protocol; raises a ValueError where something that it is
      computed with is missing.
    least: pixels of the shorter side.
    timed: the function takes `fps`, the target's frames a second.
    heading: of a column in tables.
    digits: behind the point there.
  """

  function: Callable[..., float]
  unit: str = ""
  better: str = "lower"
  how: Callable[[], Mapping[str, Any]] = dict
  least: int = 1
  timed: bool = False
  heading: str = ""
  digits: int = 2

  def measure(self, fake: np.ndarray, target: np.ndarray, fps: float) -> float:
    """The figure of two clips of one shape.

    Raises:
      UserError: they are too small.
    """
    h, w = fake.shape[1:3]
    if min(h, w) < self.least:
      raise errors.UserError(
        f"not computed: it needs at least {self.least} pixels on the shorter "
        f"side; the clip has {w} x {h}."
      )
    return self.function(fake, target, **({"fps": fps} if self.timed else {}))


_DB = {"unit": "dB", "better": "higher"}
_LEVELS = {"unit": "levels"}
_YUV = "BT.709, 16 to 235, 4:2:0"
_SSIM = {"of": "R, G, B by themselves", "window": "Gaussian, 11 x 11, 1.5"}
_FLOW = "Farneback (OpenCV, as TecoGAN calls it)"


def _psnr_y(matrix: str) -> Metric:
  number = matrix.removeprefix("bt")
  return Metric(
    function=functools.partial(fidelity.psnr_y, matrix=matrix),
    how=lambda: {"of": f"Y of BT.{number}, 16 to 235, peak 255"},
    heading="PSNR-Y dB",
    **_DB,
  )


def _lpips(function: Callable[..., float], trunk: str) -> Metric:
  return Metric(
    function=functools.partial(function, trunk=trunk),
    how=lambda: {
      "network": f"LPIPS 0.1 over {trunk}",
      "weights": perceptual.load(trunk)[1],
    },
    heading="LPIPS",
    digits=4,
  )


def _xpsnr(part: str) -> Metric:
  def function(fake, target, fps):
    # Equal clips have an infinite one, which has no mean.
    return min(ffmpeg.xpsnr(fake, target, fps=fps)[part], 100.0)

  return Metric(
    function=function,
    how=lambda: {
      "of": part.upper(),
      "yuv": _YUV,
      "ffmpeg": ffmpeg.version(),
    },
    timed=True,
    **_DB,
  )


METRICS: dict[str, Metric] = {
  "psnr_rgb": Metric(
    function=fidelity.psnr,
    how=lambda: {"of": "R, G, B of all frames together, peak 255"},
    heading="PSNR dB",
    **_DB,
  ),
  "psnr_y_bt601": _psnr_y("bt601"),
  "psnr_y_bt709": _psnr_y("bt709"),
  "ssim": Metric(
    function=fidelity.ssim,
    better="higher",
    how=lambda: _SSIM,
    least=fidelity.WINDOW,
    heading="SSIM",
    digits=4,
  ),
  "ms_ssim": Metric(
    function=fidelity.ms_ssim,
    better="higher",
    how=lambda: _SSIM | {"scales": 5},
    least=fidelity.SMALLEST,
  ),
  "lpips_alex": _lpips(perceptual.lpips, "alex"),
  "lpips_vgg": _lpips(perceptual.lpips, "vgg"),
  "tlp": _lpips(perceptual.tlp, "alex"),
  "tof": Metric(
    function=flow.tof,
    unit="pixels",
    how=lambda: {"flow": f"{_FLOW}, of both"},
  ),
  "warping_error": Metric(
    function=flow.warping_error,
    how=lambda: {"flow": f"{_FLOW}, of the reference"},
  ),
  "vmaf": Metric(
    function=ffmpeg.vmaf,
    better="higher",
    how=lambda: {
      "model": ffmpeg.VMAF,
      "yuv": _YUV,
      "ffmpeg": ffmpeg.version(),
    },
  ),
  "xpsnr_y": _xpsnr("y"),
  "xpsnr_u": _xpsnr("u"),
  "xpsnr_v": _xpsnr("v"),
}
# Of clips in [-1, 1] with weights.
ANSWERS: dict[str, Metric] = {
  "psnr": METRICS["psnr_rgb"],
  "ssim": METRICS["ssim"],
  "temporal": Metric(
    function=fidelity.temporal_error, heading="temporal", **_LEVELS
  ),
  "psnr_y": METRICS["psnr_y_bt601"],
  "chroma_error": Metric(
    function=fidelity.chroma_error, heading="chroma", **_LEVELS
  ),
  "psnr_chroma": Metric(
    function=fidelity.psnr_chroma, heading="chroma dB", **_DB
  ),
  "temporal_chroma": Metric(
    function=fidelity.temporal_chroma, heading="its temporal", **_LEVELS
  ),
  "lpips": METRICS["lpips_alex"],
}
