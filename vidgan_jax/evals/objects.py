"""Objects of the world of sprites, read back from pixels.

The world is known, so a picture can be judged by whether the world could have
drawn it. For every frame the reader fits the background from its known family,
finds where the rest could be an object, renders every shape there and fits
place, size, angle and colour to the pixels. Only what a rendering explains
counts as an object; the objects are linked over the frames and their paths
compared with the laws of motion. It knows nothing of the clip but its pixels
and the options of the world.

What it forgives: edges up to `EDGE` pixels wide, noise, errors up to `RESIDUAL`
of an object's energy, brightness that flickers from frame to frame.
What it does not: a patch, blob or blur, an object seen in less than half of the
frames, a background that is not of the world's family.

NumPy and SciPy only.
"""

from collections.abc import Mapping
import dataclasses
import functools
import math
from typing import Any

import numpy as np
from scipy import optimize

from vidgan_jax import errors
from vidgan_jax.data import sprites

# An object is accepted when the share of its energy (squared difference from
# the background) that its rendering leaves unexplained is at most this.
RESIDUAL = 0.08
# And when its edges are at most this wide, pixels: the world draws 1, a
# Gaussian blur of 0.8 pixels about 2.6, a blob 3 and more.
EDGE = 2.6
# The clip counts as explained when background and objects together leave at
# most the rest of the foreground's energy, in the median frame.
EXPLAINED = 0.75
# Least difference between object and background in its best channel, of 1; the
# world keeps 0.3.
CONTRAST = 0.2
# Largest median deviation of a frame from its fitted background, of 1, in the
# worst channel; Gaussian noise of 8/255 gives 0.05.
CLUTTER = 0.1
_NOISE = 0.04  # most noise that is taken off an object's residual
_MASK = 0.14  # brightness above the background that may be an object's
_HALO = 1.5  # pixels around an object that must look like the background
_STEPS = 4  # Gauss-Newton steps of a fit
_CHUNK = 16  # clips worked on together


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
  """What is seen in one clip (T frames, n objects).

  Attributes:
    count: objects seen in at least half of the frames.
    label: the class, as in the data set; -1 when no object was found.
    shape: its name; '' when no object was found.
    motion: the law of motion that the paths are nearest to, by name.
    colours: (n, 3) median RGB of each object, of 1.
    radii: (n,) median, pixels.
    positions: (T, n, 2) centres, pixels, (x, y); NaN where not seen.
    velocities: (T-1, n, 2) way to the next frame, pixels; NaN if not known.
    speed: mean length of the velocities, pixels a frame; NaN without objects.
    law: root mean square distance of the positions from the nearest path that
      the world's laws allow, pixels; NaN without objects.
    explained: share of the foreground's energy that the objects explain, in
      the median frame.
    edge: median width of the edges of all that looked like an object, accepted
      or not, pixels; NaN when nothing did. Sharp is 1, `EDGE` the most.
    confidence: probability of the class among all classes, 0 without objects.
  """

  count: int
  label: int
  shape: str
  motion: str
  colours: np.ndarray
  radii: np.ndarray
  positions: np.ndarray
  velocities: np.ndarray
  speed: float
  law: float
  explained: float
  edge: float
  confidence: float


def inspect(
  clips: np.ndarray, world: Mapping[str, Any] | sprites.World
) -> list[Finding]:
  """Finds the objects of clips.

  Args:
    clips: (N, T, H, W, 3) uint8, frames at the frame rate of the world.
    world: the options of the sprites that the clips should show.

  Returns:
    One finding a clip.

  Raises:
    ValueError: the clips do not fit the world.
  """
  if not isinstance(world, sprites.World):
    world = sprites.World(**world)
  clips = np.asarray(clips)
  size = world.resolution
  if (
    clips.ndim != 5
    or clips.dtype != np.uint8
    or clips.shape[2:] != (size, size, 3)
    or clips.shape[1] < 2
  ):
    raise errors.UserError(
      f"The oracle was given clips of shape {clips.shape} and type "
      f"{clips.dtype}; for this world of sprites it needs (N, T, {size}, "
      f"{size}, 3) uint8 with T of at least 2. Generate at the resolution of "
      "data.options.resolution, without resizing or cropping."
    )
  findings = []
  for start in range(0, len(clips), _CHUNK):
    video = clips[start : start + _CHUNK].astype(np.float32) / 255
    findings.extend(_inspect(video, world))
  return findings


