"""Sprites: a small procedural world of moving shapes, made on the fly.

A clip shows a few objects of one class that move in a box by a simple law
(straight lines or gravity, with elastic bounces) before a varied background.
Everything about a clip follows from (seed, split, index), and its state is a
closed form of time, so a clip can be drawn at any real-valued time and comes
with every supervision: label, caption, layout, optical flow, sound and truth.

Conventions. Pictures are square, `resolution` pixels wide; x grows to the
right, y downward; the centre of the first pixel is (0.5, 0.5). Lengths given as
options are shares of the resolution. Object i hides the objects before it.

  source = sprites.make('train', resolution=32, frames=16, objects=(1, 2))
  example = source.read([0])[0]      # video, times, label, caption
  source.draw(0, [0.01, 0.02])       # the same clip at other times

NumPy only: no TensorFlow, no JAX.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import difflib
import functools
import math
from typing import Any

import numpy as np

from vidgan_jax import errors
from vidgan_jax.data import sound

# A shape's signed distance is given in units of the object's radius: every
# shape lies inside the unit circle. The diamond is slim, so that no rotation
# turns it into the square.
_STROKE = 0.19
_GLYPHS = {
  "A": (
    (-0.55, 0.6, 0.0, -0.75),
    (0.55, 0.6, 0.0, -0.75),
    (-0.33, 0.18, 0.33, 0.18),
  ),
  "T": ((-0.55, -0.55, 0.55, -0.55), (0.0, -0.55, 0.0, 0.75)),
  "L": ((-0.42, -0.68, -0.42, 0.62), (-0.42, 0.62, 0.5, 0.62)),
  "H": (
    (-0.48, -0.63, -0.48, 0.63),
    (0.48, -0.63, 0.48, 0.63),
    (-0.48, 0.0, 0.48, 0.0),
  ),
}
SHAPES = ("disc", "square", "triangle", "diamond", "cross", "ring", *_GLYPHS)
MOTIONS = ("straight", "gravity")
TEXTURES = ("flat", "stripes")
BACKGROUNDS = ("plain", "gradient", "checker")
SUPERVISION = ("layout", "flow", "sound", "audio", "truth")
SPLITS = ("train", "test", "held")

# Light falls from the upper left; brightness stays within 1 - 2 * _SHADE .. 1.
_LIGHT = (-0.6, -0.8)
_SHADE = 0.13
# Backgrounds are dark and objects bright: in at least one channel an object is
# brighter than any background by 0.9 * (1 - 2 * _SHADE) - 0.35 > 0.3.
_BACKGROUND_VALUES = ((0.05, 0.15), (0.22, 0.35))  # of its two colours
_OBJECT_VALUE = (0.9, 1.0)
_STRIPE_WHITE = 0.6  # share of white in the second colour of stripes
CELLS = 4  # cells of the checkerboard across the picture
HUES = (
  "red",
  "orange",
  "yellow",
  "lime",
  "green",
  "mint",
  "cyan",
  "azure",
  "blue",
  "violet",
  "magenta",
  "rose",
)
_TRIES = 32  # random paths to choose from
_NUMBERS = (
  "no",
  "one",
  "two",
  "three",
  "four",
  "five",
  "six",
  "seven",
  "eight",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
  """The options of the world, checked.

  Attributes:
    resolution: height and width of the frames, pixels.
    frames: frames of a clip.
    fps: frames a second.
    objects: number of objects, or its inclusive range (fewest, most).
    shapes: names out of `SHAPES`; they are the classes.
    label: 'shape', or 'shape_motion' (shape x motion; needs motion='mixed').
    motion: 'straight', 'gravity' or 'mixed'.
    radius: range of the objects' radius, shares of the resolution.
    speed: range of the speed (of the horizontal speed under gravity), shares
      of the resolution a second.
    gravity: acceleration, shares of the resolution a second squared.
    texture: 'flat', 'stripes' or 'mixed'.
    shading: whether objects are lit from the upper left.
    palette: 'class' (a hue for each shape, with jitter) or 'random'.
    hold: pairs (colour, shape), as ('red', 'disc'), that the splits 'train' and
      'test' do not show and the split 'held' shows alone; needs
      palette='random'. Colours are names out of `HUES`.
    captions: 'plain', one form of sentence, or 'varied': several, with
      synonyms, and words for size, speed and the way it goes at first.
    background: 'plain', 'gradient', 'checker', 'mixed' (one of these in each
      clip) or 'black'.
    shake: amplitude of the camera's shake, pixels; 0 is a still camera.
    rotation: whether objects turn.
    supervision: names out of `SUPERVISION`, or 'all': what `read` adds to
      video, times, label and caption.
    seed: seed of the whole world.
  """

  resolution: int = 32
  frames: int = 16
  fps: float = 8
  objects: int | tuple[int, int] = (1, 2)
  shapes: tuple[str, ...] = ("disc", "square", "triangle", "cross")
  label: str = "shape"
  motion: str = "mixed"
  radius: tuple[float, float] = (0.13, 0.18)
  speed: tuple[float, float] = (0.3, 0.7)
  gravity: float = 1.5
  texture: str = "mixed"
  shading: bool = True
  palette: str = "class"
  hold: tuple[tuple[str, str], ...] = ()
  captions: str = "plain"
  background: str = "mixed"
  shake: float = 0.0
  rotation: bool = False
  supervision: str | tuple[str, ...] = ()
  seed: int = 0

  def __post_init__(self):
    def fix(name, value):
      object.__setattr__(self, name, value)

    for name in ("resolution", "frames", "seed"):
      fix(name, _integer(name, getattr(self, name)))
    for name in ("fps", "gravity", "shake"):
      fix(name, _number(name, getattr(self, name)))
    objects = self.objects
    if isinstance(objects, (int, np.integer)):
      objects = (objects, objects)
    fix(
      "objects",
      tuple(_integer("objects", v) for v in _pair("objects", objects)),
    )
    for name in ("radius", "speed"):
      pair = _pair(name, getattr(self, name))
      fix(name, tuple(_number(name, v) for v in pair))
    fix("shapes", _names("shapes", self.shapes, SHAPES))
    wanted = self.supervision
    wanted = SUPERVISION if wanted == "all" else wanted
    fix("supervision", _names("supervision", wanted, SUPERVISION))
    for name, choices in (
      ("label", ("shape", "shape_motion")),
      ("motion", (*MOTIONS, "mixed")),
      ("texture", (*TEXTURES, "mixed")),
      ("palette", ("class", "random")),
      ("captions", ("plain", "varied")),
      ("background", (*BACKGROUNDS, "black", "mixed")),
    ):
      self._must(getattr(self, name) in choices, name, f"one of {choices}")
    for name in ("shading", "rotation"):
      value = getattr(self, name)
      self._must(value in (True, False), name, "True or False")
      fix(name, bool(value))
    self._must(self.resolution >= 8, "resolution", "at least 8 pixels")
    self._must(self.frames >= 1, "frames", "at least 1")
    self._must(self.seed >= 0, "seed", "an integer of at least 0")
    self._must(self.fps > 0, "fps", "a positive number of frames a second")
    self._must(
      1 <= self.objects[0] <= self.objects[1] <= 8,
      "objects",
      "a number, or a range (fewest, most), from 1 to 8",
    )
    self._must(self.shapes, "shapes", f"at least one of {SHAPES}")
    once = len(set(self.shapes)) == len(self.shapes)
    self._must(once, "shapes", "different names, each once")
    self._check_hold()
    if self.label == "shape_motion" and self.motion != "mixed":
      raise errors.UserError(
        "data.options.label='shape_motion' of sprites makes a class of every "
        "pair of shape and motion, but data.options.motion is "
        f"{self.motion!r}: set motion='mixed' or label='shape'."
      )
    self._must(
      0 < self.radius[0] <= self.radius[1] <= 0.35,
      "radius",
      "a range within (0, 0.35], shares of the resolution",
    )
    self._must(
      self.radius[0] * self.resolution >= 1.5,
      "radius",
      "at least 1.5 pixels, that is "
      f"{1.5 / self.resolution:.3f} at resolution {self.resolution}",
    )
    self._must(
      0 <= self.speed[0] <= self.speed[1],
      "speed",
      "a range of numbers of at least 0 (resolutions a second)",
    )
    self._must(self.gravity > 0, "gravity", "positive")
    room = (0.5 - self.radius[1]) * self.resolution - 1
    self._must(
      0 <= self.shake <= room,
      "shake",
      f"between 0 and {room:.1f} pixels, so that objects of radius "
      f"{self.radius[1]} keep room to move",
    )

  def _check_hold(self) -> None:
    pairs = tuple(map(tuple, self.hold))
    object.__setattr__(self, "hold", pairs)
    for pair in pairs:
      self._must(
        len(pair) == 2 and pair[0] in HUES and pair[1] in self.shapes,
        "hold",
        f"pairs of a colour out of {HUES} and a shape out of {self.shapes}",
      )
    for shape in self.shapes if pairs else ():
      left = {colour for colour in HUES if (colour, shape) not in pairs}
      self._must(left, "hold", f"such that {shape!r} keeps a colour")
    good = not pairs or self.palette == "random"
    self._must(good, "hold", "empty unless palette='random'")

  def _must(self, good: Any, name: str, rule: str) -> None:
    """Raises UserError unless the option `name` is good."""
    if not good:
      raise _error(name, getattr(self, name), rule)

  @property
  def class_names(self) -> tuple[str, ...]:
    """Names of the classes, in the order of the labels."""
    if self.label == "shape":
      return self.shapes
    return tuple(f"{s} {m}" for s in self.shapes for m in MOTIONS)

  @property
  def duration(self) -> float:
    """Seconds of a clip: every frame lasts 1 / fps."""
    return self.frames / self.fps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
  """All that is drawn in one clip (N objects).

  Attributes:
    label: index of the class.
    shape: name of the shape of all objects.
    motion: 'straight' or 'gravity'.
    texture: 'flat' or 'stripes'.
    background: 'plain', 'gradient', 'checker' or 'black'.
    radius: (N,) pixels.
    hue: (N,) in [0, 1).
    colour: (N, 3) RGB in [0, 1].
    box: (N, 2, 2) where centres may be, pixels: [x or y][low, high].
    phase: (N, 2) state at time 0. In x, and in y when the motion is straight:
      pixels on the unfolded path, whose period is twice the box. In y under
      gravity: seconds since the last bounce.
    velocity: (N, 2) pixels a second on the unfolded path. In y under gravity:
      the speed just after a bounce.
    fall: acceleration, pixels a second squared; 0 when straight.
    angle: (N,) radians at time 0.
    spin: (N,) radians a second.
    paint: (2, 3) the two colours of the background.
    slope: (2,) unit vector along which a gradient runs.
    tile: (2,) offset of the checkerboard, pixels.
    shake: (2, 2, 3) waves of the camera in x and y: [x or y][wave] ->
      (amplitude in pixels, radians a second, phase).
  """

  label: int
  shape: str
  motion: str
  texture: str
  background: str
  radius: np.ndarray
  hue: np.ndarray
  colour: np.ndarray
  box: np.ndarray
  phase: np.ndarray
  velocity: np.ndarray
  fall: float
  angle: np.ndarray
  spin: np.ndarray
  paint: np.ndarray
  slope: np.ndarray
  tile: np.ndarray
  shake: np.ndarray


def make(split: str, *, size: int | None = None, **options) -> "Source":
  """Builds the data set.

  Args:
    split: 'train', 'test' or 'held'; their clips come from different random
      streams. 'held' shows what the option `hold` holds back of the others.
    size: number of clips; 16,384 for train and 2,048 for others by default.
    **options: the fields of `World`.

  Returns:
    The source.

  Raises:
    ValueError: an option or the split is unknown or out of its range.
  """
  if split not in SPLITS:
    raise errors.UserError(
      f"Split {split!r} of sprites does not exist: use one of {SPLITS}."
    )
  fields = [f.name for f in dataclasses.fields(World)]
  for name in options:
    if name not in fields:
      near = difflib.get_close_matches(name, [*fields, "size"], 1, 0.0)[0]
      raise errors.UserError(
        f"data.options.{name} is not an option of sprites; the nearest "
        f"is {near!r}. There are: size, {', '.join(fields)}."
      )
  if size is None:
    size = 16384 if split == "train" else 2048
  size = _integer("size", size)
  if size < 1:
    raise _error("size", size, "at least 1 clip")
  world = World(**options)
  if split == "held" and not world.hold:
    raise errors.UserError(
      "The split 'held' of sprites shows the pairs of colour and shape that "
      "data.options.hold names, and it names none: set it, as "
      "hold=(('red', 'disc'),), or use another split."
    )
  return Source(split, size, world)


class Source:
  """Random access to the clips of one split.

  Attributes:
    split: one of `SPLITS`.
    options: the checked options, a `World`.
    world: the same as a dictionary; `World(**source.world)` equals `options`.
    num_classes: number of classes.
    class_names: their names.
    spec: name -> (shape with None where it varies, numpy dtype) of an example.
  """

  def __init__(self, split: str, size: int, world: World):
    self.split = split
    self.options = world
    self.world = dataclasses.asdict(world)
    self.class_names = world.class_names
    self.num_classes = len(world.class_names)
    self._size = size
    t, r, n = world.frames, world.resolution, world.objects[1]
    spec = {
      "video": ((t, r, r, 3), np.uint8),
      "times": ((t,), np.float32),
      "label": ((), np.int32),
      "caption": ((), object),
    }
    groups = {
      "layout": {"layout": ((t, r, r), np.uint8)},
      "sound": {"sound": ((t, sound.FEATURES), np.float32)},
      "flow": {"flow": ((t - 1, r, r, 2), np.float32)},
      "audio": {"audio": ((round(sound.RATE * world.duration),), np.float32)},
      "truth": {
        "count": ((), np.int32),
        "positions": ((t, n, 2), np.float32),
        "velocities": ((t, n, 2), np.float32),
        "bounces": ((None, 2), np.float32),
        "camera": ((t, 2), np.float32),
      },
    }
    for name in SUPERVISION:
      if name in world.supervision:
        spec.update(groups[name])
    self.spec = {k: (shape, np.dtype(d)) for k, (shape, d) in spec.items()}

  def __len__(self) -> int:
    return self._size

  def read(self, indices: Iterable[int]) -> list[dict[str, Any]]:
    """Draws clips.

    Args:
      indices: integers in [0, len(self)).

    Returns:
      One dictionary a clip, arrays as in `spec`:
        video (T, H, W, 3) uint8; times (T,) seconds; label () ; caption str;
        layout (T, H, W): 0 background, 1 + i object i (its class is `label`);
        flow (T-1, H, W, 2): where the point seen at a pixel goes by the next
          frame, pixels, (x, y), the camera's shake included;
        sound (T, sound.FEATURES): the rows of `sound.rows` of the audio;
        audio (samples,) at `sound.RATE`, in [-1, 1]: a tone a bounce;
        count () ; positions (T, N, 2) of the centres in the picture, pixels,
          NaN beyond `count`; velocities (T, N, 2) pixels a frame, the camera's
          shake left out; bounces (K, 2): seconds and object, by time;
        camera (T, 2) displacement of the picture by the shake, pixels.

    Raises:
      IndexError: an index is out of range.
    """
    return [self._example(int(index)) for index in indices]

  def scene(self, index: int) -> Scene:
    """What clip `index` shows; raises IndexError when out of range."""
    if not 0 <= index < self._size:
      raise IndexError(
        f"Clip {index} does not exist: the {self.split} split of sprites has "
        f"{self._size} clips, numbered from 0 (option data.options.size)."
      )
    rng = np.random.default_rng(self._key(index))
    return sample(self.options, rng, self.split == "held")

  def captions(self, indices: Iterable[int]) -> list[str]:
    """The captions of these clips, which are not drawn."""
    return [self._caption(int(index), self.scene(index)) for index in indices]

  def _caption(self, index: int, scene: Scene) -> str:
    world = self.options
    if world.captions == "plain":
      return caption(world, scene)
    rng = np.random.default_rng([*self._key(index), 1])
    return varied(world, scene, rng)

  def _key(self, index: int) -> list[int]:
    return [self.options.seed, SPLITS.index(self.split), index]

  def draw(self, index: int, times: Sequence[float]) -> np.ndarray:
    """Draws clip `index` at any times, (T,) seconds -> (T, H, W, 3) uint8."""
    return render(self.options, self.scene(index), times)[0]

  def _example(self, index: int) -> dict[str, Any]:
    world, scene = self.options, self.scene(index)
    times = np.arange(world.frames) / world.fps
    wanted = world.supervision
    video, layout = render(
      world, scene, times, with_layout="layout" in wanted or "flow" in wanted
    )
    example = {
      "video": video,
      "times": times.astype(np.float32),
      "label": np.int32(scene.label),
      "caption": self._caption(index, scene),
    }
    if "layout" in wanted:
      example["layout"] = layout
    if "flow" in wanted:
      example["flow"] = flow(world, scene, times, layout)
    if "sound" in wanted or "audio" in wanted:
      wave = audio(world, scene)
      if "sound" in wanted:
        example["sound"] = sound.rows(wave, times, 1 / world.fps)
      if "audio" in wanted:
        example["audio"] = wave
    if "truth" in wanted:
      count = len(scene.radius)
      position, velocity = move(scene, times)
      shift = camera(scene, times)
      for name, value in (
        ("positions", position + shift[:, None]),
        ("velocities", velocity / world.fps),
      ):
        full = np.full(self.spec[name][0], np.nan, np.float32)
        full[:, :count] = value
        example[name] = full
      example["count"] = np.int32(count)
      example["bounces"] = bounces(scene, world.duration).astype(np.float32)
      example["camera"] = shift.astype(np.float32)
    return example


# ------------------------------------------------------------------- scenes


def sample(world: World, rng: np.random.Generator, held: bool = False) -> Scene:
  """Draws the content of one clip; `held`: of what `World.hold` holds back."""
  size = float(world.resolution)
  each = 1 if world.label == "shape" else len(MOTIONS)  # classes of a shape
  label = int(rng.integers(len(world.class_names)))
  while held and all(s != world.shapes[label // each] for _, s in world.hold):
    label = int(rng.integers(len(world.class_names)))
  shape = label // each
  if each == 1:
    motion = _choose(rng, world.motion, MOTIONS)
  else:
    motion = MOTIONS[label % each]
  low, high = world.objects
  count = int(rng.integers(low, high + 1))
  radius = rng.uniform(*world.radius, count) * size
  if world.palette == "class":
    # Hues of neighbouring classes stay apart: the jitter is a fifth of the gap.
    gap = 1 / len(world.shapes)
    hue = (shape + rng.uniform(-0.2, 0.2, count)) * gap * 0.999
    hue = np.where(len(world.shapes) == 1, rng.uniform(-0.03, 0.03, count), hue)
    hue %= 1
  else:
    hue = rng.uniform(0, 1, count)
    pairs = lambda: [(hue_name(h), world.shapes[shape]) for h in hue]
    while world.hold and any((p in world.hold) != held for p in pairs()):
      hue = rng.uniform(0, 1, count)
  colour = _rgb(
    hue, rng.uniform(0.75, 1, count), rng.uniform(*_OBJECT_VALUE, count)
  )
  texture = _choose(rng, world.texture, TEXTURES)
  # The walls leave room for the shake, so that no object leaves the picture.
  edge = radius + world.shake
  box = np.stack([edge, size - edge], -1)[:, None].repeat(2, 1)
  fall = world.gravity * size if motion == "gravity" else 0.0
  scene = Scene(
    label=label,
    shape=world.shapes[shape],
    motion=motion,
    texture=texture,
    background=_choose(rng, world.background, BACKGROUNDS),
    radius=radius,
    hue=hue,
    colour=colour,
    box=box,
    phase=np.zeros((count, 2)),
    velocity=np.zeros((count, 2)),
    fall=fall,
    angle=rng.uniform(0, 2 * np.pi, count) * world.rotation,
    spin=rng.uniform(0.5, 1.5, count)
    * rng.choice([-1, 1], count)
    * world.rotation,
    paint=_rgb(
      rng.uniform(0, 1, 1) + rng.uniform(-0.1, 0.1, 2),
      rng.uniform(0, 0.8, 2),
      rng.permutation([rng.uniform(*value) for value in _BACKGROUND_VALUES]),
    )
    * (world.background != "black"),
    slope=_unit(rng.uniform(0, 2 * np.pi)),
    tile=rng.uniform(0, 2 * size / CELLS, 2),
    shake=_waves(world, rng),
  )
  # Objects that hide one another for most of the clip cannot be counted, so
  # take the first of many paths on which they are apart in at least 60 % of the
  # frames, or the best.
  phase, velocity = _paths(world, scene, rng, _TRIES if count > 1 else 1)
  pick = 0
  if count > 1:
    times = np.arange(world.frames) / world.fps
    trial = dataclasses.replace(scene, phase=phase, velocity=velocity)
    pick = int(np.minimum(_apart(trial, times), 0.6).argmax())
  return dataclasses.replace(scene, phase=phase[pick], velocity=velocity[pick])


def move(scene: Scene, times: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
  """The objects' centres, a closed form of time.

  Args:
    scene: what is shown.
    times: (T,) seconds, any real numbers.

  Returns:
    Positions (T, N, 2) pixels and velocities (T, N, 2) pixels a second, both
    without the camera's shake.
  """
  t = np.asarray(times, np.float64).reshape(-1, *[1] * scene.phase.ndim)
  low, high = scene.box[..., 0], scene.box[..., 1]
  span = high - low
  # Mirror walls: motion on a straight path folded into the box.
  path = (scene.phase + scene.velocity * t) % (2 * span)
  back = path > span
  position = low + np.where(back, 2 * span - path, path)
  velocity = np.where(back, -scene.velocity, scene.velocity)
  if scene.fall:
    # Elastic bounces on the floor; the start speed never reaches the ceiling.
    up = scene.velocity[..., 1]
    tau = (scene.phase[..., 1] + t[..., 0]) % (2 * up / scene.fall)
    position[..., 1] = high[:, 1] - (up - scene.fall * tau / 2) * tau
    velocity[..., 1] = scene.fall * tau - up
  return position, velocity


def bounces(scene: Scene, duration: float) -> np.ndarray:
  """Bounces in [0, duration): (K, 2) rows (seconds, object), by time."""
  hits = []
  for i in range(len(scene.radius)):
    for axis in range(2):
      speed, phase = scene.velocity[i, axis], scene.phase[i, axis]
      if axis == 1 and scene.fall:
        period, first = 2 * speed / scene.fall, -phase
      elif speed:
        span = scene.box[i, axis, 1] - scene.box[i, axis, 0]
        period, first = span / abs(speed), -phase / speed
      else:
        continue
      k = np.arange(
        math.ceil(-first / period), math.ceil((duration - first) / period)
      )
      hits.extend((first + j * period, i) for j in k)
  return np.array(sorted(hits), np.float64).reshape(-1, 2)


def camera(scene: Scene, times: Sequence[float]) -> np.ndarray:
  """Displacement of the picture by the shake: (T,) seconds -> (T, 2) pixels."""
  t = np.asarray(times, np.float64)[:, None, None]
  amplitude, rate, phase = np.moveaxis(scene.shake, -1, 0)
  return (amplitude * np.sin(rate * t + phase)).sum(-1)


# ---------------------------------------------------------------- rendering


def render(
  world: World, scene: Scene, times: Sequence[float], with_layout: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
  """Draws a scene.

  Args:
    world: the options; only the resolution and the shading are read.
    scene: what is shown.
    times: (T,) seconds, any real numbers.
    with_layout: whether to return the layout too.

  Returns:
    Video (T, H, W, 3) uint8 and layout (T, H, W) uint8, or None.
  """
  size, steps = world.resolution, len(times)
  position, _ = move(scene, times)
  shift = camera(scene, times)
  position += shift[:, None]
  canvas = _backdrop(world, scene, shift).reshape(-1, 3)
  layout = np.zeros(steps * size * size, np.uint8) if with_layout else None
  t = np.asarray(times, np.float64)
  for i, radius in enumerate(scene.radius):
    # Only a window around the object is drawn, at integer corners.
    side = min(size, math.ceil(2 * radius + 3))
    corner = np.floor(position[:, i] - radius - 1).astype(np.int64)
    corner = corner.clip(0, size - side)
    local = np.arange(side)
    rows = (np.arange(steps)[:, None] * size + corner[:, 1:] + local) * size
    spot = rows[:, :, None] + (corner[:, :1] + local)[:, None]
    offset = (corner - position[:, i] + 0.5)[:, :, None] + local
    unit = (offset / radius).astype(np.float32)  # (T, 2, side)
    x, y = np.broadcast_arrays(unit[:, 0, None, :], unit[:, 1, :, None])
    alpha, paint = appearance(
      scene.shape,
      scene.texture,
      world.shading,
      radius,
      x,
      y,
      scene.angle[i] + scene.spin[i] * t,
    )
    colour = scene.colour[i].astype(np.float32)
    ink = paint[..., :1] * colour + paint[..., 1:]
    under = canvas[spot]
    canvas[spot] = under + alpha[..., None] * (ink - under)
    if with_layout:
      layout[spot[alpha >= 0.5]] = i + 1
  canvas *= 255
  canvas += 0.5
  video = canvas.astype(np.uint8).reshape(steps, size, size, 3)
  if with_layout:
    layout = layout.reshape(steps, size, size)
  return video, layout


def appearance(
  shape: str,
  texture: str,
  shading: bool,
  radius: float,
  x: np.ndarray,
  y: np.ndarray,
  angle: np.ndarray,
  edge: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
  """Coverage and paint of one object.

  Args:
    shape: name out of `SHAPES`.
    texture: 'flat' or 'stripes'.
    shading: whether the object is lit.
    radius: pixels; a number, or (T, 1, 1).
    x: (T, H, W) distance of the pixels' centres from the object's, in radii.
    y: (T, H, W) likewise.
    angle: (T,) radians.
    edge: width of the ramp of the coverage, pixels; a number, or (T, 1, 1).

  Returns:
    Coverage (T, H, W) in [0, 1] and paint (T, H, W, 2): the pixel's colour is
    paint[..., 0] * colour + paint[..., 1].
  """
  u, v = x, y
  if np.any(angle):
    c = np.cos(angle).astype(np.float32)[:, None, None]
    s = np.sin(angle).astype(np.float32)[:, None, None]
    u, v = c * x + s * y, c * y - s * x
  radius, edge = np.float32(radius), np.float32(edge)
  alpha = (0.5 - distance(shape, u, v) * (radius / edge)).clip(0, 1)
  paint = np.zeros((*alpha.shape, 2), np.float32)
  paint[..., 0] = 1
  if texture == "stripes":
    wave = np.abs((v + 0.25) % 1 - 0.5) - 0.25
    white = _STRIPE_WHITE * (0.5 + wave * radius).clip(0, 1)
    paint[..., 0] -= white
    paint[..., 1] = white
  if shading:
    light = 1 - _SHADE + _SHADE * (_LIGHT[0] * x + _LIGHT[1] * y).clip(-1, 1)
    paint *= light[..., None]
  return alpha, paint


def distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Signed distance to a shape of radius 1, negative inside; any arrays."""
  if shape == "disc":
    return np.sqrt(x * x + y * y) - 1
  if shape == "ring":
    return np.abs(np.sqrt(x * x + y * y) - 0.72) - 0.28
  if shape == "square":
    return np.maximum(np.abs(x), np.abs(y)) - 0.7
  if shape == "diamond":
    wide, high = 0.6, 1.0
    slope = math.hypot(wide, high)
    return (np.abs(x) * high + np.abs(y) * wide - wide * high) / slope
  if shape == "triangle":
    side = np.abs(x) * (math.sqrt(3) / 2) - y * 0.5
    return np.maximum(side, y) - 0.5
  if shape == "cross":
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - 0.93, np.minimum(x, y) - 0.3)
  best = None
  for x0, y0, x1, y1 in _GLYPHS[shape]:
    dx, dy = x1 - x0, y1 - y0
    along = ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy)
    along = along.clip(0, 1)
    ex, ey = x - x0 - along * dx, y - y0 - along * dy
    squared = ex * ex + ey * ey
    best = squared if best is None else np.minimum(best, squared)
  return np.sqrt(best) - _STROKE


