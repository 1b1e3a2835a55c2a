"""A trained generator as a stage of `vidgan process`."""

import dataclasses
import difflib
import functools
import inspect
import math
import os
import re
from typing import Any
import zlib

import jax
import numpy as np

from vidgan_jax import errors
from vidgan_jax import rooms
from vidgan_jax import sampler as sampler_lib
from vidgan_jax import tasks
from vidgan_jax import zoo
from vidgan_jax.data import sound
from vidgan_jax.devices import processes
from vidgan_jax.video import phases
from vidgan_jax.video import read
from vidgan_jax.video import stages
from vidgan_jax.video import stream

# What a generator says of itself where footage is to go through it -> in what
# form, see docs/contracts.md.
_CONTRACT = {
  "align": "pixels on whose multiples windows begin, as 1",
  "halo": "pixels, frames before and frames after, as (4, 0, 0)",
}
_MEMORY = {"margin": "pixels that one frame's step looks at, as 4"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage(stream.Stage):
  """Runs a generator on windows of real footage; see `video.stream.Stage`.

  Attributes:
    name: for messages.
    sampler: the generator and its weights, of a task on footage.
    options: of `tasks.Footage.given`; a `sound` is the name of a file, and
      `offset` tells when it begins.
    wave: what it hears, (S,), see `hear`.
    known: what windows do not show, name -> (T, n), see `look`.
    face: the first frame of the shot, (h, w, 3) in [-1, 1], likewise.
    fps: of the result, of a task that makes frames between frames. It is then
      shown those too, empty and masked, by `video.phases`, and each is made for
      the time that it has. None: `rate` times those of the input.
  """

  name: str
  sampler: sampler_lib.Sampler
  options: dict[str, Any]
  wave: np.ndarray | None = None
  known: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  face: np.ndarray | None = None
  fps: float | None = None
  compiled = True

  @property
  def _footage(self) -> tasks.Footage:
    return self.sampler.task.footage

  @property
  def scale(self) -> int:
    """Side of the result over side of the input."""
    return self._footage.scale

  @property
  def rate(self) -> int:
    """Frames of the result are (T - 1) * rate + 1."""
    return 1 if self.fps else self.options.get("rate", self._footage.rate)

  @property
  def _near(self) -> tuple[int, int] | None:
    """Align and halo with what `masked` adds; None: it adds nothing."""
    generator = self.sampler.generator
    between = self.rate > 1 or self.fps or self.recurrent
    return generator.near if _has(generator, "near") and not between else None

  @property
  def align(self) -> int:
    """Windows begin at multiples of so many pixels."""
    return self._near[0] if self._near else self.multiple

  @property
  def multiple(self) -> int:
    """The sides of a frame are made multiples of so many pixels."""
    return self.sampler.generator.align

  @property
  def border(self) -> int:
    """Pixels by which frames are mirrored beyond their borders.

    The convolutions take what lies beyond a border for black, or for the mean
    of a frame, and answer with a light or a dark rim of some pixels. Mirrored
    frames go on as they are.
    """
    generator = self.sampler.generator
    mirrored = _has(generator, "border") and not self.recurrent
    return generator.border if mirrored else 0

  @property
  def halo(self) -> tuple[int, int, int]:
    """Pixels, frames before and frames after, all of the input."""
    if self.recurrent:
      return self.sampler.generator.margin, 0, 0
    pixels, before, after = self.sampler.generator.halo
    if self._near:
      pixels = self._near[1]
    # The last of the frames made between two sees the furthest.
    after += self.rate - 1
    return pixels, -(-before // self.rate), -(-after // self.rate)

  @property
  def recurrent(self) -> bool:
    """Whether it remembers: it is then called with its state, see there."""
    return _has(self.sampler.generator, "apply_step")

  @property
  def cost(self) -> float:
    """Bytes of working memory an input pixel and frame."""
    generator = self.sampler.generator
    known = _has(generator, "cost")
    return self.rate * (generator.cost if known else stream.Stage.cost)

  @property
  def masks(self) -> bool:
    """Whether a mask says something to it."""
    if self.fps:
      return False
    clip, times = self._blank, np.zeros(2, np.float32)
    masks = [np.full((2, 32, 32, 1), x, np.float32) for x in (0, 1)]
    none, all_ = (self._given(clip, times, mask) for mask in masks)
    return any(np.any(none[name] != all_[name]) for name in none)

  @property
  def keeps(self) -> bool:
    """Whether known pixels come out as they are."""
    generator = self.sampler.generator
    composed = bool(self._near) or self.looks_back
    return composed and generator.compose and not generator.curve

  @property
  def looks_back(self) -> bool:
    """Whether what is hidden is shown as the first frame of the shot has it."""
    return self._footage.hides is not None

  @property
  def voice(self) -> stream.Voice | None:
    """The sound that it follows."""
    if not self._footage.hears:
      return None
    path, offset = (self.options.get(k) for k in ("sound", "offset"))
    return stream.Voice(
      path=str(path or ""), offset=offset or 0.0, rate=sound.RATE
    )

  @property
  def unmasked(self) -> str:
    """What a user is told who gives no mask.

    Raises:
      VideoError: it can do nothing without.
    """
    if not self.fps:
      self._given(self._blank, np.zeros(2, np.float32), None)
    return self._footage.unmasked

  @property
  def _blank(self) -> np.ndarray:
    """A clip of no content, to ask `given` what it makes of a mask."""
    level = np.float32([*self.sampler.task.palette.values(), 3 * [127.5]][0])
    return np.zeros((2, 32, 32, 3), np.float32) + (level / 127.5 - 1)

  def _given(self, video, times, mask) -> dict[str, np.ndarray]:
    options = dict(self.options)
    if self._footage.hears:
      options.pop("offset", None)
      options["sound"] = self.known.get("sound")
    try:
      return self._footage.given(video, times, mask, **options)
    except errors.UserError as error:
      raise read.VideoError(f"{self.name}: {error}") from None

  def __repr__(self) -> str:
    """Says which weights these are: `--resume` goes on with the same alone."""
    digest = 0
    for leaf in jax.tree.leaves(self.sampler.params):
      digest = zlib.crc32(np.ascontiguousarray(leaf), digest)
    return (
      f"Stage({self.name}, step {self.sampler.step}, {digest:08x}, "
      f"{sorted(self.options.items())}, rate {self.rate}, fps {self.fps})"
    )

  def hear(self, wave: np.ndarray) -> "Stage":
    """The stage that follows this sound."""
    return dataclasses.replace(self, wave=wave)

  def hides(self, image: np.ndarray) -> np.ndarray | None:
    """What the task hides of a frame where no mask is given."""
    hides = self._footage.hides
    return None if hides is None else hides(*image.shape[:2])

  def look(self, frames: list[stream.Frame], first: stream.Frame) -> "Stage":
    """The stage for windows of these frames: it has their vector and sound."""
    known, face = {}, None
    if self._footage.vector_dim:
      video = stream.to_float(np.stack([frame.image for frame in frames]))
      given = self._footage.given(video, None, None, **self.options)
      known["vector"] = given["vector"]
    if self._footage.hears:
      known["sound"] = self._rows([float(frame.time) for frame in frames])
    if self.looks_back:
      face = stream.to_float(first.image)
    return dataclasses.replace(self, known=known, face=face)

  def _rows(self, times: list[float]) -> np.ndarray:
    """Rows of what is heard at times, (T, n).

    A row is as long as in training, at whatever rate the frames come. Of the
    wave the seconds around the window suffice.
    """
    gap = float(np.diff(self.sampler.times).mean())
    margin = 1 + math.ceil(2 * gap)
    start = max(0, math.floor(times[0]) - margin)
    wave = self.wave[start * sound.RATE :]
    end = math.ceil(times[-1]) + margin - start
    wave = wave[: max(end, 0) * sound.RATE]
    return sound.rows(wave, np.subtract(times, start), gap)

  def masked(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask, with what windows do not show in it.

    That is the generator's `spread`, or the first frame of the shot.
    """
    mask = super().masked(image, mask)
    if self.looks_back:
      height, width = np.subtract(image.shape[:2], self.face.shape[:2])
      face = np.pad(self.face, ((0, height), (0, width), (0, 0)), "edge")
      return mask * _pack(np.pad(face, ((0, 0), (0, 0), (0, 1))))
    if not self._near:
      return mask
    clip, times = stream.to_float(image)[None], np.zeros(1, np.float32)
    given = self._given(clip, times, mask[None].astype(np.float32))
    given = {name: given[name][None] for name in ("video", "mask")}
    seen = np.asarray(_spread(self.sampler.generator, given))[0, 0]
    return mask * _pack(seen)

  def __call__(
    self,
    video: np.ndarray,
    times: np.ndarray,
    mask: np.ndarray | None,
    state: Any = None,
  ) -> Any:
    """(T, h, w, 3) in [-1, 1] -> (T', H, W, 3), float32.

    A recurrent one takes its state after the frames before, None if there are
    none, and returns its state beside the result.
    """
    seen = None
    if mask is not None and mask.dtype == np.uint32:  # of `masked`
      seen = _unpack(mask)
      mask = (mask > 0).astype(np.float32)
      if self.looks_back:
        video = video * (1 - mask) + seen[..., :3] * mask
    if self.fps:
      given = tasks.hide(video, mask)
    else:
      given = self._given(video, times, mask)
    if seen is not None and not self.looks_back:
      given["spread"] = seen
    given |= self.known
    times = tasks.subdivide(np.asarray(times, np.float32), self.rate)[None]
    batch = {name: value[None] for name, value in given.items()}
    if not self.recurrent:
      return self.sampler.apply(batch, times)[0]
    generator, params = self.sampler.generator, self.sampler.params
    z = self.sampler.noise(0, np.arange(1), 0.0)
    out, state = _step(generator, params, batch, state, z, times)
    return np.asarray(out)[0], state


# Whole frames of a window, which are 72 for inpaint, are kept in four bytes a
# pixel: ten bits a colour, one for what is lost, and the lowest.
_PLACES = np.array([2, 12, 22], np.uint32)


def _pack(seen: np.ndarray) -> np.ndarray:
  """`bases.spread` of a frame, (h, w, 3 + 1) -> (h, w, 1) uint32, odd."""
  levels = np.rint((seen[..., :3] + 1) * 511.5).astype(np.uint32) << _PLACES
  lost = 2 * seen[..., 3].astype(np.uint32) + 1
  return (np.bitwise_or.reduce(levels, -1) | lost)[..., None]


def _unpack(words: np.ndarray) -> np.ndarray:
  """(..., 1) -> (..., 3 + 1) float32."""
  colours = (words >> _PLACES & 1023).astype(np.float32) / 511.5 - 1
  return np.concatenate([colours, words >> 1 & 1], -1, dtype=np.float32)


@functools.partial(jax.jit, static_argnums=0)
def _spread(generator, given):
  return generator.spread(given)


@functools.partial(jax.jit, static_argnums=0)
def _step(generator, params, given, state, z, times):
  return generator.apply_step(params, given, state, z, times)


def _has(generator: Any, name: str) -> bool:
  """Whether it defines an attribute; a property of it is not run."""
  return inspect.getattr_static(generator, name, None) is not None


def check(generator: Any) -> None:
  """Checks that footage can go through a generator, a Linen module.

  Raises:
    UserError: it does not say what windows it needs.
  """
  wanted = _CONTRACT | (_MEMORY if _has(generator, "apply_step") else {})
  missing = [
    f"`{name}` ({form})"
    for name, form in wanted.items()
    if not _has(generator, name)
  ]
  if missing:
    model = type(generator).__module__.rpartition(".")[2]
    raise errors.UserError(
      f"The model {model!r} cannot process footage: its Generator does not "
      f"define {' and '.join(missing)}. docs/contracts.md, section 'A model of "
      "a given clip', has an example."
    )


def load(name: str, options: dict[str, Any]) -> Stage:
  """Loads a stage.

  Args:
    name: a workdir, a checkpoint in it, a file of weights, or the name of a
      task of which weights are shipped.
    options: of the task (super_resolve: scale, which chooses the weights;
      interpolate: fps, frames a second of the result, or rate, how many
      frames for one) and of its `given`.

  Raises:
    UserError: no such weights, an option that nothing takes, or a model that
      cannot process footage.
    CheckpointError: no usable checkpoint.
  """
  processes.use_cache()
  options = dict(options)
  sampler = _sampler(name, options)
  footage = sampler.task.footage
  if footage is None:
    raise errors.UserError(
      f"{name} was trained for the task {sampler.task.name!r}, which takes no "
      "footage: use `vidgan generate`."
    )
  check(sampler.generator)
  known = list(inspect.signature(footage.given).parameters)[3:]
  known += ["fps"] * (footage.rate > 1)
  known += ["offset"] * footage.hears
  known += ["method"] * (name == "interpolate")  # see `stages.chain`
  for option in options:
    rooms.check_name(option, known, f"the option of {name}")
  if "offset" in options:
    _check_offset(name, options)
  fps = options.pop("fps", None)
  phases.check(name, rate=options.get("rate"), fps=fps)
  return Stage(name=name, sampler=sampler, options=options, fps=fps)


def _check_offset(name: str, options: dict[str, Any]) -> None:
  if "sound" not in options:
    raise errors.UserError(
      f"{name}: offset tells when a sound begins: give one as well, as "
      f"{name}:sound=FILE,offset=0.2"
    )
  offset = options["offset"]
  if not isinstance(offset, int | float) or not abs(offset) < 1e6:
    raise errors.UserError(
      f"{name}: offset is {offset!r}; give seconds, as 0.2 or -0.2"
    )


def _sampler(name: str, options: dict[str, Any]) -> sampler_lib.Sampler:
  """The sampler of a name, see `load`; takes `scale` out of the options."""
  if os.path.isdir(name):
    return sampler_lib.load(name)
  if name.endswith(".safetensors"):
    return zoo.load(name)
  shipped = zoo.names()
  known = sorted({re.sub(r"_x\d$", "", n) for n in shipped})
  if name not in known:
    if name in rooms.names("tasks") and name != "generate":
      raise errors.UserError(
        f"{name}: no weights are shipped for it: train it "
        f"(configs/video_to_video.py:task={name}) and give its workdir"
      )
    known = sorted({*known, *stages.BUILT_IN})
    close = difflib.get_close_matches(name, known, 1, 0.0)
    raise errors.UserError(
      f"unknown task {name!r}: did you mean {close[0]!r}? There are "
      f"{', '.join(known)}; a workdir does as well"
    )
  scales = [n[-1] for n in shipped if re.fullmatch(rf"{name}_x\d", n)]
  scale = options.pop("scale", None) if scales else None
  if scales and str(scale) not in scales:
    raise errors.UserError(
      f"{name} comes for several scales: choose one of "
      + ", ".join(f"{name}:scale={n}" for n in scales)
    )
  return zoo.load(f"{name}_x{scale}" if scales else name)
