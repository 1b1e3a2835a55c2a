"""A clip of what is drawn of each frame: classes, lines or points.

given: video, the drawing: a map painted in the palette's colours, dark lines on
white, or a dot in its class's colour for each thing; of classes and points also
map, a channel a class; with `reference` also mask, 0 in the first frame of some
clips, which is given as it is. target: the clip; weight: 0 where the map is
void, and in a frame that is given. base: 'copy' or, with `reference`, 'hold'
and config.model.generator.compose.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import colorsys
import dataclasses
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import baselines as classical
from vidgan_jax import config
from vidgan_jax import errors
from vidgan_jax import tasks
from vidgan_jax.tasks import drawings
from vidgan_jax.tasks import lines

KINDS = ("edges", "labels", "points")
_DOT = 2.0  # Pixels, standard deviation of a point.
_OBJECTS = 8  # Things of a clip that are numbered, at most.


def make(
  kind: str = "edges",
  classes: Sequence[str] = (),
  palette: Sequence[Sequence[int]] = (),
  objects: bool = False,
  reference: float = 0.0,
  picture: bool = True,
) -> tasks.Task:
  """Builds the task.

  Args:
    kind: what is drawn. 'edges': lines of the clip itself, of any data (see
      `lines.draw`); 'labels': the class of each pixel, by the signal `layout`;
      'points': centre and class of each thing in it.
    classes: names of what a layout shows, by number, the first the ground.
    palette: a colour (red, green, blue) of 0 to 255 for each class; (): black,
      then hues.
    objects: the layout numbers the things of a clip, all of the class `label`,
      as that of sprites does: class 0 is the ground, 1 + label a thing. False:
      it numbers the classes, and 255 is void.
    reference: share of the clips of which the first frame is given in full.
    picture: give the drawing as a video, of which a model of given clips makes
      the answer. False: the map alone, for models that draw of noise.

  Raises:
    config.ConfigError: options that do not go together, or colours that are not
      one a class.
  """
  tasks.check("kind", kind, KINDS)
  if kind == "edges" and (classes or palette or objects or not picture):
    raise config.ConfigError(
      "config.task.options.kind is 'edges': lines have no classes, palette and "
      "objects, and are a picture. Leave these options out, or take 'labels'."
    )
  if reference and not picture:
    raise config.ConfigError(
      f"config.task.options.reference is {reference}, and picture is False: a "
      "frame is given in the picture. Set one of them to its default."
    )
  drawing = _Drawing(
    kind=kind,
    classes=tuple(classes),
    colours=None if kind == "edges" else _palette(classes, palette),
    objects=objects,
    reference=reference,
    picture=picture,
  )
  colours = [] if kind == "edges" else drawing.colours.astype(int).tolist()
  answers = {"drawing": classical.copy()}
  if reference and kind == "labels":
    answers["carry"] = classical.carry()
  return tasks.Task(
    prepare=drawing.prepare,
    ask=drawing.ask,
    footage=tasks.Footage(given=drawing.given) if picture else None,
    palette=dict(zip(classes, colours)),
    baselines=answers if picture else {},
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Drawing:
  """What is drawn of a clip; the options of `make`, (n, 3) colours or None."""

  kind: str
  classes: tuple[str, ...]
  colours: np.ndarray | None
  objects: bool
  reference: float
  picture: bool

  def prepare(self, example: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    """`tasks.Task.prepare`."""
    video = example["video"]
    xp = _library(video)
    given, weight = self._drawn(example, seed, xp)
    if self.reference:
      # Another number than those of the lines.
      share = _uniform(seed, xp, (lines.NUMBERS + 1,))[-1]
      first = (np.arange(video.shape[0]) == 0).astype(np.float32)
      known = first[:, None, None, None] * _float(share < self.reference, xp)
      mask = 1 - known + 0 * video[..., :1]
      given["video"] = mask * given["video"] + (1 - mask) * video
      given["mask"] = mask
      weight = mask if weight is None else mask * weight
    if not self.picture:
      del given["video"]
    return tasks.pair(
      example, given, **({} if weight is None else {"weight": weight})
    )

  def _drawn(self, example, seed, xp) -> tuple[dict[str, Any], Any]:
    """What is given of a clip, and how much each pixel counts, or None."""
    if self.kind == "edges":
      numbers = _uniform(seed, xp, (lines.NUMBERS,))
      return {"video": lines.draw(example["video"], numbers, xp)}, None
    layout = _float(example["layout"], xp)
    class_ = _float(example["label"], xp) + 1 if self.objects else None
    if self.kind == "points":
      dots = _centres(layout, class_, len(self.classes), xp)
      return _painted(dots, self.colours, xp), None
    if self.objects:
      return _labels(xp.minimum(layout, 1) * class_, self.colours, xp), None
    given = _labels(layout, self.colours, xp)
    return given, xp.einsum("thwn->thw", given["map"])[..., None]

  def given(
    self,
    video: np.ndarray,
    times: np.ndarray | None = None,
    mask: np.ndarray | None = None,
  ) -> dict[str, np.ndarray]:
    """`tasks.Footage.given`, of a film of drawings.

    Where `mask` is 0 it shows the clip itself.
    """
    known = np.zeros_like(video[..., :1])
    if mask is not None and self.reference:
      known = 1 - mask
    if self.kind == "edges":
      out = {"video": tasks.gray(video)}
    else:
      times = np.arange(len(video)) if times is None else times
      shown = known[..., 0] > 0
      levels = 127.5 * video + 127.5
      levels = np.where(shown[..., None], self.colours[0], levels)
      maps = [
        self._numbers(frame, f"the frame at {t:.2f} s")
        for frame, t in zip(levels, times)
      ]
      out = self._of_maps(np.where(shown, drawings.VOID, np.stack(maps)))
    if self.reference:
      out["video"] = known * video + (1 - known) * out["video"]
      out["mask"] = 1 - known
    return out

  def _numbers(self, picture: np.ndarray, name: str) -> np.ndarray:
    return drawings.numbers(picture, self.classes, self.colours, name)

  def _of_maps(self, maps: np.ndarray) -> dict[str, np.ndarray]:
    """What is given of (T, h, w) numbers of classes."""
    if self.kind == "points":
      return _painted(_dots(maps, len(self.classes)), self.colours, np)
    return _labels(maps.astype(np.float32), self.colours, np)

  def ask(
    self,
    num: int,
    seed: int,
    source: Any,
    facts: Mapping[str, Any],
    map: Any = None,
    still: bool = False,
    first: np.ndarray | None = None,
    seconds: Sequence[float] | None = None,
  ) -> dict[str, np.ndarray]:
    """`tasks.Task.ask`, of a user's drawings.

    Args:
      num: clips.
      seed: of how a single drawing moves; in each clip in its own way.
      source: clips, the first of which are taken if there is no drawing.
      facts: see `tasks.Task`.
      map: a drawing, (H, W, 3) uint8 colours of the palette or (H, W) numbers
        of classes; one of each time, (T, H, W, 3) or (T, H, W), as far apart as
        those of a training clip; or several, (drawing, seconds, name) each. Of
        any size.
      still: a single drawing does not move, and between several nothing does.
      first: (H, W, 3) uint8, the first frame, of a run with `reference`.
      seconds: times of the maps; None: those of a training clip.

    Raises:
      UserError: there is nothing to take, or a drawing is not one.
    """
    if map is None:
      given = _of_source(num, seed, source, facts)
      # Who draws of noise takes as many as are asked for, these in turn.
      turn = np.arange(num) % len(next(iter(given.values())))
      return given if self.picture else {k: x[turn] for k, x in given.items()}
    times = np.asarray(facts["times"] if seconds is None else seconds)
    keys, film = _keys(map, times)
    if film:
      times, still = np.array([key.seconds for key in keys]), True
    size = _size(keys[0].picture.shape, facts["resolution"], self.picture)
    # A single drawing drifts, in each clip in its own way.
    seeds = range(seed, seed + (num if len(keys) == 1 and not still else 1))
    if self.kind == "edges":
      films = [_sketches(keys, times, s, still) for s in seeds]
      shrink = lambda x: drawings.shrink(x, *size) / 127.5 - 1
      out = [{"video": np.stack([shrink(x) for x in film])} for film in films]
    else:
      known = [(k.seconds, self._numbers(k.picture, k.name)) for k in keys]
      films = [drawings.film(known, times, s, still) for s in seeds]
      n = len(self.classes)
      out = [self._of_maps(drawings.resize(film, *size, n)) for film in films]
    out *= num // len(out)
    if self.reference:
      out = [_begun(given, first, self.reference) for given in out]
    elif first is not None:
      raise errors.UserError(
        "A first frame is given, but this run was trained without: set "
        "config.task.options.reference, as configs/translate.py:reference does."
      )
    if not self.picture:
      out = [{"map": given["map"]} for given in out]
    return {name: np.stack([given[name] for given in out]) for name in out[0]}


# ------------------------------------------------------------------- training


def _palette(
  classes: Sequence[str], palette: Sequence[Sequence[int]]
) -> np.ndarray:
  """(n, 3) float32 colours of the classes, 0 to 255."""
  if not 2 <= len(classes) < drawings.VOID:
    raise config.ConfigError(
      f"config.task.options.classes has {len(classes)} names; give those of "
      f"all classes, 2 to {drawings.VOID - 1}, as ('ground', 'disc')."
    )
  if not palette:
    turn = (5**0.5 - 1) / 2  # Each hue far from those before.
    hues = [
      colorsys.hsv_to_rgb(i * turn % 1, 1 - i % 2 / 3, 1 - i % 3 / 4)
      for i in range(len(classes) - 1)
    ]
    palette = [(0, 0, 0), *([round(255 * x) for x in hue] for hue in hues)]
  if len({tuple(c) for c in palette}) != len(classes) or any(
    len(c) != 3 for c in palette
  ):
    raise config.ConfigError(
      f"config.task.options.palette is {palette!r}: give a colour (red, green, "
      f"blue) of its own for each of the {len(classes)} classes, "
      f"{', '.join(classes)}."
    )
  return np.array(palette, np.float32)


def _labels(layout: Any, colours: np.ndarray, xp: Any) -> dict[str, Any]:
  """Numbers of classes (T, H, W) float32 -> what is given of them."""
  numbers = np.arange(len(colours), dtype=np.float32)
  # 1 at a pixel's number, 0 elsewhere, by arithmetic that all libraries know.
  map_ = xp.maximum(1 - abs(layout[..., None] - numbers), 0)
  return _painted(map_, colours, xp)


def _painted(map_: Any, colours: np.ndarray, xp: Any) -> dict[str, Any]:
  """(T, H, W, n) shares of classes, and their colours mixed by them."""
  painted = xp.tensordot(map_, colours / np.float32(127.5) - 1, 1)
  return {"video": painted, "map": map_}


def _centres(layout: Any, class_: Any, n: int, xp: Any) -> Any:
  """Dots at the centres of what a layout numbers: (T, H, W, n).

  Args:
    layout: (T, H, W) float32.
    class_: of all things, (); None: the layout numbers classes.
    n: classes.
    xp: library of the two.
  """
  last = n - 1 if class_ is None else _OBJECTS
  parts = np.arange(1, last + 1, dtype=np.float32)
  here = xp.maximum(1 - abs(layout[..., None] - parts), 0)
  height, width = int(layout.shape[1]), int(layout.shape[2])
  row = np.arange(height, dtype=np.float32)
  column = np.arange(width, dtype=np.float32)
  mass = xp.einsum("thwk->tk", here)
  mean = lambda sums: (sums / xp.maximum(mass, 1))[:, None, None]
  y = mean(xp.einsum("thwk,h->tk", here, row))
  x = mean(xp.einsum("thwk,w->tk", here, column))
  squared = (row[:, None, None] - y) ** 2 + (column[:, None] - x) ** 2
  dots = xp.exp(-squared / (2 * _DOT**2)) * xp.minimum(mass, 1)[:, None, None]
  # The class of each thing; what is left is ground.
  of = parts if class_ is None else class_ + 0 * parts
  of = of[:, None] - np.arange(n, dtype=np.float32)
  of = xp.maximum(1 - abs(of), 0)
  dots = xp.minimum(xp.einsum("thwk,kn->thwn", dots, of), 1)
  ground = xp.maximum(1 - xp.einsum("thwn->thw", dots), 0)
  return dots + ground[..., None] * np.eye(n, dtype=np.float32)[0]


def _dots(maps: np.ndarray, n: int) -> np.ndarray:
  """The same of maps that a user drew, where each region is a thing."""
  t, h, w = maps.shape
  out = np.zeros((t, h, w, n), np.float32)
  for frame, found in zip(out, drawings.dots(maps)):
    for k, x, y in found:
      squared = (np.arange(h)[:, None] + 0.5 - y) ** 2
      squared = squared + (np.arange(w) + 0.5 - x) ** 2
      frame[..., k] += np.exp(-squared / (2 * _DOT**2))
  out = np.minimum(out, 1)
  out[..., 0] = np.maximum(1 - out[..., 1:].sum(-1), 0)
  return out


def _library(x: Any) -> Any:
  """NumPy, jax.numpy or TensorFlow, whose array it is."""
  if isinstance(x, np.ndarray):
    return np
  if isinstance(x, jax.Array):
    return jnp
  return sys.modules["tensorflow"]  # Whose tensor it is.


def _float(x: Any, xp: Any) -> Any:
  return xp.float32(x) if xp in (np, jnp) else xp.cast(x, xp.float32)


def _uniform(seed: Any, xp: Any, shape: tuple[int, ...]) -> Any:
  """Random numbers in [0, 1) of a seed as `prepare` gets it."""
  if xp is np:
    return np.random.default_rng(seed).random(shape, np.float32)
  if xp is jnp:
    return jax.random.uniform(seed, shape)
  return xp.random.stateless_uniform(shape, seed)


# ------------------------------------------------------------------- sampling


def _of_source(num, seed, source, facts) -> dict[str, np.ndarray]:
  """What the first clips of a source are given."""
  if source is None:
    raise errors.UserError(
      "Clips of this run are made of drawings: with `vidgan generate`, --map "
      "gives one, and --from-data takes those of its held-out clips."
    )
  return tasks.from_source(num, seed, source, facts)


def _keys(map_: Any, times: np.ndarray) -> tuple[list[drawings.Key], bool]:
  """Drawings in any form, by their times; whether they are one of each."""
  if isinstance(map_, str):
    raise errors.UserError(f"The map is the text {map_!r}: give --map FILE.")
  if isinstance(map_, np.ndarray):
    colours = map_.ndim > 2 and map_.shape[-1] == 3
    if map_.ndim == 2 + colours:
      return [drawings.Key(map_)], False
    gap = np.diff(times[:2]).sum()
    return [
      drawings.Key(picture, float(times[0] + i * gap), f"map {i}")
      for i, picture in enumerate(map_)
    ], True
  keys = sorted((drawings.Key(*key) for key in map_), key=lambda k: k.seconds)
  for a, b in zip(keys, keys[1:]):
    if a.picture.shape[:2] != b.picture.shape[:2]:
      raise errors.UserError(
        f"{a.name} has {a.picture.shape[1]} x {a.picture.shape[0]} pixels and "
        f"{b.name} {b.picture.shape[1]} x {b.picture.shape[0]}: draw all at "
        "one size."
      )
    if a.seconds == b.seconds:
      raise errors.UserError(
        f"{a.name} and {b.name} are both of {a.seconds:g} s: give each a time "
        "of its own, as b.png@1.5."
      )
  return keys, False


def _size(shape: tuple[int, ...], side: int, free: bool) -> tuple[int, int]:
  """Height and width to draw at: the shorter side is that of training."""
  height, width = shape[:2]
  if not free and height != width:
    raise errors.UserError(
      f"The map has {width} x {height} pixels, and this run draws squares: cut "
      "it to one."
    )
  scale = side / min(height, width)
  # In whole patches of every trunk.
  return tuple(max(4, round(n * scale / 4) * 4) for n in (height, width))


def _sketches(
  keys: Sequence[drawings.Key], times: np.ndarray, seed: int, still: bool
) -> np.ndarray:
  """(T, H, W, 3) grey levels of drawn lines, each until the next."""
  pictures = []
  for key in keys:
    x = np.atleast_3d(key.picture).astype(np.float32)
    x = np.round(tasks.gray(np.broadcast_to(x, (*x.shape[:2], 3))))
    if np.median(x) < 128:
      raise errors.UserError(
        f"{key.name} is dark: draw dark lines on white, or invert it."
      )
    pictures.append(x.clip(0, 255).astype(np.uint8))
  if len(keys) == 1 and not still:
    ink = np.uint8(pictures[0][..., 0] < 192)
    return drawings.drift(ink, times - times[0], seed, pictures[0])
  at = np.array([key.seconds for key in keys])
  index = np.searchsorted(at, times, "right") - 1
  return np.stack([pictures[max(i, 0)] for i in index])


def _begun(given, first, reference) -> dict[str, np.ndarray]:
  """What is given of a clip whose first frame may be there."""
  video = given["video"].copy()
  mask = np.ones_like(video[..., :1])
  if first is None and reference == 1:
    raise errors.UserError(
      "This run was trained to continue a first frame: give it, with --first."
    )
  if first is not None:
    frame = np.asarray(first, np.float32) / 127.5 - 1
    video[0], mask[0] = drawings.shrink(frame, *video.shape[1:3]), 0
  return given | {"video": video, "mask": mask}