def flow(
  world: World, scene: Scene, times: Sequence[float], layout: np.ndarray
) -> np.ndarray:
  """Forward optical flow.

  Args:
    world: the options.
    scene: what is shown.
    times: (T,) seconds.
    layout: (T, H, W) as from `render` at these times.

  Returns:
    (T-1, H, W, 2) float32: pixels to the next frame, (x, y).
  """
  size = world.resolution
  position, _ = move(scene, times)
  shift = camera(scene, times)
  position += shift[:, None]
  step = np.diff(shift, axis=0).astype(np.float32)
  field = np.repeat(step, size * size, 0)
  label = layout[:-1].ravel()
  turn = scene.spin * np.diff(np.asarray(times, np.float64))[:, None]  # (T-1,N)
  for i in range(len(scene.radius)):
    # A rigid motion: a turn about the centre, and the centre's own way.
    spot = np.flatnonzero(label == i + 1)
    k = spot // (size * size)
    way = (position[1:, i] - position[:-1, i])[k]
    if scene.spin[i]:
      row, column = spot // size % size, spot % size
      arm_x = column + 0.5 - position[k, i, 0]
      arm_y = row + 0.5 - position[k, i, 1]
      c, s = np.cos(turn[k, i]) - 1, np.sin(turn[k, i])
      way[:, 0] += c * arm_x - s * arm_y
      way[:, 1] += s * arm_x + c * arm_y
    field[spot] = way
  return field.reshape(-1, size, size, 2)


