"""How near a clip is to its target, as papers measure it.

Two aligned clips (T, H, W, 3), RGB, both uint8 or in [-1, 1]; NumPy in float64,
a frame at a time, so that memory is that of the clips as they came. `fidelity`
has the figures that training looks at, with weights for pixels; here are those
of benchmarks, whole clips, named as exactly as their results differ.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import json
import pathlib
import re
import subprocess
import tempfile

import numpy as np
from scipy import interpolate
from scipy import ndimage

from vidgan_jax import errors
from vidgan_jax.measures import fidelity
from vidgan_jax.measures import flow as flows

# Luma of R, G, B.
_LUMA = {"bt601": (0.299, 0.587, 0.114), "bt709": (0.2126, 0.7152, 0.0722)}
# Wang et al. 2003, section 3.2: exponents, finest scale first.
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_LEAST = 192  # shorter side that VMAF and XPSNR are meant for, pixels
VMAF = "vmaf_v0.6.1"  # libvmaf's name of the model


def psnr_rgb(fake: np.ndarray, target: np.ndarray) -> float:
  """`fidelity.psnr`: of all frames, pixels and channels together, dB."""
  pair = _pair(fake, target)
  return _psnr([np.square(x - y).mean() for x, y in _frames(*pair)], 2)


def psnr_y(fake: np.ndarray, target: np.ndarray, matrix: str) -> float:
  """PSNR of luma, dB; at most 100. Report it with the matrix in its name.

  Luma is in the range of video, 16 to 235, and the peak is 255, as in papers on
  super-resolution (MATLAB's rgb2ycbcr) and in ffmpeg. Of the full range it
  would be 1.3 dB less.

  Args:
    fake: clip.
    target: clip.
    matrix: 'bt601', which super-resolution reports, or 'bt709' (HD video).
  """
  if matrix not in _LUMA:
    raise errors.UserError(
      f"psnr_y: matrix={matrix!r} is none of {list(_LUMA)}."
    )
  pair = _pair(fake, target)
  luma = np.array(_LUMA[matrix]) * (219 / 2)  # Of [-1, 1]; 16 cancels.
  return _psnr(
    [np.square((x - y) @ luma).mean() for x, y in _frames(*pair)], 255
  )


def _psnr(squares: Sequence[float], peak: float) -> float:
  """Of the mean square error of each frame; all have as many pixels."""
  share = np.mean(squares) / peak**2
  return float(-10 * np.log10(np.maximum(share, 1e-10)))


def ssim(fake: np.ndarray, target: np.ndarray) -> float:
  """`fidelity.ssim`: of R, G and B by themselves, the mean over all frames."""
  fake, target = _pair(fake, target)
  _least("ssim", fake, 11)
  pairs = _frames(fake, target)
  return float(np.mean([fidelity.ssim(x[None], y[None]) for x, y in pairs]))


def ms_ssim(fake: np.ndarray, target: np.ndarray) -> float:
  """SSIM on five scales (Wang et al. 2003, eq. 7), of R, G, B by themselves.

    l_5^a5 prod_j cs_j^aj,

  l and cs averaged over the windows of a frame's channel, then the mean over
  frames and channels. A scale is the mean of 2 x 2 pixels of the one before,
  the border repeated where it is odd. A cs below 0 counts as 0.
  """
  fake, target = _pair(fake, target)
  _least("ms_ssim", fake, 161)  # 11 pixels on the coarsest scale.
  values = []
  for x, y in _frames(fake, target):
    product = 1.0
    for scale, power in enumerate(_SCALES):
      if scale:
        x, y = _halved(x), _halved(y)
      luminance, contrast = _similarity(x, y)
      whole = scale == len(_SCALES) - 1
      part = luminance * contrast if whole else contrast
      product = product * np.maximum(part.mean((0, 1)), 0) ** power
    values.append(product.mean())
  return float(np.mean(values))


def _similarity(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Luminance and contrast-structure (H-10, W-10, 3) of frames in [-1, 1].

  As in `fidelity.ssim`, which is the mean of their product.
  """
  taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
  taps /= taps.sum()

  def blur(v):
    for axis in (0, 1):
      v = ndimage.correlate1d(v, taps, axis)
    return v[5:-5, 5:-5]

  x, y = (x + 1) / 2, (y + 1) / 2
  a, b = blur(x), blur(y)
  xx, yy, xy = blur(x * x) - a * a, blur(y * y) - b * b, blur(x * y) - a * b
  c1, c2 = 0.01**2, 0.03**2
  luminance = (2 * a * b + c1) / (a * a + b * b + c1)
  return luminance, (2 * xy + c2) / (xx + yy + c2)


def _halved(x: np.ndarray) -> np.ndarray:
  h, w = x.shape[:2]
  x = np.pad(x, [(0, h % 2), (0, w % 2), (0, 0)], "edge")
  return x.reshape(-(-h // 2), 2, -1, 2, x.shape[-1]).mean((1, 3))


# ----------------------------------------------------------------------- time


def warping_error(
  fake: np.ndarray, target: np.ndarray, flow: flows.Flow = flows.farneback
) -> float:
  """`flow.warping_error` of `fake` along the flow of the target."""
  fake, target = (_bytes(v) for v in _pair(fake, target))
  return flows.warping_error(fake, target, flow)


def tof(
  fake: np.ndarray, target: np.ndarray, flow: flows.Flow = flows.farneback
) -> float:
  """Motion, tOF (Chu et al. 2020, eq. 5): how much it differs, pixels.

  Mean length of the difference of both clips' flows from frame to frame. Papers
  print it times 10, and may cut the borders off. NaN for a single frame.
  """
  fake, target = (_bytes(v) for v in _pair(fake, target))
  gaps = []
  for t in range(len(fake) - 1):
    gap = flow(*fake[t : t + 2]) - flow(*target[t : t + 2])
    gaps.append(np.linalg.norm(gap, axis=-1).mean())
  return float(np.mean(gaps)) if gaps else float("nan")


# --------------------------------------------------------------------- ffmpeg


def vmaf(fake: np.ndarray, target: np.ndarray, matrix: str = "bt709") -> float:
  """VMAF v0.6.1 (Li et al. 2016), mean over frames, by ffmpeg; 0 to 100.

  The program is the one that imageio-ffmpeg ships. The model looks at luma
  alone, for a screen of 1080 lines; below 192 pixels it is refused.

  Args:
    fake: clip; values in [-1, 1] are rounded to 8 bits.
    target: clip.
    matrix: from RGB to YUV, 'bt601' or 'bt709'.
  """
  pair = _pair(fake, target)
  measure = f"libvmaf=model=version={VMAF}:log_fmt=json:log_path"
  log = _compared("vmaf", *pair, matrix, measure)
  frames = json.loads(log)["frames"]
  _complete("vmaf", len(frames), len(fake))
  return float(np.mean([frame["metrics"]["vmaf"] for frame in frames]))


def xpsnr(
  fake: np.ndarray,
  target: np.ndarray,
  matrix: str = "bt709",
  fps: float = 25.0,
) -> dict[str, float]:
  """XPSNR (Helmrich et al. 2020) of Y, U and V (4:2:0), dB, by ffmpeg.

  PSNR with errors weighted by how busy the target is, in space and time. As
  ffmpeg sums it up over the frames; infinite for equal clips.

  Args:
    fake: clip; values in [-1, 1] are rounded to 8 bits.
    target: clip.
    matrix: from RGB to YUV, 'bt601' or 'bt709'.
    fps: frames a second; above 32 the weights look at more frames.
  """
  fake, target = _pair(fake, target)
  # Other than VMAF's, this filter takes the reference first.
  log = _compared("xpsnr", target, fake, matrix, "xpsnr=stats_file", fps)
  found = re.search(r"average, (\d+) frames +y: (\S+) +u: (\S+) +v: (\S+)", log)
  _complete("xpsnr", int(found[1]) if found else 0, len(fake))
  return {k: float(v) for k, v in zip("yuv", found.groups()[1:])}


def ffmpeg() -> str:
  """The version of the program."""
  return _program().get_ffmpeg_version()


def _program():
  try:
    import imageio_ffmpeg
  except ImportError as error:
    raise errors.UserError(
      "not computed: VMAF and XPSNR need `pip install imageio-ffmpeg` (the "
      "extra 'baselines')."
    ) from error
  return imageio_ffmpeg


def _compared(name, first, second, matrix, measure, fps=25.0) -> str:
  """The log of a filter of two inputs; `measure` ends in the log's option."""
  program = _program().get_ffmpeg_exe()
  if matrix not in _LUMA:
    raise errors.UserError(
      f"{name}: matrix={matrix!r} is none of {list(_LUMA)}."
    )
  _least(name, first, _LEAST)
  h, w = first.shape[1:3]
  raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{w}x{h}"]
  # Both clips alike from RGB to what video is stored as.
  yuv = (
    f"scale=out_color_matrix={matrix}:out_range=tv:"
    "flags=accurate_rnd+full_chroma_int,format=yuv420p"
  )
  graph = f"[0:v]{yuv}[a];[1:v]{yuv}[b];[a][b]{measure}=log.txt"
  command = [program, "-v", "error", "-nostdin"]
  for i in "01":
    command += [*raw, "-r", f"{fps:g}", "-i", f"{i}.rgb"]
  command += ["-lavfi", graph, "-f", "null", "-"]
  with tempfile.TemporaryDirectory() as folder:
    for i, video in enumerate((first, second)):
      _bytes(video).tofile(pathlib.Path(folder, f"{i}.rgb"))
    # Names without a path: a filter's options have their own quoting.
    done = subprocess.run(command, capture_output=True, cwd=folder)
    log = pathlib.Path(folder, "log.txt")
    if done.returncode or not log.exists():
      raise RuntimeError(
        f"ffmpeg {measure} on {len(first)} frames of {w} x {h} gave nothing: "
        f"{done.stderr.decode(errors='replace')}"
      )
    return log.read_text()


def _complete(name, found, frames):
  if found != frames:
    raise RuntimeError(f"ffmpeg gave {name} of {found} of {frames} frames.")


# ----------------------------------------------------------------------- rate


def bd_rate(
  rates: np.ndarray,
  qualities: np.ndarray,
  anchor_rates: np.ndarray,
  anchor_qualities: np.ndarray,
) -> float:
  """Bjontegaard's mean difference of rate at equal quality, percent.

    100 (10^m - 1),  m the mean over the qualities that both curves have of
    log10 rate - log10 anchor's rate,

  curves by monotone cubic interpolation (pchip) of log rate over quality, as
  JCTVC does, not the cubic fit of VCEG-M33. Below 0: fewer bits.

  Args:
    rates: at least 4 positive numbers, in any unit and order.
    qualities: of each; more rate must be more quality.
    anchor_rates: of what is compared with, in the same unit.
    anchor_qualities: of each.
  """
  mine = _curve("the system", rates, qualities)
  other = _curve("the anchor", anchor_rates, anchor_qualities)
  low = max(mine.x[0], other.x[0])
  high = min(mine.x[-1], other.x[-1])
  if low >= high:
    raise errors.UserError(
      f"bd_rate: qualities from {mine.x[0]:.4g} to {mine.x[-1]:.4g} and from "
      f"{other.x[0]:.4g} to {other.x[-1]:.4g} do not overlap: measure at other "
      "rates."
    )
  area = mine.integrate(low, high) - other.integrate(low, high)
  return float(100 * (10 ** (area / (high - low)) - 1))


def _curve(whose, rates, qualities):
  rates = np.asarray(rates, np.float64)
  qualities = np.asarray(qualities, np.float64)
  if rates.ndim != 1 or rates.shape != qualities.shape or len(rates) < 4:
    raise errors.UserError(
      f"bd_rate: {rates.shape} rates and {qualities.shape} qualities of "
      f"{whose}; give at least 4 points."
    )
  order = np.argsort(rates)
  rates, qualities = rates[order], qualities[order]
  finite = np.isfinite([rates, qualities]).all() and rates[0] > 0
  if (
    not finite or np.min(np.diff(rates)) <= 0 or np.min(np.diff(qualities)) <= 0
  ):
    raise errors.UserError(
      f"bd_rate: the points of {whose} are no curve: rates must be positive, "
      f"all different, and more rate more quality; rates {rates}, qualities "
      f"{qualities}."
    )
  return interpolate.PchipInterpolator(qualities, np.log10(rates))


# --------------------------------------------------------------------- checks


def _pair(
  fake: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Both as arrays, checked."""
  if np.shape(fake) != np.shape(target):
    raise errors.UserError(
      f"The clip is {np.shape(fake)}, its target {np.shape(target)}: paired "
      "metrics need the same frames and size. Cut or resize one of them first."
    )
  out = []
  for video in (fake, target):
    video = np.asarray(video)
    if video.ndim != 4 or video.shape[-1] != 3 or not video.size:
      raise ValueError(f"A clip is (T, H, W, 3), not {video.shape}.")
    whole = video.dtype == np.uint8
    if not whole and not np.issubdtype(video.dtype, np.floating):
      raise ValueError(
        f"A clip is uint8, or in [-1, 1] of a float type, not {video.dtype}."
      )
    # NaN is in no range.
    if not (whole or (np.min(video) >= -1 and np.max(video) <= 1)):
      raise ValueError(
        f"A clip has values from {np.min(video):.4g} to {np.max(video):.4g}; "
        "pixels are in [-1, 1], or uint8."
      )
    out.append(video)
  return out[0], out[1]


def _frames(*clips: np.ndarray) -> Iterator[list[np.ndarray]]:
  """Yields the frames of all clips, (H, W, 3) float64 in [-1, 1], by turns."""
  for frames in zip(*clips):
    yield [
      x / 127.5 - 1 if x.dtype == np.uint8 else x.astype(np.float64)
      for x in frames
    ]


def _bytes(video: np.ndarray) -> np.ndarray:
  if video.dtype == np.uint8:
    return video
  out = np.empty(video.shape, np.uint8)
  for t, (frame,) in enumerate(_frames(video)):
    out[t] = np.round((frame + 1) * 127.5)
  return out


def _least(name: str, video: np.ndarray, side: int) -> None:
  if min(video.shape[1:3]) < side:
    h, w = video.shape[1:3]
    raise errors.UserError(
      f"not computed: {name} needs at least {side} pixels on the shorter side; "
      f"the clip has {w} x {h}."
    )