def inspect_source(source: sprites.Source, steps: int) -> list[Finding]:
  """Finds the objects of all clips of a source, in their first frames."""
  examples = source.read(range(len(source)))
  clips = np.stack([e["video"][:steps] for e in examples])
  return inspect(clips, source.world)


def _inspect(video: np.ndarray, world: sprites.World) -> list[Finding]:
  """`inspect` on a few clips, (N, T, H, W, 3) float32 in [0, 1]."""
  clips, steps, size = video.shape[:3]
  back = _background(video, world).reshape(-1, size, size, 3)
  rest = video.reshape(-1, size, size, 3) - back
  frame, row, column, choice, rough = _candidates(rest, world)
  fit = _fit(rest, back, frame, row, column, choice, rough, world)
  noise = _noise(rest)
  left = fit.residual.min(1) - fit.noisy * noise[frame] ** 2
  good = np.flatnonzero(
    (left <= RESIDUAL) & (fit.edge <= EDGE) & (fit.contrast >= CONTRAST)
  )
  # Two candidates may end on one object: the better one stays.
  gap = np.linalg.norm(fit.place[good, None] - fit.place[good], axis=-1)
  same = (gap < 0.8 * world.radius[0] * size) & (
    frame[good, None] == frame[good]
  )
  rank = np.argsort(np.argsort(left[good], kind="stable"))
  good = good[~(same & (rank[:, None] > rank)).any(-1)]
  tracks, paths, radii = [], [], []
  for clip in range(clips):
    mine = good[frame[good] // steps == clip]
    tracks.append(_link(mine, frame[mine] % steps, fit, steps, world))
    for track in tracks[-1]:
      path = np.full((steps, 2), np.nan)
      path[list(track)] = fit.place[list(track.values())]
      paths.append(path)
      radii.append(np.median(fit.radius[list(track.values())]))
  paths = np.array(paths, np.float64).reshape(-1, steps, 2)
  laws = _laws(paths, np.array(radii), world)
  ends = np.cumsum([len(track) for track in tracks])
  findings = []
  for clip, end in enumerate(ends):
    mine = slice(end - len(tracks[clip]), end)
    frames = slice(clip * steps, (clip + 1) * steps)
    explained = _explained(rest[frames], noise[frames], tracks[clip], fit)
    alike = (frame // steps == clip) & (fit.residual.min(1) <= 2 * RESIDUAL)
    edge = float(np.median(fit.edge[alike])) if alike.any() else math.nan
    findings.append(
      _finding(
        tracks[clip],
        paths[mine].swapaxes(0, 1),
        laws[:, mine],
        explained,
        edge,
        fit,
        world,
      )
    )
  return findings


def _noise(rest: np.ndarray) -> np.ndarray:
  """Standard deviation of the noise of frames (F, H, W, 3) -> (F,)."""
  middle = np.median(np.abs(rest).reshape(len(rest), -1), -1)
  return np.minimum(middle / 0.6745, _NOISE)


def _top(image: np.ndarray) -> np.ndarray:
  """Largest of three channels, (..., 3) -> (...); faster than `max(-1)`."""
  return np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])


# --------------------------------------------------------------- background


def _background(video: np.ndarray, world: sprites.World) -> np.ndarray:
  """Fits the world's backgrounds, robustly: (N, T, H, W, 3) -> the same."""
  clips, steps, size = video.shape[:3]
  if world.shake:
    picture = video.reshape(-1, size, size, 3)
  else:
    # A still camera: the median over time hides most of what moves.
    picture = np.median(video, 1)
  flat = picture.reshape(len(picture), -1, 3)
  kinds = (
    sprites.BACKGROUNDS if world.background == "mixed" else (world.background,)
  )
  axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
  plane = [np.ones(size * size, np.float32)]
  if "gradient" in kinds:
    plane += [np.tile(axis, size), np.repeat(axis, size)]
  fits = [_robust(flat, np.stack(plane, -1)[None])]
  if "checker" in kinds:
    fits.append(_checker(picture, fits[0].reshape(picture.shape)))
    if "plain" not in kinds and "gradient" not in kinds:
      fits = fits[1:]
  costs = [_top(np.abs(flat - fit)).clip(0, 0.1).mean(-1) for fit in fits]
  best = np.argmin(costs, 0)
  back = np.choose(best[:, None, None], fits)
  back = back.reshape(clips, -1, size, size, 3)
  # Brightness may drift from frame to frame.
  drift = np.median(video - back, (2, 3), keepdims=True)
  return back + drift


