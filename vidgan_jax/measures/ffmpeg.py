"""VMAF and XPSNR, which ffmpeg computes: of the clips as video is stored.

The program is the one that imageio-ffmpeg ships. Clips are (T, H, W, 3) uint8
and go to it as files, so that memory does not grow with them.
"""

import json
import pathlib
import re
import subprocess
import tempfile

import numpy as np

from vidgan_jax import errors
from vidgan_jax import pixels

SMALLEST = 192  # shorter side that both are meant for, pixels
VMAF = "vmaf_v0.6.1"  # libvmaf's name of the model
_BYTES = np.dtype(np.uint8)


def vmaf(fake: np.ndarray, target: np.ndarray, matrix: str = "bt709") -> float:
  """VMAF v0.6.1 (Li et al. 2016), mean over frames, by ffmpeg; 0 to 100.

  The model looks at luma alone, for a screen of 1080 lines; below 192 pixels it
  is refused.

  Args:
    fake: (T, H, W, 3) uint8.
    target: the same.
    matrix: from RGB to YUV, 'bt601' or 'bt709'.
  """
  measure = f"libvmaf=model=version={VMAF}:log_fmt=json:log_path"
  log = _compared("vmaf", fake, target, matrix, measure)
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
    fake: (T, H, W, 3) uint8.
    target: the same.
    matrix: from RGB to YUV, 'bt601' or 'bt709'.
    fps: frames a second; above 32 the weights look at more frames.
  """
  # Other than VMAF's, this filter takes the reference first.
  log = _compared("xpsnr", target, fake, matrix, "xpsnr=stats_file", fps)
  average = re.search(
    r"average, (\d+) frames +y: (\S+) +u: (\S+) +v: (\S+)", log
  )
  _complete("xpsnr", int(average[1]) if average else 0, len(fake))
  return {k: float(v) for k, v in zip("yuv", average.groups()[1:])}


def version() -> str:
  """The version of ffmpeg."""
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
  if matrix not in pixels.LUMA:
    raise errors.UserError(
      f"{name}: matrix={matrix!r} is none of {list(pixels.LUMA)}."
    )
  if first.shape != second.shape or {first.dtype, second.dtype} != {_BYTES}:
    raise ValueError(
      f"{name} compares clips of uint8 of one shape, not {first.shape} "
      f"{first.dtype} and {second.shape} {second.dtype}."
    )
  h, w = first.shape[1:3]
  if min(h, w) < SMALLEST:
    raise errors.UserError(
      f"not computed: {name} needs at least {SMALLEST} pixels on the shorter "
      f"side; the clip has {w} x {h}."
    )
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
      video.tofile(pathlib.Path(folder, f"{i}.rgb"))
    # Names without a path: a filter's options have their own quoting.
    done = subprocess.run(command, capture_output=True, cwd=folder)
    log = pathlib.Path(folder, "log.txt")
    if done.returncode or not log.exists():
      raise RuntimeError(
        f"ffmpeg {measure} on {len(first)} frames of {w} x {h} gave nothing: "
        f"{done.stderr.decode(errors='replace')}"
      )
    return log.read_text()


def _complete(name, measured, frames):
  if measured != frames:
    raise RuntimeError(f"ffmpeg gave {name} of {measured} of {frames} frames.")