def audio(world: World, scene: Scene) -> np.ndarray:
  """The sound of a clip: (samples,) float32 at `sound.RATE`, in [-1, 1].

  Every bounce starts a tone that decays in 60 ms; small objects sound higher
  and the objects of a clip have different pitches.
  """
  wave = np.zeros(round(sound.RATE * world.duration), np.float32)
  decay, length = _decay()
  for when, i in bounces(scene, world.duration):
    start = math.ceil(when * sound.RATE)
    t = decay[0, : max(0, min(length, len(wave) - start))]
    # The first sample after the bounce hears the tone already under way.
    late = np.float32(start / sound.RATE - when)
    rate = np.float32(2 * np.pi * pitch(world, scene, int(i)))
    wave[start : start + len(t)] += decay[1, : len(t)] * np.sin(
      rate * (t + late)
    )
  return wave.clip(-1, 1)


@functools.cache
def _decay() -> tuple[np.ndarray, int]:
  """Seconds and loudness of a tone's samples (2, n) float32, and n."""
  t = np.arange(int(0.3 * sound.RATE)) / sound.RATE
  return np.stack([t, 0.4 * np.exp(-t / 0.06)]).astype(np.float32), len(t)


def pitch(world: World, scene: Scene, i: int) -> float:
  """Frequency of the tone of object `i`, Hz."""
  size = scene.radius[i] / world.resolution
  return min(max(400 * (0.16 / size) * 1.25**i, 100.0), 3500.0)