def _robust(flat: np.ndarray, basis: np.ndarray) -> np.ndarray:
  """Least absolute, then clipped squares: (F, P, 3) on (F or 1, P, K)."""
  guess = np.median(flat, 1, keepdims=True)
  outer = basis[..., :, None] * basis[..., None, :]
  ridge = 1e-4 * np.eye(basis.shape[-1], dtype=np.float32)
  for step in range(10):
    error = _top(np.abs(flat - guess))
    if step < 6:
      weight = 1 / np.maximum(error, 0.02)
    else:
      weight = (1 - (error / 0.12) ** 2).clip(0) ** 2 + 1e-6
    weight /= weight.mean(-1, keepdims=True)
    pixels = flat.shape[1]
    if len(basis) == 1:
      gram = (weight @ outer[0].reshape(pixels, -1)).reshape(-1, *ridge.shape)
      right = (weight[..., None] * flat).swapaxes(1, 2) @ basis[0]
      right = right.swapaxes(1, 2)
    else:
      gram = np.einsum("fp,fpkl->fkl", weight, outer)
      right = (weight[..., None] * basis).swapaxes(1, 2) @ flat
    guess = basis @ np.linalg.solve(gram + pixels * ridge, right)
  return guess


def _checker(picture: np.ndarray, plane: np.ndarray) -> np.ndarray:
  """Fits a checkerboard to (F, H, W, 3); `plane` is a smooth fit to it."""
  size = picture.shape[1]
  cell = size / sprites.CELLS
  centre = np.arange(size) + 0.5
  count = len(picture)
  # A board shifted by one cell is the same board with its colours swapped.
  coarse = np.arange(0, cell, 0.5)
  wave = _unit(sprites.checker_wave(centre - coarse[:, None], size))
  fit = plane
  for limit, offsets in (
    (0.3, None),
    (0.3, np.arange(-5, 6) / 10),
    (0.12, np.arange(-5, 6) / 25),
  ):
    error = picture - fit
    good = _top(np.abs(error))[..., None] < limit
    part = np.where(good, picture - _middle(picture, good), 0)
    part = part.transpose(0, 3, 1, 2)  # (F, 3, H, W)
    if offsets is None:
      power = ((wave @ part @ wave.T) ** 2).sum(1)  # (F, P, P)
      row, column = np.divmod(power.reshape(count, -1).argmax(-1), len(coarse))
      phase = np.stack([coarse[column], coarse[row]], -1)  # (F, 2)
    else:
      near = phase[:, :, None] + offsets  # (F, 2, P)
      waves = _unit(sprites.checker_wave(centre - near[..., None], size))
      power = (
        (waves[:, None, 1] @ part @ waves[:, None, 0].swapaxes(-1, -2)) ** 2
      ).sum(1)
      row, column = np.divmod(power.reshape(count, -1).argmax(-1), len(offsets))
      phase = np.stack(
        [near[np.arange(count), 0, column], near[np.arange(count), 1, row]], -1
      )
    x, y = sprites.checker_wave(centre - phase[..., None], size).swapaxes(0, 1)
    board = (y[:, :, None] * x[:, None, :]).reshape(count, -1, 1)
    basis = np.concatenate([np.ones_like(board), board], -1)
    fit = _robust(picture.reshape(count, -1, 3), basis)
    fit = fit.reshape(picture.shape)
  return fit.reshape(count, -1, 3)


def _unit(wave: np.ndarray) -> np.ndarray:
  return wave / np.sqrt((wave * wave).sum(-1, keepdims=True))


def _middle(picture: np.ndarray, good: np.ndarray) -> np.ndarray:
  total = (picture * good).sum((1, 2), keepdims=True)
  return total / np.maximum(good.sum((1, 2), keepdims=True), 1)


# --------------------------------------------------------------- candidates


@dataclasses.dataclass(frozen=True)
class _Bank:
  """Rendered templates on windows of (2 * half + 1)^2 pixels.

  Attributes:
    half: half of the window's side, pixels.
    basis: (pixels, K, M) orthonormal parts of M templates' K paints.
    halo: (pixels, L) the different supports of templates.
    support: (M,) which support a template has.
    first: (S,) the first template of every shape.
    start: (M, 4) x, y from the window's middle, radius, angle.
  """

  half: int
  basis: np.ndarray
  halo: np.ndarray
  support: np.ndarray
  first: np.ndarray
  start: np.ndarray


# The turn after which a shape looks the same, degrees.
_SYMMETRY = {
  "disc": 0,
  "ring": 0,
  "square": 90,
  "cross": 90,
  "triangle": 120,
  "diamond": 180,
  "H": 180,
}


def _paints(world: sprites.World) -> int:
  return 1 if world.texture == "flat" else 2


