"""Classical answers, that every model has to beat: NumPy, OpenCV, ffmpeg.

A function here makes a `Baseline`. Most have a strength, and a classical filter
at a wrong strength is a straw man: measure all `Baseline.strengths` and take
the best one for the clips at hand. This favours the baseline: a user could not
tune against the target.

Given and answers are batches: given['video'] (B, T, h, w, 3) float32 in
[-1, 1], zero where given['mask'] (B, T, h, w, 1) is 1; times (B, T) seconds.
Known pixels stay as they are.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import importlib.util
import logging
import subprocess
from typing import Any

import numpy as np

from vidgan_jax import pixels

Given = Mapping[str, np.ndarray]
_PACKAGES = {
  "cv2": "opencv-python-headless",
  "imageio_ffmpeg": "imageio-ffmpeg",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baseline:
  """A classical answer.

  Attributes:
    answer: (given, times, strength) -> (B, T, H, W, 3) float32.
    tune: its strengths; the one in the middle is the default.
    needs: the module that it is computed with, '' for NumPy.
  """

  answer: Callable[[Given, np.ndarray, Any], np.ndarray]
  tune: tuple[Any, ...] = (None,)
  needs: str = ""

  def __call__(self, given: Given, times: np.ndarray) -> np.ndarray:
    """The answer of the default strength."""
    given = {k: np.asarray(v) for k, v in given.items()}
    strength = self.tune[len(self.tune) // 2]
    out = self.answer(given, np.asarray(times), strength)
    return np.clip(out, -1, 1).astype(np.float32)

  @property
  def strengths(self) -> tuple["Baseline", ...]:
    """One baseline for each strength, to take the best one of."""
    return tuple(dataclasses.replace(self, tune=(s,)) for s in self.tune)


class Available(Mapping):
  """Baselines by name, without those whose program is not installed.

  A warning names each that is left out, once, when the baselines are listed.
  """

  _warned: set[str] = set()

  def __init__(self, baselines: Mapping[str, Baseline]):
    self._baselines = dict(baselines)

  def __iter__(self) -> Iterator[str]:
    for name, baseline in self._baselines.items():
      module = baseline.needs
      if not module or importlib.util.find_spec(module):
        yield name
      elif name not in self._warned:
        self._warned.add(name)
        logging.getLogger(__name__).warning(
          "The baseline %s is left out: it needs `pip install %s`.",
          *(name, _PACKAGES[module]),
        )

  def __getitem__(self, name: str) -> Baseline:
    return {k: self._baselines[k] for k in self}[name]

  def __len__(self) -> int:
    return len(list(iter(self)))


def copy() -> Baseline:
  """The given clip."""
  return Baseline(answer=lambda given, times, strength: given["video"])


def carry() -> Baseline:
  """Colours follow their classes from a first frame that is given.

  What is of class 0 in it and later is copied; of other classes the mean colour
  goes along. Without the frame, and of classes that it lacks, the drawing.
  """

  def answer(given, times, strength):
    del times, strength
    video, map_ = given["video"], given["map"]
    first, seen = video[:, :1], map_[:, :1]
    mass = seen.sum((1, 2, 3))
    colours = np.einsum("bthwc,bthwn->bnc", first, seen)
    colours /= np.maximum(mass, 1)[..., None]
    known = map_ * (mass > 0)[:, None, None, None]
    painted = np.einsum("bthwn,bnc->bthwc", known, colours)
    still = map_[..., :1] * seen[..., :1]
    painted += still * (first - painted)
    there = known.sum(-1, keepdims=True) * (given["mask"][:, :1] == 0)
    return video + there * given["mask"] * (painted - video)

  return Baseline(answer=answer)


# ---------------------------------------------------------------------- scale


def bicubic(scale: int) -> Baseline:
  """Enlarges by Keys' cubic kernel, a = -1/2 (Keys 1981)."""
  return Baseline(answer=lambda given, times, _: _enlarge(given, scale))


def lanczos(scale: int) -> Baseline:
  """Enlarges by Lanczos' kernel of three lobes (Duchon 1979)."""
  return Baseline(
    answer=lambda given, times, _: _enlarge(given, scale, pixels.lanczos)
  )


def unsharp(scale: int, tune: tuple[float, ...]) -> Baseline:
  """Lanczos, then y + strength (y - G y); G blurs by `scale` / 2 pixels."""

  def answer(given, times, strength):
    y = _enlarge(given, scale, pixels.lanczos)
    return y + strength * (y - _blur(y, scale / 2))

  return Baseline(answer=answer, tune=tune)