def caption(world: World, scene: Scene) -> str:
  """A sentence that tells what a clip shows."""
  what, how, where = _parts(world, scene)
  text = f"{what} {how} on {where}"
  return text + ", seen by a shaking camera" if world.shake else text


def varied(world: World, scene: Scene, rng: np.random.Generator) -> str:
  """The same in words that people might choose, and with more of the truth.

  Size is said at the ends of the world's range, and so is the speed; the way it
  goes is that at the first frame, and said of one object alone.
  """
  what, how, where = _parts(world, scene)
  one = len(scene.radius) == 1
  pick = lambda *words: words[int(rng.integers(len(words)))]

  def level(value, low, high):  # 0 in the lowest third, 2 in the highest
    return int(np.clip(3 * (value - low) / max(high - low, 1e-9), 0, 2))

  words = what.split()
  names = _SYNONYMS.get(scene.shape, ())
  if names and rng.random() < 0.5:
    name = pick(*names)
    many = name if one else name + ("es" if name.endswith("x") else "s")
    plain = scene.shape if one else _plural(scene.shape)
    words = [many if word == plain else word for word in words]
  number = words[0]
  if one and rng.random() < 0.5:
    number = "a"
  size = level(scene.radius.mean() / world.resolution, *world.radius)
  if size != 1 and rng.random() < 0.5:
    words.insert(1, ("small", "", "large")[size])
  if number == "a" and words[1][0] in "aeio":
    number = "an"
  what = " ".join([number, *words[1:]])
  if scene.motion == "gravity":
    how = pick(how, "falling and bouncing", "falling down")
  else:
    how = pick(how, "gliding", "flying straight")
  quick = np.hypot(*scene.velocity.T).mean() / world.resolution
  if not scene.fall and world.speed[1] > world.speed[0] and rng.random() < 0.4:
    how += (" slowly", "", " quickly")[level(quick, *world.speed)]
  if one and rng.random() < 0.4:
    right = move(scene, [0.0])[1][0, 0, 0] > 0
    how += " to the right at first" if right else " to the left at first"
  text = pick(
    f"{what} {how} on {where}", f"on {where}, {what} {how}", f"{what}, {how}"
  )
  return text + ", seen by a shaking camera" if world.shake else text