@functools.lru_cache(maxsize=8)
def _bank(world: sprites.World) -> _Bank:
  """Templates of all shapes, radii, angles and sub-pixel places."""
  size = world.resolution
  low, high = (r * size for r in world.radius)
  half = math.ceil(high + _HALO)
  radii = np.linspace(low, high, math.ceil((high - low) / 0.9) + 1)
  shifts = (0.0,) if world.rotation else (-0.25, 0.25)
  grid = np.arange(-half, half + 1, dtype=np.float32)
  bases, supports, start, first, halos = [], [], [], [], {}
  for shape in world.shapes:
    first.append(len(start))
    period = _SYMMETRY.get(shape, 360)
    if world.texture != "flat":  # stripes look the same after half a turn
      period = {0: 180, 90: 180, 120: 360}.get(period, period)
    turns = math.ceil(period / 20) if world.rotation else 1
    for radius in radii:
      for dx in shifts:
        for dy in shifts:
          far = np.hypot(grid - dx, grid[:, None] - dy)
          halo = (far <= radius + _HALO).astype(np.float32).ravel()
          key = (radius, dx, dy)
          halos.setdefault(key, (len(halos), halo))
          for turn in range(max(1, turns)):
            angle = math.radians(turn * period / max(1, turns))
            x, y = np.broadcast_arrays(
              (grid - dx) / radius, (grid[:, None] - dy) / radius
            )
            alpha, paint = sprites.appearance(
              shape,
              _texture(world),
              world.shading,
              radius,
              x[None],
              y[None],
              np.array([angle]),
            )
            parts = (alpha[..., None] * paint[..., : _paints(world)])[0]
            q, _ = np.linalg.qr(
              parts.reshape(-1, _paints(world)) * halo[:, None]
            )
            bases.append(q)
            supports.append(halos[key][0])
            start.append((dx, dy, radius, angle))
  return _Bank(
    half,
    np.stack(bases, -1).astype(np.float32),
    np.stack([h for _, h in halos.values()], -1),
    np.array(supports),
    np.array(first),
    np.array(start, np.float32),
  )


def _texture(world: sprites.World) -> str:
  """The texture to render: stripes contain the flat paint as a sum."""
  return "flat" if world.texture == "flat" else "stripes"


def _candidates(
  rest: np.ndarray, world: sprites.World
) -> tuple[np.ndarray, ...]:
  """Places that may be objects.

  Args:
    rest: (F, H, W, 3) frames without their background.
    world: the options.

  Returns:
    frame (K,), row (K,), column (K,), the best template of every shape (K, S),
    and the share of the energy that it leaves (K, S).
  """
  bank = _bank(world)
  size, half = world.resolution, bank.half
  low, high = (r * size for r in world.radius)
  clutter = np.median(_top(np.abs(rest)).reshape(len(rest), -1), -1)
  mask = (_top(rest) > _MASK) & (clutter <= CLUTTER)[:, None, None]
  # Centres are where a disc holds enough of the mask, evenly around.
  reach = math.ceil(high)
  grid = np.arange(-reach, reach + 1)
  disc = np.hypot(grid, grid[:, None]) <= (low + high) / 2
  fill = _correlate(mask, disc)
  along = (_correlate(mask, disc * g) for g in (grid, grid[:, None]))
  offset = np.hypot(*along)
  centre = np.arange(size) + 0.5
  inside = (centre > low - 0.5) & (centre < size - low + 0.5)
  place = (
    (fill >= 0.15 * disc.sum())
    & (offset <= 0.45 * high * fill)
    & inside
    & inside[:, None]
  )
  frame, row, column = np.nonzero(place)
  shapes = len(world.shapes)
  if not len(frame):
    none = np.zeros(0, np.int64)
    return (
      none,
      none,
      none,
      np.zeros((0, shapes), np.int64),
      np.zeros((0, shapes), np.float32),
    )
  power = np.einsum("fhwc,fhwc->fhw", rest, rest)[..., None]
  energy = _windows(power, frame, row, column, half)[..., 0] @ bank.halo
  energy = energy[:, bank.support]
  known = np.zeros_like(energy)
  for channel in range(3):
    window = _windows(rest[..., channel, None], frame, row, column, half)
    for basis in np.moveaxis(bank.basis, 1, 0):
      dots = window[..., 0] @ basis
      dots *= dots
      known += dots
  # What a template explains, less twice what it leaves around it.
  score = 3 * known - 2 * energy
  best = np.stack(
    [
      first + score[:, first:last].argmax(-1)
      for first, last in zip(bank.first, [*bank.first[1:], score.shape[1]])
    ],
    -1,
  )
  each = np.arange(len(frame))
  left = 1 - (
    np.take_along_axis(known, best, 1)
    / np.maximum(np.take_along_axis(energy, best, 1), 1e-6)
  )
  top = np.take_along_axis(score, best, 1).max(-1)
  # Greedy choice of the best places, at least a small radius apart.
  board = np.full(mask.shape, -np.inf, np.float32)
  number = np.zeros(mask.shape, np.int64)
  good = (top > 0) & (left.min(-1) < 0.5)
  board[frame[good], row[good], column[good]] = top[good]
  number[frame, row, column] = each
  chosen = []
  pixel = np.arange(size)
  for _ in range(world.objects[1] + 2):
    spot = board.reshape(len(board), -1).argmax(-1)
    y, x = np.divmod(spot, size)
    some = np.flatnonzero(np.isfinite(board[np.arange(len(board)), y, x]))
    if not len(some):
      break
    chosen.append(number[some, y[some], x[some]])
    near = (
      (pixel[:, None] - y[:, None, None]) ** 2 + (pixel - x[:, None, None]) ** 2
    ) < (0.9 * low) ** 2
    board[near] = -np.inf
  kept = np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)
  return frame[kept], row[kept], column[kept], best[kept], left[kept]


