"""The steps that need no network, and how a text names a chain of steps.

  chain("crop:w=64,h=48,denoise", footage.load)

The steps of models come from outside: whoever only cuts and crops loads no JAX.
"""

from collections.abc import Callable
import dataclasses
import inspect
import operator
import os
from typing import Any

import numpy as np

from vidgan_jax import rooms
from vidgan_jax.video import block_motion
from vidgan_jax.video import edits
from vidgan_jax.video import phases
from vidgan_jax.video import read
from vidgan_jax.video import stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity(stream.Stage):
  """Leaves everything as it is.

  Attributes:
    pixels: go through RGB all the same, as a network's frames do; otherwise
      pictures go from decoder to encoder as they are.
  """

  pixels: int = 0
  name, masks = "identity", False

  def __call__(self, video, times, mask):
    del times, mask
    return video


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resize(stream.Stage):
  """Enlarges by Lanczos."""

  scale: int = 2
  name, masks = "resize", False
  halo = (4, 0, 0)

  def __call__(self, video, times, mask):
    del times, mask
    return edits.lanczos(
      video, *(self.scale * side for side in video.shape[1:3])
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blend(stream.Stage):
  """Cross-fades between frames: the crudest interpolation."""

  rate: int = 2
  name, masks = "blend", False
  halo = (0, 0, 1)

  def __call__(self, video, times, mask):
    del times, mask
    phase = np.arange(self.rate, dtype=np.float32) / self.rate
    phase = phase[:, None, None, None]
    between = [(1 - phase) * a + phase * b for a, b in zip(video, video[1:])]
    return np.concatenate([*between, video[-1:]])


def _of_stage(name: str) -> property:
  return property(operator.attrgetter(f"stage.{name}"))


@dataclasses.dataclass(frozen=True)
class _Around(stream.Stage):
  """What a stage says of itself; a subclass calls it."""

  stage: stream.Stage

  name, pixels, fps = map(_of_stage, ("name", "pixels", "fps"))
  scale, rate, align = map(_of_stage, ("scale", "rate", "align"))
  masks, cost, recurrent = map(_of_stage, ("masks", "cost", "recurrent"))
  compiled, unmasked, keeps = map(_of_stage, ("compiled", "unmasked", "keeps"))
  halo, border, multiple = map(_of_stage, ("halo", "border", "multiple"))
  voice, looks_back = map(_of_stage, ("voice", "looks_back"))

  def hear(self, wave):
    """Lets the stage hear a sound."""
    return dataclasses.replace(self, stage=self.stage.hear(wave))

  def hides(self, image):
    """What the stage hides where no mask is given."""
    return self.stage.hides(image)

  def look(self, frames, first):
    """Shows the stage whole frames."""
    return dataclasses.replace(self, stage=self.stage.look(frames, first))

  def masked(self, image, mask):
    """What the stage is shown as the mask."""
    return self.stage.masked(image, mask)


@dataclasses.dataclass(frozen=True)
class Mirrored(_Around):
  """The mean of a stage's results for a clip and for its mirror image.

  Timofte et al. 2016 (arXiv:1511.02228), section 3.6, with two of their eight
  images. It costs twice the time.
  """

  def __call__(self, video, times, mask, *state):
    before = state and (state[0] or (None, None))
    flip = lambda x: None if x is None else x[:, :, ::-1]
    plain = self.stage(video, times, mask, *before[:1])
    flipped = self.stage(flip(video), times, flip(mask), *before[1:])
    mean = lambda a, b: (np.asarray(a, np.float32) + flip(np.asarray(b))) / 2
    if not state:
      return mean(plain, flipped)
    (plain, first), (flipped, second) = plain, flipped
    return mean(plain, flipped), (first, second)


@dataclasses.dataclass(frozen=True)
class Mixed(_Around):
  """A stage's result, mixed with what simple enlargement gives."""

  strength: float

  @property
  def halo(self):
    """That of the stage, or of the enlargement."""
    pixels, before, after = self.stage.halo
    return (
      max(pixels, 4 * (self.stage.scale > 1)),
      before,
      max(after, int(self.stage.rate > 1)),
    )

  def __call__(self, video, times, mask, *state):
    base = video
    if self.stage.rate > 1:
      base = Blend(rate=self.stage.rate)(base, times, mask)
    if self.stage.scale > 1:
      base = Resize(scale=self.stage.scale)(base, times, mask)
    result = self.stage(video, times, mask, *state)
    if state:  # a recurrent stage returns its next one as well
      result, after = result
    result = base + self.strength * (np.asarray(result, np.float32) - base)
    return (result, after) if state else result


def mirrored(steps: list[stream.Step]) -> list[stream.Step]:
  """A chain whose networks are asked twice, see `Mirrored`."""
  return [
    Mirrored(step) if isinstance(step, stream.Stage) and step.compiled else step
    for step in steps
  ]


def mixed(steps: list[stream.Step], strength: float) -> list[stream.Step]:
  """A chain whose stages act with a strength of 0 (nothing) to 1 (all)."""
  if strength == 1:
    return steps
  mix = lambda step: (
    Mixed(step, strength)
    if isinstance(step, stream.Stage)
    else dataclasses.replace(step, strength=strength)
    if isinstance(step, block_motion.BlockMotion)
    else step
  )
  return [mix(step) for step in steps]


BUILT_IN = {
  "identity": Identity, "resize": Resize, "blend": Blend, "crop": edits.Crop,
}  # fmt: skip


METHODS = ("model", "classical")  # of interpolate: trained, or block motion


def chain(
  spec: str, model: Callable[[str, dict[str, Any]], stream.Step]
) -> list[stream.Step]:
  """The steps of NAME[:KEY=VALUE,...],NAME[:KEY=VALUE,...].

  Args:
    spec: the text. An item that is a path that exists is a name as a whole.
    model: gives the step of a name that is not in `BUILT_IN`, and its options.

  Raises:
    read.VideoError: the text is not such a chain, or a step has no such option.
  """
  items = []
  for part in filter(None, (p.strip() for p in spec.split(","))):
    more = "=" in part and ":" not in part and not os.path.exists(part)
    if more and items:
      items[-1] += ("," if ":" in items[-1] else ":") + part
    else:
      items.append(part)
  if not items:
    raise read.VideoError("SPEC is empty: name a task, as in denoise")
  steps = []
  for item in items:
    name, options = _parsed(item)
    method = METHODS[0]
    if name == "interpolate":
      method = options.pop("method", method)
      rooms.check_name(method, METHODS, f"The option method of {name}")
    if name in BUILT_IN:
      step = _built_in(item, name, options)
    elif method == "classical":
      step = _classical(name, options)
    else:
      step = model(name, options)
    steps += phases.around(step)
  return steps


def _parsed(spec: str) -> tuple[str, dict[str, Any]]:
  """NAME:KEY=VALUE,... -> the name and its options."""
  if os.path.exists(spec):
    return spec, {}
  name, _, rest = spec.partition(":")
  options = {}
  for item in filter(None, rest.split(",")):
    key, equals, value = item.partition("=")
    if not equals:
      raise read.VideoError(f"{spec}: {item!r} is not KEY=VALUE")
    options[key.strip()] = _number(value.strip())
  return name, options


def _built_in(spec: str, name: str, options: dict[str, Any]) -> stream.Step:
  for key, value in options.items():  # Places may be 0, sizes and rates not.
    least = 0 if key in ("x", "y", "pixels") else 1
    if not isinstance(value, int) or value < least:
      raise read.VideoError(
        f"{spec}: {key} is {value}; give a whole number, not negative, and at"
        " least 1 for a size"
      )
  signature = inspect.signature(BUILT_IN[name])
  try:
    signature.bind(**options)
  except TypeError:
    raise read.VideoError(
      f"{spec}: {name} takes {', '.join(signature.parameters)}, as in"
      " crop:w=64,h=48"
    ) from None
  return BUILT_IN[name](**options)


def _classical(name: str, options: dict[str, Any]) -> stream.Step:
  for option in options:
    where = f"The option of {name}:method=classical"
    rooms.check_name(option, ("rate", "fps"), where)
  phases.check(name, rate=options.get("rate"), fps=options.get("fps"))
  return block_motion.BlockMotion(**options)


def _number(text: str) -> Any:
  """The number that a text is, or else the text."""
  for kind in (int, float):
    try:
      return kind(text)
    except ValueError:
      pass
  return text