_SYNONYMS = {"disc": ("ball", "circle"), "square": ("box",), "cross": ("plus",)}


def _plural(noun: str) -> str:
  return noun + ("es" if noun.endswith("s") else "s")


def _parts(world: World, scene: Scene) -> tuple[str, str, str]:
  """What is shown, how it moves, and before what, in plain words."""
  count = len(scene.radius)
  one = count == 1
  noun = scene.shape
  if noun in _GLYPHS:
    noun = f"letter {noun}" if one else f"letters {noun}"
  elif not one:
    noun = _plural(noun)
  if scene.texture == "stripes":
    noun = f"striped {noun}"
  colours = [hue_name(h) for h in scene.hue]
  if len(set(colours)) == 1:
    what = f"{_NUMBERS[count]} {colours[0]} {noun}"
  else:
    what = f"{_NUMBERS[count]} {noun} ({', '.join(colours)})"
  how = (
    "bouncing under gravity"
    if scene.motion == "gravity"
    else "moving in a straight line"
    if one
    else "moving in straight lines"
  )
  main = scene.paint.mean(0)
  bright, dull = main.max(), main.min()
  tint = "grey"
  if bright - dull > 0.25 * bright:
    tint = hue_name(_hue(main))
  where = {
    "plain": f"plain {tint} background",
    "black": "plain black background",
    "gradient": f"{tint} gradient",
    "checker": f"{tint} checkerboard",
  }[scene.background]
  article = "an" if where[0] in "aeiou" else "a"
  return what, how, f"{article} {where}"