def _correlate(mask: np.ndarray, kernel: np.ndarray) -> np.ndarray:
  """Correlation of (F, H, W) with an odd kernel, zeros outside."""
  half, size = kernel.shape[0] // 2, mask.shape[1]
  padded = np.pad(mask.astype(np.float32), ((0, 0), (half, half), (half, half)))
  # A product of the rows with a band matrix, summed over the kernel's rows.
  out = np.zeros(mask.shape, np.float32)
  for i, line in enumerate(kernel.astype(np.float32)):
    band = np.zeros((size + 2 * half, size), np.float32)
    for j, value in enumerate(line):
      band[np.arange(size) + j, np.arange(size)] = value
    out += padded[:, i : i + size] @ band
  return out


def _windows(
  image: np.ndarray,
  frame: np.ndarray,
  row: np.ndarray,
  column: np.ndarray,
  half: int,
) -> np.ndarray:
  """Square windows around pixels: (F, H, W, C) -> (K, pixels, C)."""
  channels = image.shape[-1]
  padded = np.pad(image, ((0, 0), (half, half), (half, half), (0, 0)))
  view = np.lib.stride_tricks.sliding_window_view(
    padded.reshape(*padded.shape[:2], -1),
    (2 * half + 1, (2 * half + 1) * channels),
    (1, 2),
  )
  return view[frame, row, column * channels].reshape(
    len(frame), (2 * half + 1) ** 2, channels
  )


# ---------------------------------------------------------------------- fit


@dataclasses.dataclass(frozen=True)
class _Fit:
  """Candidates after fitting (K candidates, S shapes).

  Attributes:
    place: (K, 2) x and y of the best shape, pixels of the picture.
    radius: (K,) pixels.
    edge: (K,) width of its edges, pixels.
    residual: (K, S) share of the energy that the best rendering leaves.
    noisy: (K,) what noise of variance 1 adds to the residual.
    contrast: (K,) brightness above the background in the best channel.
    colour: (K, 3) its mean.
    ink: (K, H', W', 3) what the best rendering adds to the background.
    corner: (K, 2) row and column of that window; may lie outside the picture.
  """

  place: np.ndarray
  radius: np.ndarray
  edge: np.ndarray
  residual: np.ndarray
  noisy: np.ndarray
  contrast: np.ndarray
  colour: np.ndarray
  ink: np.ndarray
  corner: np.ndarray


