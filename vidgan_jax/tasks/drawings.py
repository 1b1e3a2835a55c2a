"""Drawings that a user gives -> maps of every frame: numbers of classes.

A drawing is read by its colours, or holds the numbers themselves. One drawing
moves: what is on the ground drifts along straight lines and bounces off the
border, as sprites do. Between several drawings each thing moves in a straight
line from its place in one to that in the next.

Letters: H W pixels of a drawing, T times, n classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy import optimize

from vidgan_jax import errors

VOID = 255  # Of a pixel whose class nobody knows.
NEAR = 24  # Levels of a channel that a colour may be from the palette's.
SHARE = 0.01  # Of a frame's pixels that may be farther from all colours.
SPEED = (0.3, 0.7)  # Of what drifts: sides of the picture a second.


class Key(NamedTuple):
  """One drawing."""

  picture: np.ndarray  # (H, W, 3) uint8 colours, or (H, W) numbers of classes
  seconds: float = 0.0  # when it is to be seen
  name: str = "the map"


def numbers(
  picture: np.ndarray,
  classes: Sequence[str],
  colours: np.ndarray,
  name: str = "the map",
) -> np.ndarray:
  """Numbers of classes of a drawing.

  Args:
    picture: (..., H, W, 3) levels, or (..., H, W) uint8 numbers.
    classes: their names.
    colours: (n, 3) levels, the palette.
    name: for messages.

  Returns:
    (..., H, W) uint8; VOID where it is that.

  Raises:
    UserError: a number that no class has, or colours that are not the
      palette's.
  """
  if picture.shape[-1] != 3 or picture.ndim == 2:
    known = ", ".join(f"{i} {c}" for i, c in enumerate(classes))
    wrong = np.setdiff1d(picture, [*range(len(classes)), VOID])
    if wrong.size:
      raise errors.UserError(
        f"{name} holds the class {', '.join(map(str, wrong[:5]))}, which this "
        f"run was not trained on: it knows {known}, and {VOID} for void."
      )
    return picture.astype(np.uint8)
  away = np.stack(
    [abs(picture - colour).max(-1) for colour in colours.astype(np.float32)]
  )
  far = away.min(0) > NEAR
  if far.mean() > SHARE:
    names = ", ".join(
      f"{c} {tuple(map(int, colour))}" for c, colour in zip(classes, colours)
    )
    odd = picture[far].reshape(-1, 3).astype(int)
    # At a border between two colours lie mixtures of them.
    raise errors.UserError(
      f"{name}: {far.mean():.0%} of the pixels are more than {NEAR} levels "
      "from every colour of the palette, as "
      f"{tuple(odd[len(odd) // 2].tolist())}; "
      f"the palette is {names}. Paint with these colours, a brush without soft "
      "borders (antialiasing), and save it as PNG, not as JPEG or video."
    )
  return away.argmin(0).astype(np.uint8)


def resize(maps: np.ndarray, height: int, width: int, n: int) -> np.ndarray:
  """Majorities: (T, H, W) numbers -> (T, height, width); VOID is one of n+1."""
  t, h, w = maps.shape
  if (h, w) == (height, width):
    return maps
  rows, columns = _cells(h, height), _cells(w, width)
  best = np.full((t, height, width), -1.0, np.float32)
  out = np.zeros((t, height, width), np.uint8)
  for k in (*range(n), VOID):
    share = rows @ (maps == k).astype(np.float32) @ columns.T
    more = share > best + 1e-6
    best, out = np.where(more, share, best), np.where(more, np.uint8(k), out)
  return out


def shrink(picture: np.ndarray, height: int, width: int) -> np.ndarray:
  """Means of equal cells: (H, W, C) -> (height, width, C) float32."""
  rows = _cells(picture.shape[0], height)
  columns = _cells(picture.shape[1], width)
  return np.einsum("ah,hwc,bw->abc", rows, picture.astype(np.float32), columns)


def _cells(size: int, cells: int) -> np.ndarray:
  """How much of each of `cells` equal cells lies in each pixel."""
  edges, pixel = np.arange(cells + 1) * size / cells, np.arange(size)
  inside = np.minimum(edges[1:, None], pixel + 1) - np.maximum(
    edges[:-1, None], pixel
  )
  return (np.maximum(inside, 0) * cells / size).astype(np.float32)


def film(
  keys: Sequence[tuple[float, np.ndarray]],
  times: np.ndarray,
  seed: int,
  still: bool = False,
) -> np.ndarray:
  """Maps at all times of maps at some.

  Args:
    keys: (seconds, (H, W) uint8) by rising time, all of one size.
    times: (T,) seconds, that rise.
    seed: of how a single one drifts.
    still: nothing moves: each is seen until half-way to the next.

  Returns:
    (T, H, W) uint8.
  """
  if len(keys) == 1 and not still:
    return drift(keys[0][1], np.asarray(times) - times[0], seed)
  at = np.array([seconds for seconds, _ in keys])
  pairs = {}
  out = []
  for t in np.asarray(times, float):
    after = int(np.searchsorted(at, t, "right"))
    i, j = max(after - 1, 0), min(after, len(keys) - 1)
    share = (t - at[i]) / (at[j] - at[i]) if i != j else 0.0
    share = min(max(share, 0.0), 1.0)
    if still or i == j:
      out.append(keys[j if share >= 0.5 else i][1])
      continue
    if (i, j) not in pairs:
      pairs[i, j] = _Between(keys[i][1], keys[j][1])
    out.append(pairs[i, j](share))
  return np.stack(out)


def things(
  map_: np.ndarray, solid: bool = False
) -> tuple[int, list[np.ndarray]]:
  """The ground of a map, its most frequent class, and what is on it.

  A thing is a connected region of another class, with all that lies within.

  Args:
    map_: (H, W).
    solid: ground within a thing belongs to it.

  Returns:
    The class, and (H, W) bool of each thing, the largest first.
  """
  ground = int(np.bincount(map_[map_ != VOID], minlength=1).argmax())
  regions = []
  for k in np.setdiff1d(map_, [ground, VOID]):
    labels, count = ndimage.label(map_ == k)
    regions += [labels == i + 1 for i in range(count)]
  out, taken = [], np.zeros(map_.shape, bool)
  for region in sorted(regions, key=lambda r: -r.sum()):
    if taken[region].any():
      continue
    inside = ndimage.binary_fill_holes(region) & (map_ != VOID)
    out.append(inside if solid else inside & (map_ != ground))
    taken |= inside
  return ground, out


def drift(
  map_: np.ndarray,
  times: np.ndarray,
  seed: int,
  picture: np.ndarray | None = None,
) -> np.ndarray:
  """Things on straight lines that bounce off the border.

  Args:
    map_: (H, W) at time 0.
    times: (T,) seconds.
    seed: of the velocities, `SPEED` in a random direction.
    picture: (H, W, 3) uint8 that is moved in place of the map, on white.

  Returns:
    (T, H, W) uint8, or (T, H, W, 3).
  """
  ground, parts = things(map_, solid=picture is not None)
  rng = np.random.default_rng(seed)
  empty, values = _empty(map_, ground), map_
  if picture is not None:
    empty, values = np.full_like(picture, 255), picture
  out = np.stack([empty] * len(times))
  for part in parts:
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(*SPEED)
    way = []
    for axis, turn in enumerate((np.sin(angle), np.cos(angle))):
      where = np.flatnonzero(part.any(1 - axis))
      first, room = where[0], part.shape[axis] - 1 - where[-1] + where[0]
      # A straight path folded at both walls.
      path = first + turn * speed * max(map_.shape) * times
      path = path % (2 * room) if room else 0 * times
      way.append(np.minimum(path, 2 * room - path) - first * (room > 0))
    for canvas, dy, dx in zip(out, *np.round(way).astype(int)):
      _paste(canvas, values, part, dy, dx)
  return out


class _Between:
  """Maps between two: (share of the way) -> (H, W)."""

  def __init__(self, first: np.ndarray, last: np.ndarray):
    self._maps = first, last
    self._parts = [things(m) for m in (first, last)]
    kinds = [
      [
        (int(np.bincount(m[p]).argmax()), np.array(ndimage.center_of_mass(p)))
        for p in parts
      ]
      for m, (_, parts) in zip(self._maps, self._parts)
    ]
    # Each goes to the nearest of its class, one to one.
    cost = np.array(
      [
        [np.hypot(*(b - a)) if j == k else 1e6 for k, b in kinds[1]]
        for j, a in kinds[0]
      ]
    ).reshape(len(kinds[0]), len(kinds[1]))
    self._pairs = {
      (0, i): (1, j)
      for i, j in zip(*optimize.linear_sum_assignment(cost))
      if cost[i, j] < 1e6
    }
    self._pairs |= {b: a for a, b in self._pairs.items()}
    self._centres = {
      (side, i): centre
      for side in (0, 1)
      for i, (_, centre) in enumerate(kinds[side])
    }

  def __call__(self, share: float) -> np.ndarray:
    side = int(share >= 0.5)
    map_, (ground, parts) = self._maps[side], self._parts[side]
    out = _empty(map_, ground)
    for i, part in enumerate(parts):
      shift = np.zeros(2)
      if (side, i) in self._pairs:
        there = self._centres[self._pairs[side, i]] - self._centres[side, i]
        shift = there * (share if side == 0 else 1 - share)
      _paste(out, map_, part, *np.round(shift).astype(int))
    return out


def _empty(map_: np.ndarray, ground: int) -> np.ndarray:
  """The map without things."""
  return np.where(map_ == VOID, VOID, ground).astype(np.uint8)


def _paste(
  canvas: np.ndarray, values: np.ndarray, part: np.ndarray, dy: int, dx: int
) -> None:
  """Writes what is in `part`, moved; beyond the border it is lost."""
  y, x = np.nonzero(part)
  there = (
    (0 <= y + dy)
    & (y + dy < canvas.shape[0])
    & (0 <= x + dx)
    & (x + dx < canvas.shape[1])
  )
  y, x = y[there], x[there]
  canvas[y + dy, x + dx] = values[y, x]


def dots(maps: np.ndarray) -> list[list[tuple[int, float, float]]]:
  """Class and centre (x, y) of each connected region of each frame."""
  out = []
  for map_ in maps:
    found = []
    ground = int(np.bincount(map_[map_ != VOID], minlength=1).argmax())
    for k in np.setdiff1d(map_, [ground, VOID]):
      labels, count = ndimage.label(map_ == k)
      centres = ndimage.center_of_mass(labels > 0, labels, range(1, count + 1))
      found += [(int(k), x + 0.5, y + 0.5) for y, x in centres]
    out.append(found)
  return out