# ------------------------------------------------------------------ details


def _paths(
  world: World, scene: Scene, rng: np.random.Generator, tries: int
) -> tuple[np.ndarray, np.ndarray]:
  """Random phases (tries, N, 2) and velocities (tries, N, 2) of `Scene`."""
  shape = tries, len(scene.radius)
  size = world.resolution
  span = scene.box[..., 1] - scene.box[..., 0]
  phase = rng.uniform(0, 1, (*shape, 2))
  speed = rng.uniform(*world.speed, shape) * size
  direction = rng.uniform(0, 2 * np.pi, shape)
  if not scene.fall:
    return phase * 2 * span, speed[..., None] * _unit(direction)
  # From half to all of the energy that would take it to the ceiling.
  up = np.sqrt(scene.fall * span[:, 1] * (1 + direction / (2 * np.pi)))
  velocity = np.stack([speed * rng.choice([-1, 1], shape), up], -1)
  phase *= np.stack(
    [np.broadcast_to(2 * span[:, 0], shape), 2 * up / scene.fall], -1
  )
  return phase, velocity


def _apart(scene: Scene, times: np.ndarray) -> np.ndarray:
  """Share of the frames in which no two objects touch, for phase (K, N, 2)."""
  position, _ = move(scene, times)
  first, second = _pairs(len(scene.radius))
  gap = position[:, :, first] - position[:, :, second]
  reach = scene.radius[first] + scene.radius[second] + 1
  return ((gap**2).sum(-1) > reach**2).all(-1).mean(0)