def _fit(
  rest: np.ndarray,
  back: np.ndarray,
  frame: np.ndarray,
  row: np.ndarray,
  column: np.ndarray,
  choice: np.ndarray,
  rough: np.ndarray,
  world: sprites.World,
) -> _Fit:
  """Fits place, size, angle, edge and colour of every likely shape."""
  bank = _bank(world)
  half, count = bank.half, len(frame)
  side = 2 * half + 1
  window = _windows(rest, frame, row, column, half)
  behind = _windows(back, frame, row, column, half)
  # The same pixels for all shapes: a circle around the best template.
  begin = bank.start[choice]  # (K, S, 4)
  best = begin[np.arange(count), rough.argmin(1)] if count else begin[:, 0]
  grid = np.arange(-half, half + 1, dtype=np.float32)
  far = np.hypot(
    grid - best[:, 0, None, None], grid[:, None] - best[:, 1, None, None]
  )
  halo = (far <= best[:, 2, None, None] + _HALO + 0.3).astype(np.float32)
  halo = halo.reshape(count, side * side, 1)
  energy = np.maximum((halo * window**2).sum((1, 2)), 1e-6)
  residual = np.maximum(rough, 1e-3)
  place, radius = best[:, :2].astype(np.float32), best[:, 2].copy()
  contrast, edge = np.zeros((2, count), np.float32)
  colour = np.zeros((count, 3), np.float32)
  ink = np.zeros((count, side * side, 3), np.float32)
  lowest = np.full(count, np.inf, np.float32)
  likely = rough <= 2 * rough.min(1, keepdims=True) + 0.1
  for s, shape in enumerate(world.shapes):
    k = np.flatnonzero(likely[:, s])
    if not len(k):
      continue
    problem = _Problem(shape, world, grid, window[k], behind[k], halo[k])
    start = np.concatenate([begin[k, s], np.full((len(k), 1), 1.1)], 1)
    answer = problem.solve(start.astype(np.float32))
    error, alpha, added = problem.draw(answer)
    residual[k, s] = (error**2).sum((1, 2)) / energy[k]
    win = residual[k, s] < lowest[k]
    k, answer, alpha, added = k[win], answer[win], alpha[win], added[win]
    lowest[k] = residual[k, s]
    place[k], radius[k], edge[k] = answer[:, :2], answer[:, 2], answer[:, 4]
    ink[k] = added
    area = np.maximum(alpha.sum(1), 1e-6)
    contrast[k] = (added.sum(1) / area).max(-1)
    colour[k] = (added + alpha * behind[k]).sum(1) / area
  place = place + np.stack([column, row], -1) + 0.5
  return _Fit(
    place,
    radius,
    edge,
    residual,
    3 * halo.sum((1, 2)) / energy,
    contrast,
    colour,
    ink.reshape(count, side, side, 3),
    np.stack([row, column], -1) - half,
  )