def back_projection(scale: int, tune: tuple[int, ...]) -> Baseline:
  """Iterative back-projection (Irani and Peleg 1991), `strength` rounds.

    y <- y + up(low - down(y)), from y = Lanczos(low),

  down and up the bicubic filter, which is what the clip was shrunk by.
  """

  def answer(given, times, strength):
    low = given["video"]
    y = _enlarge(given, scale, pixels.lanczos)
    for _ in range(strength):
      error = low - pixels.resize(y, *low.shape[2:4])
      y = y + pixels.resize(error, *y.shape[2:4])
    return y

  return Baseline(answer=answer, tune=tune)


def _enlarge(given, scale, kernel=pixels.bicubic):
  """(B, T, h, w, 3) -> (B, T, h scale, w scale, 3)."""
  h, w = given["video"].shape[2:4]
  return pixels.resize(given["video"], h * scale, w * scale, kernel)


def _blur(video, sigma):
  """Gaussian, borders repeated; (..., H, W, C)."""
  radius = max(1, round(3 * sigma))
  tap = np.arange(-radius, radius + 1)
  kernel = np.exp(-((tap / sigma) ** 2) / 2)
  for axis in (-3, -2):
    pad = [(0, 0)] * video.ndim
    pad[axis] = (radius, radius)
    padded, size = np.pad(video, pad, "edge"), video.shape[axis]
    parts = [np.take(padded, k + np.arange(size), axis) for k in tap + radius]
    video = sum(w * p for w, p in zip(kernel / kernel.sum(), parts))
  return video


# ---------------------------------------------------------- filters of ffmpeg


def hqdn3d(tune: tuple[float, ...], relative: bool = False) -> Baseline:
  """A fast low-pass in space and time, of ffmpeg.

  Args:
    tune: strengths; ffmpeg's default is 4.
    relative: they are multiples of each clip's noise, see `noise_level`.
  """
  return _filter("hqdn3d={:.4g}", tune, memory=True, relative=relative)


def nlmeans(
  scale: int = 1, *, tune: tuple[float, ...], relative: bool = False
) -> Baseline:
  """Non-local means of each frame (Buades et al. 2005), of ffmpeg.

  Args:
    scale: then enlarges by Lanczos' kernel.
    tune: strengths, from 1 to 30.
    relative: they are multiples of each clip's noise, see `noise_level`.
  """

  def graph(strength):
    return f"nlmeans=s={np.clip(strength, 1, 30):.4g}"

  plain = _filter(graph, tune, relative=relative)

  def answer(given, times, strength):
    clean = plain.answer(given, times, strength)
    return _enlarge({"video": clean}, scale, pixels.lanczos)

  return plain if scale == 1 else dataclasses.replace(plain, answer=answer)