@functools.cache
def _pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
  return np.triu_indices(count, 1)


def _waves(world: World, rng: np.random.Generator) -> np.ndarray:
  """Two sine waves an axis, 0.5 to 2 Hz, whose sum stays within the shake."""
  amplitude = rng.uniform(0.25, 0.5, (2, 2)) * world.shake
  rate = 2 * np.pi * rng.uniform(0.5, 2, (2, 2))
  return np.stack([amplitude, rate, rng.uniform(0, 2 * np.pi, (2, 2))], -1)


def _backdrop(world: World, scene: Scene, shift: np.ndarray) -> np.ndarray:
  """The background: (T, H, W, 3) float32 in [0, 1], contiguous, own memory."""
  size, steps = world.resolution, len(shift)
  still = not scene.shake[..., 0].any()
  paint = scene.paint.astype(np.float32)
  if scene.background in ("plain", "black"):
    picture = np.broadcast_to(paint[0], (1, size, size, 3))
  else:
    shift = shift[:1] if still else shift
    mix = backdrop_mix(
      scene.background, size, world.shake, shift, scene.slope, scene.tile
    )
    picture = paint[0] + mix[..., None] * (paint[1] - paint[0])
  if len(picture) == steps:
    return np.ascontiguousarray(picture)
  return np.repeat(picture, steps, 0)