class _Problem:
  """Least squares for many windows that show one shape (K windows)."""

  def __init__(self, shape, world, grid, window, behind, halo):
    self._shape, self._world, self._grid = shape, world, grid
    self._window, self._behind, self._halo = window, behind, halo
    low, high = (r * world.resolution for r in world.radius)
    half = grid[-1]
    self._low = np.array([-half, -half, 0.95 * low, -np.inf, 1], np.float32)
    self._high = np.array(
      [half, half, 1.05 * high, np.inf, 2 * EDGE], np.float32
    )
    # Radians count as pixels on a middle circle.
    self._unit = np.array([1, 1, 1, 2 / (low + high), 1], np.float32)
    free = [0, 1, 2, 4]
    turns = _SYMMETRY.get(shape, 360) or world.texture != "flat"
    if world.rotation and turns:
      free.append(3)
    self._free = free

  def draw(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Renders with the best colours.

    Args:
      p: (K, 5) x, y, radius, angle, edge.

    Returns:
      Error inside the halo (K, pixels, 3), coverage (K, pixels, 1), and what
      the object adds to the background (K, pixels, 3).
    """
    radius = p[:, 2, None, None]
    x = (self._grid - p[:, 0, None, None]) / radius
    y = (self._grid[:, None] - p[:, 1, None, None]) / radius
    x, y = np.broadcast_arrays(x, y)
    world = self._world
    alpha, paint = sprites.appearance(
      self._shape,
      _texture(world),
      world.shading,
      radius,
      x,
      y,
      p[:, 3],
      p[:, 4, None, None],
    )
    count = len(p)
    alpha = alpha.reshape(count, -1, 1)
    paints = _paints(world)
    basis = alpha * paint[..., :paints].reshape(count, -1, paints)
    # pixel - background = alpha * (ink - background); ink is linear in colour.
    hidden = alpha * self._behind
    target = (self._window + hidden) * self._halo
    inner = (basis * self._halo).swapaxes(1, 2)
    gram = inner @ basis + 1e-4 * np.eye(paints, dtype=np.float32)
    added = basis @ np.linalg.solve(gram, inner @ target) - hidden
    return (self._window - added) * self._halo, alpha, added

  def solve(self, p: np.ndarray) -> np.ndarray:
    """Gauss-Newton with numerical slopes: start (K, 5) -> answer (K, 5)."""
    count = len(p)
    delta = np.float32(0.05)
    error = self.draw(p)[0].reshape(count, -1)
    cost = (error**2).sum(-1)
    damping = np.full(count, 0.02, np.float32)
    for _ in range(_STEPS):
      slopes = []
      for j in self._free:
        moved = p.copy()
        moved[:, j] += delta * self._unit[j]
        slopes.append((self.draw(moved)[0].reshape(count, -1) - error) / delta)
      slope = np.stack(slopes, 1)  # (K, J, pixels * 3)
      gram = slope @ slope.swapaxes(1, 2)
      trace = np.trace(gram, axis1=1, axis2=2) / len(self._free)
      gram += (damping * trace + 1e-6)[:, None, None] * np.eye(
        len(self._free), dtype=np.float32
      )
      step = np.linalg.solve(gram, -slope @ error[..., None])[..., 0]
      step = step.clip(-0.7, 0.7)
      trial = p.copy()
      trial[:, self._free] += step * self._unit[self._free]
      trial = trial.clip(self._low, self._high)
      new_error = self.draw(trial)[0].reshape(count, -1)
      new_cost = (new_error**2).sum(-1)
      better = new_cost < cost
      p = np.where(better[:, None], trial, p)
      error = np.where(better[:, None], new_error, error)
      cost = np.where(better, new_cost, cost)
      damping = np.where(better, damping * 0.3, damping * 10)
    return p


# -------------------------------------------------------------------- clips


def _finding(
  tracks: list[dict[int, int]],
  positions: np.ndarray,
  laws: np.ndarray,
  explained: float,
  edge: float,
  fit: _Fit,
  world: sprites.World,
) -> Finding:
  """Sums the evidence of a clip's tracks (n), their positions (T, n, 2)."""
  velocities = np.diff(positions, axis=0)
  if not tracks:
    return Finding(
      count=0,
      label=-1,
      shape="",
      motion="",
      colours=np.zeros((0, 3)),
      radii=np.zeros(0),
      positions=positions,
      velocities=velocities,
      speed=math.nan,
      law=math.nan,
      explained=explained,
      edge=edge,
      confidence=0.0,
    )
  length = np.hypot(velocities[..., 0], velocities[..., 1])
  length = length[np.isfinite(length)]
  law = np.sqrt(np.square(laws).mean(-1))
  motion = int(law.argmin())
  seen = [list(track.values()) for track in tracks]
  used = [k for track in seen for k in track]
  evidence = -np.log(fit.residual[used] + 0.01).sum(0)
  label = shape = int(evidence.argmax())
  if world.label == "shape_motion":
    label = shape * len(sprites.MOTIONS) + motion
  return Finding(
    count=len(tracks),
    label=label,
    shape=world.shapes[shape],
    motion=sprites.MOTIONS[motion] if world.motion == "mixed" else world.motion,
    colours=np.array([np.median(fit.colour[k], 0) for k in seen]),
    radii=np.array([np.median(fit.radius[k]) for k in seen]),
    positions=positions,
    velocities=velocities,
    speed=float(length.mean()) if len(length) else math.nan,
    law=float(law[motion]),
    explained=explained,
    edge=edge,
    confidence=float(1 / np.exp(evidence - evidence.max()).sum()),
  )


def _reach(world: sprites.World) -> float:
  """Longest way of an object in one frame, pixels, with a margin."""
  fall = 0.0
  if world.motion != "straight":
    fall = math.sqrt(2 * world.gravity * (1 - 2 * world.radius[0]))
  fast = math.hypot(world.speed[1], fall) * world.resolution / world.fps
  return 1.2 * fast + 1 + 2 * world.shake


def _link(
  mine: np.ndarray,
  times: np.ndarray,
  fit: _Fit,
  steps: int,
  world: sprites.World,
) -> list[dict[int, int]]:
  """Tracks {frame: candidate} that are seen in at least half of the frames."""
  reach = _reach(world)
  tracks: list[dict[int, int]] = []
  for t in range(steps):
    seen = mine[times == t]
    if not len(seen):
      continue
    cost = np.full((len(tracks), len(seen)), 1e6)
    for i, track in enumerate(tracks):
      last = max(track)
      before = [s for s in track if s < last]
      guess = fit.place[track[last]]
      if before:
        way = (guess - fit.place[track[max(before)]]) / (last - max(before))
        guess = guess + way * (t - last)
      gone = np.hypot(*(fit.place[seen] - fit.place[track[last]]).T)
      miss = np.hypot(*(fit.place[seen] - guess).T)
      size = np.abs(fit.radius[seen] - fit.radius[track[last]])
      tint = np.abs(fit.colour[seen] - fit.colour[track[last]]).sum(-1)
      cost[i] = np.where(
        gone <= reach * (t - last), miss + 4 * size + 4 * tint, 1e6
      )
    rows, columns = optimize.linear_sum_assignment(cost)
    taken = set()
    for i, j in zip(rows, columns):
      if cost[i, j] < 1e6:
        tracks[i][t] = int(seen[j])
        taken.add(j)
    tracks.extend({t: int(k)} for j, k in enumerate(seen) if j not in taken)
  return [track for track in tracks if 2 * len(track) >= steps]


def _explained(
  rest: np.ndarray, noise: np.ndarray, tracks: list[dict[int, int]], fit: _Fit
) -> float:
  """Share of the foreground's energy that the objects explain."""
  size = rest.shape[1]
  side = fit.ink.shape[1]
  shares = []
  for t, picture in enumerate(rest):
    left = picture.copy()
    for track in tracks:
      if t not in track:
        continue
      k = track[t]
      row, column = fit.corner[k]
      a, b = max(row, 0), min(row + side, size)
      c, d = max(column, 0), min(column + side, size)
      left[a:b, c:d] -= fit.ink[k, a - row : b - row, c - column : d - column]
    known = picture.size * float(noise[t]) ** 2
    total = float(np.vdot(picture, picture)) - known
    error = max(0.0, float(np.vdot(left, left)) - known)
    # An empty picture has nothing to explain.
    shares.append(1 - error / total if total > 1e-3 * picture.size else 0.0)
  return max(0.0, float(np.median(shares)))


def _laws(
  paths: np.ndarray, radii: np.ndarray, world: sprites.World
) -> np.ndarray:
  """Distance of paths from the nearest that each law of the world allows.

  Args:
    paths: (K, T, 2) positions, pixels; NaN where not known.
    radii: (K,) of the objects, pixels.
    world: the options.

  Returns:
    (motions of the world, K) root mean square over the known positions, pixels.
    The camera's shake is not part of a law and adds to the distance.
  """
  mixed = world.motion == "mixed"
  motions = sprites.MOTIONS if mixed else (world.motion,)
  if not len(paths):
    return np.zeros((len(motions), 0))
  size = world.resolution
  t = np.arange(paths.shape[1])[:, None, None, None] / world.fps
  low = (radii + world.shake)[:, None, None]
  high = np.maximum(size - low, low + 1)
  span = high - low

  def straight(a, b):
    place = (b * 2 * span + a * t) % (2 * span)
    return low + np.minimum(place, 2 * span - place)

  fall = world.gravity * size

  def falling(a, b):
    up = a * np.sqrt(2 * fall * span)
    tau = (b * 2 * up / fall + t) % (2 * up / fall)
    return high - (up - fall * tau / 2) * tau

  fast = 1.3 * _reach(world) * world.fps
  x, y = np.moveaxis(paths, 2, 0)[..., None, None].swapaxes(1, 2)
  flat = _search(straight, x, 0.0, fast)
  return np.sqrt(
    [
      flat
      + (
        _search(straight, y, 0.0, fast)
        if motion == "straight"
        else _search(falling, y, 0.2, 1.0)
      )
      for motion in motions
    ]
  )


def _search(model, value: np.ndarray, least: float, most: float) -> np.ndarray:
  """Least squares of model(a, b), a in [least, most], b a phase in [0, 1).

  Args:
    model: (K, A, 1) and (K, 1, B) -> (T, K, A, B).
    value: (T, K, 1, 1), NaN where not known.
    least: bound of a.
    most: bound of a.

  Returns:
    (K,) the least mean square over the known values.
  """
  known = np.isfinite(value)
  value = np.where(known, value, 0)
  weight = known / known.sum(0)
  count = value.shape[1]
  each = np.arange(count)
  cells = 40
  a = np.tile(np.linspace(least, most, cells), (count, 1))
  b = np.tile(np.arange(cells) / cells, (count, 1))
  wide, tall = (most - least) / (cells - 1), 1 / cells
  best = np.full(count, np.inf)
  for _ in range(6):
    error = model(a[:, :, None], b[:, None, :]) - value
    error = (weight * error * error).sum(0).reshape(count, -1)
    i = error.argmin(-1)
    best = np.minimum(best, error[each, i])
    row, column = np.divmod(i, b.shape[1])
    near = np.linspace(-1, 1, 7)
    a = (a[each, row, None] + wide * near).clip(least, most)
    b = b[each, column, None] + tall * near
    wide, tall = wide / 2.5, tall / 2.5
  return best