def noise_level(given: Given) -> np.ndarray:
  """Standard deviation of the noise of each clip, in levels of 8 bits: (B,).

  given['vector'] or the mean of given['map'] says it. Where a task is blind, it
  is estimated (Immerkaer 1996): the difference n of two Laplacians,

            [ 1 -2  1]
    n = x * [-2  4 -2],  |n| / 6 is distributed as |N(0, sigma^2)| is,
            [ 1 -2  1]

  sees noise and edges. Its smaller half has the fewest edges; the mean of the
  smaller half of |N(0, 1)| is 0.3248 (that of all is 0.7979).
  """
  if "vector" in given:
    return given["vector"][:, 0, 0] * 127.5
  if "map" in given:
    return given["map"].mean((1, 2, 3, 4)) * 127.5
  x = given["video"].mean(-1) * 127.5
  # Along the rows, then along the columns.
  n = x[..., :-2] - 2 * x[..., 1:-1] + x[..., 2:]
  n = abs(n[..., :-2, :] - 2 * n[..., 1:-1, :] + n[..., 2:, :]) / 6
  n = np.sort(n.reshape(len(n), -1), 1)
  # The three channels' mean has 1 / sqrt(3) of the noise.
  return n[:, : n.shape[1] // 2].mean(1) / 0.3248 * np.sqrt(3)


def atadenoise(tune: tuple[float, ...]) -> Baseline:
  """An adaptive mean over time, of ffmpeg; `tune`: thresholds, 0 to 0.3."""

  def graph(strength):
    a = min(strength, 0.3)  # For abrupt changes; b for slow ones.
    each = ":".join(f"{i}a={a}:{i}b={min(4 * a, 5)}" for i in range(3))
    return f"atadenoise={each}:s=5"

  return _filter(graph, tune, memory=True)


def deblock(tune: tuple[str, ...]) -> Baseline:
  """A filter of block borders, of ffmpeg; `tune`: 'weak', 'strong'."""
  return _filter("deblock=filter={}:block=8", tune)


def spp(tune: tuple[int, ...]) -> Baseline:
  """The mean of shifted, thresholded DCTs (Nosratinia 1999), of ffmpeg.

  `tune`: quantisers, 1 to 63.
  """
  return _filter("spp=6:{}", tune)


def minterpolate(tune: tuple[str, ...] = ("bidir", "bilat")) -> Baseline:
  """Motion-compensated interpolation, see `video.block_motion`.

  Frames are known as a whole, or not at all.

  Args:
    tune: 'bidir' and 'bilat', ways to estimate motion.
  """

  def answer(given, times, strength):
    from vidgan_jax.video import block_motion  # loads libav

    video, mask = given["video"], given["mask"]
    # Before the first and after the last known frame nothing moves.
    out = average().answer(given, times, None)
    known = mask[:, :, 0, 0, 0] == 0
    for clip, places, made in zip(pixels.to_bytes(video), known, out):
      places = np.flatnonzero(places)
      if len(places) > 1:
        between = block_motion.filled(clip, places, strength)
        made[places[0] : places[-1] + 1] = pixels.to_floats(between)
    return np.where(mask > 0, out, video)

  return Baseline(answer=answer, tune=tune)


def _filter(
  graph: str | Callable[[Any], str],
  tune: tuple,
  memory: bool = False,
  relative: bool = False,
) -> Baseline:
  """A filter of ffmpeg.

  Args:
    graph: as on its command line, with {} for the strength.
    tune: strengths.
    memory: one frame depends on others.
    relative: strengths are multiples of `noise_level`.
  """
  text = graph.format if isinstance(graph, str) else graph

  def answer(given, times, strength):
    video = pixels.to_bytes(given["video"])
    if not relative:
      return pixels.to_floats(_ffmpeg(video, text(strength), memory))
    levels = noise_level(given) * strength
    clips = zip(video[:, None], levels)
    return pixels.to_floats(
      np.concatenate([_ffmpeg(clip, text(s), memory) for clip, s in clips])
    )

  return Baseline(answer=answer, tune=tune, needs="imageio_ffmpeg")


def _ffmpeg(video: np.ndarray, graph: str, memory: bool) -> np.ndarray:
  """Clips (B, T, H, W, 3) uint8 through a filter that keeps their frames.

  Clips share one process if the filter has no memory of other frames.
  """
  import imageio_ffmpeg

  shape = video.shape
  if not memory:
    video = video.reshape(1, -1, *shape[2:])
  raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"]
  size = ["-s", f"{shape[3]}x{shape[2]}", "-r", "25"]
  command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin"]
  command += [*raw, *size, "-i", "-", "-vf", graph, *raw, "-"]
  out = []
  for clip in video:
    done = subprocess.run(command, input=clip.tobytes(), capture_output=True)
    frames = np.frombuffer(done.stdout, np.uint8)
    if done.returncode or frames.size != clip.size:
      raise RuntimeError(
        f"ffmpeg -vf {graph} on {len(clip)} frames of {shape[3]} x {shape[2]} "
        f"gave {frames.size} bytes: {done.stderr.decode(errors='replace')}"
      )
    out.append(frames)
  return np.stack(out).reshape(shape)


# ---------------------------------------------------------------------- holes


def telea(tune: tuple[float, ...]) -> Baseline:
  """Fast marching (Telea 2004), of OpenCV; `tune`: radii in pixels."""
  return _inpaint("INPAINT_TELEA", tune)


def navier_stokes(tune: tuple[float, ...]) -> Baseline:
  """Bertalmio et al. 2001, of OpenCV; `tune`: radii in pixels."""
  return _inpaint("INPAINT_NS", tune)


def _inpaint(method: str, tune: tuple[float, ...]) -> Baseline:
  """Frame by frame; a frame that is unknown as a whole is `average`'s."""

  def answer(given, times, strength):
    import cv2

    video, mask = given["video"], given["mask"]
    out = average().answer(given, times, None)
    for index in np.ndindex(video.shape[:2]):
      hole = mask[index][..., 0] > 0
      if hole.any() and not hole.all():
        frame, flag = pixels.to_bytes(video[index]), getattr(cv2, method)
        made = cv2.inpaint(frame, hole.astype(np.uint8), strength, flag)
        out[index] = pixels.to_floats(made)
    return np.where(mask > 0, out, video)

  return Baseline(answer=answer, tune=tune, needs="cv2")


def temporal_mean() -> Baseline:
  """The mean over the frames where a pixel is known.

  Where it never is: the mean of all known pixels of the clip.
  """

  def answer(given, times, _):
    video, mask = given["video"], given["mask"]
    known = 1 - mask
    count = known.sum(1, keepdims=True)
    total = (video * known).sum(1, keepdims=True)
    total_known = np.maximum(known.sum((1, 2, 3), keepdims=True), 1)
    everywhere = (video * known).sum((1, 2, 3), keepdims=True) / total_known
    mean = np.where(count > 0, total / np.maximum(count, 1), everywhere)
    return np.where(mask > 0, mean, video)

  return Baseline(answer=answer)


# ----------------------------------------------------------------------- time


def average() -> Baseline:
  """A line in time between the known frames before and after, by pixel.

    x(t) = x_0 + (t - t_0) / (t_1 - t_0) (x_1 - x_0)

  Before the first known frame it is that one, after the last one likewise; a
  pixel that is never known is grey.
  """

  def answer(given, times, _):
    video, mask = given["video"], given["mask"]
    backwards = (x[:, ::-1] for x in (video, mask, times))
    _, then, before = _before(video, mask, times)
    _, later, after = (x[:, ::-1] for x in _before(*backwards))
    before = np.where(np.isnan(then), after, before)
    after = np.where(np.isnan(later), before, after)
    now = times[:, :, None, None, None]
    gap = np.where(later > then, later - then, np.inf)
    share = np.nan_to_num((now - then) / gap)
    out = np.nan_to_num(before + share * (after - before))
    return np.where(mask > 0, out, video)

  return Baseline(answer=answer)


def hold() -> Baseline:
  """The last known frame, by pixel; before the first one: grey."""

  def answer(given, times, _):
    _, _, last = _before(given["video"], given["mask"], times)
    return np.where(given["mask"] > 0, np.nan_to_num(last), given["video"])

  return Baseline(answer=answer)


def extrapolation() -> Baseline:
  """A line in time through the last two known frames, by pixel."""

  def answer(given, times, _):
    video, mask = given["video"], given["mask"]
    step, when, last = _before(video, mask, times)
    now = times[:, :, None, None, None]
    out = last + np.nan_to_num(step) * (now - when)
    return np.where(mask > 0, np.nan_to_num(out), video)

  return Baseline(answer=answer)


def _before(video, mask, times):
  """What is known last before each frame, or at it; NaN where nothing is.

  Args:
    video: (B, T, H, W, C).
    mask: (B, T, H, W, 1), 1 where it is unknown.
    times: (B, T) seconds.

  Returns:
    Change per second between the last two known values (B, T, H, W, C), the
    time of the last (B, T, H, W, 1), and the last (B, T, H, W, C).
  """
  step, last = (np.full_like(video[:, 0], np.nan) for _ in range(2))
  when = np.full_like(mask[:, 0], np.nan, dtype=np.float64)
  states = []
  for frame, hole, now in zip(
    *(np.moveaxis(x, 1, 0) for x in (video, mask, times))
  ):
    now = now[:, None, None, None]
    slope = (frame - last) / (now - when)
    step = np.where(hole > 0, step, slope)
    last = np.where(hole > 0, last, frame)
    when = np.where(hole > 0, when, now)
    states.append((step, when, last))
  return tuple(np.stack(x, 1) for x in zip(*states))


# ---------------------------------------------------------------------- light


def auto_levels(tune: tuple[float, ...]) -> Baseline:
  """Stretches brightness to black and white, alike in all frames.

  `tune`: percent of the pixels that are clipped at either end.
  """
  return Baseline(
    answer=lambda given, times, strength: _levels(given["video"], strength),
    tune=tune,
  )


def auto_levels_gamma(tune: tuple[float, ...], each: str = "clip") -> Baseline:
  """The same at 0.5 %, then x^strength with x in [0, 1].

  Args:
    tune: exponents.
    each: levels of each 'clip', or 'frame' where light flickers.
  """

  def answer(given, times, strength):
    axes = (1, 2, 3) if each == "clip" else (2, 3)
    x = np.clip((_levels(given["video"], 0.5, axes) + 1) / 2, 0, 1)
    return 2 * x**strength - 1

  return Baseline(answer=answer, tune=tune)


def stretch(tune: tuple[float, ...]) -> Baseline:
  """Stretches the histogram of each channel, alike in all frames.

  `tune`: percent of the pixels that are clipped at either end.
  """

  def answer(given, times, strength):
    return _levels(given["video"], strength, channels=True)

  return Baseline(answer=answer, tune=tune)


def _levels(video, percent, axes=(1, 2, 3), channels=False):
  """Puts the percentiles of luma, or of each channel, at -1 and 1.

    y = 2 (x - low) / (high - low) - 1

  Args:
    video: (B, T, H, W, 3).
    percent: of the values below `low`, and above `high`.
    axes: over which the percentiles are taken; by default of a clip.
    channels: of each channel rather than of luma.
  """
  luma = np.float32(pixels.LUMA["bt709"])
  values = video if channels else (video @ luma)[..., None]
  ends = np.percentile(values, [percent, 100 - percent], axes, keepdims=True)
  low, high = ends.astype(np.float32)
  return 2 * (video - low) / np.maximum(high - low, 1 / 255) - 1