def backdrop_mix(
  background: str,
  size: int,
  shake: float,
  shift: np.ndarray,
  slope: np.ndarray,
  tile: np.ndarray,
) -> np.ndarray:
  """Share of the second colour of a 'gradient' or 'checker' background.

  Args:
    background: 'gradient' or 'checker'.
    size: resolution, pixels.
    shake: the world's shake, pixels.
    shift: (T, 2) displacement of the camera, pixels.
    slope: (2,) unit vector along which the gradient runs.
    tile: (2,) offset of the checkerboard, pixels.

  Returns:
    (T, H, W) float32 in [0, 1].
  """
  grid = np.arange(size) + 0.5 - shift[:, :, None]  # (T, 2, size)
  if background == "gradient":
    reach = size / 2 + shake
    grid = (grid - size / 2) * slope[:, None] / (2 * reach * math.sqrt(2))
    grid = grid.astype(np.float32)
    return 0.5 + grid[:, 0, None, :] + grid[:, 1, :, None]
  wave = checker_wave(grid - tile[:, None], size)
  return 0.5 + 0.5 * wave[:, 0, None, :] * wave[:, 1, :, None]


def checker_wave(offset: np.ndarray, size: int) -> np.ndarray:
  """One axis of the checkerboard: 1 and -1 in turn, a ramp of a pixel.

  Args:
    offset: pixels from the board's origin, any shape.
    size: resolution, pixels.

  Returns:
    float32 in [-1, 1]; the board is the product of the waves of x and y.
  """
  cell = size / CELLS
  edge = np.abs(offset % (2 * cell) - cell) - cell / 2
  return (2 * edge).clip(-1, 1).astype(np.float32)


def _rgb(
  hue: np.ndarray, saturation: np.ndarray, value: np.ndarray
) -> np.ndarray:
  """HSV to RGB, all in [0, 1]: (N,) each -> (N, 3)."""
  k = (np.array([5.0, 3.0, 1.0]) + 6 * np.asarray(hue)[:, None]) % 6
  drop = np.minimum(np.minimum(k, 4 - k), 1).clip(0)
  return value[:, None] * (1 - saturation[:, None] * drop)


def _hue(rgb: np.ndarray) -> float:
  """Hue in [0, 1) of one RGB colour (3,)."""
  r, g, b = (float(v) for v in rgb)
  return math.atan2(math.sqrt(3) * (g - b), 2 * r - g - b) / (2 * math.pi) % 1


def colour_name(rgb: np.ndarray) -> str:
  """The name out of `HUES` that is nearest to a colour (3,)."""
  return hue_name(_hue(rgb))


def hue_name(hue: float) -> str:
  """The name out of `HUES` that is nearest to a hue in [0, 1)."""
  return HUES[round(float(hue) * len(HUES)) % len(HUES)]


def _unit(angle: float | np.ndarray) -> np.ndarray:
  return np.stack([np.cos(angle), np.sin(angle)], -1)


def _choose(
  rng: np.random.Generator, value: str, choices: tuple[str, ...]
) -> str:
  """`value`, or one of the choices when it is 'mixed'; one draw either way."""
  drawn = choices[int(rng.integers(len(choices)))]
  return drawn if value == "mixed" else value


def _error(name: str, value: Any, rule: str) -> ValueError:
  return errors.UserError(
    f"data.options.{name} of sprites must be {rule}; it is {value!r}."
  )


def _integer(name: str, value: Any) -> int:
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
    raise _error(name, value, "an integer")
  return int(value)


def _number(name: str, value: Any) -> float:
  good = isinstance(value, (int, float, np.integer, np.floating))
  if isinstance(value, bool) or not good or not math.isfinite(value):
    raise _error(name, value, "a finite number")
  return float(value)


def _pair(name: str, value: Any) -> tuple:
  if isinstance(value, str) or not isinstance(value, Iterable):
    raise _error(name, value, "a range (low, high)")
  value = tuple(value)
  if len(value) != 2:
    raise _error(name, value, "a range (low, high)")
  return value


def _names(name: str, value: Any, known: tuple[str, ...]) -> tuple[str, ...]:
  value = (value,) if isinstance(value, str) else tuple(value)
  for item in value:
    if item not in known:
      near = difflib.get_close_matches(str(item), known, 1, 0.0)[0]
      raise errors.UserError(
        f"data.options.{name} of sprites has no {item!r}; the nearest is "
        f"{near!r}. There are: {', '.join(known)}."
      )
  return value
