"""A trained generator with its weights, which is asked with `given`."""

from collections.abc import Iterator
import dataclasses
import functools
import inspect
from typing import Any

from flax import errors as flax_errors
import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import errors
from vidgan_jax import models
from vidgan_jax import pixels
from vidgan_jax import rooms
from vidgan_jax import tasks
from vidgan_jax.data import text as text_lib
from vidgan_jax.devices import sharding
from vidgan_jax.models import condition
from vidgan_jax.models import layers
from vidgan_jax.store import provenance
from vidgan_jax.store import workdir as workdir_lib
from vidgan_jax.train import state as state_lib

Given = dict[str, Any]  # what the generator sees, leading dimension B


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler:
  """A generator with its weights, which is asked with `given`.

    given = sampler.ask(16, label="disc")
    clips = sampler.clips(given, seed=0)

  `ask` puts beside what the generator sees the numbers of the clips, `index`.
  Clip i depends on its row of `given`, the seed and i alone: rows may be chosen
  and reordered.

  Attributes:
    generator: Linen module.
    params: its parameters, wherever they live: one device or a mesh.
    step: training step that they come from.
    task: of the run.
    times: (T,) seconds of the frames of a clip as it is evaluated.
    resolution: height and width of a frame, pixels.
    num_classes: 0 for a model of no classes.
    class_names: names of the classes.
    text: the encoder of the texts that it was trained with, or None.
    weights: 'ema' or 'raw'.
    examples: clips with `prepared`, whose conditions a task from noise to clips
      takes where it needs some, or None.
    experts: digests of the frozen networks that it was trained with.
  """

  generator: Any
  params: Any
  step: int
  task: tasks.Task
  times: tuple[float, ...]
  resolution: int
  num_classes: int = 0
  class_names: tuple[str, ...] = ()
  text: text_lib.Encoder | text_lib.Frozen | None = None
  weights: str = "ema"
  examples: Any = None
  experts: tuple[str, ...] = ()

  @property
  def card(self) -> dict[str, Any]:
    """What it is, for the protocol of a figure."""
    return {"checkpoint": self.step, "weights": self.weights}

  def with_params(self, params: Any, step: int) -> "Sampler":
    """The same generator with other weights."""
    return dataclasses.replace(self, params=params, step=step)

  def ask(
    self, num: int, seed: int = 0, source: Any = None, **wishes: Any
  ) -> Given:
    """What clips are to be made of.

    Args:
      num: clips; of a source at most as many as it has.
      seed: of what the task draws.
      source: clips with `prepared`, of which a task on footage takes the first.
      **wishes: what the task is asked for, as label='disc' of `generate`.

    Returns:
      `given` as the task prepares it and `index` (num,), NumPy arrays.

    Raises:
      UserError: the task does not know a wish, or works on given clips and
        there are none.
    """
    name = self.task.name
    if self.task.ask is tasks.from_source and source is None:
      raise errors.UserError(
        f"A model of the task {name!r} draws no clips, it works on given ones: "
        "use `vidgan process WORKDIR IN OUT`, and to measure it `vidgan "
        "evaluate WORKDIR --metrics restoration`."
      )
    source = self.examples if source is None else source
    known = [*inspect.signature(self.task.ask).parameters][4:]
    for wish, value in wishes.items():
      if wish not in known:
        wanted = f"{wish}={value!r}" if isinstance(value, str) else wish
        raise errors.UserError(
          f"{wanted} is asked for, but the task {name!r} of this run "
          f"does not take {wish!r}. " + rooms.nearest(wish, known)
        )
    facts = {"num_classes": self.num_classes, "class_names": self.class_names}
    facts["text"] = self.text
    facts |= {"times": self.times, "resolution": self.resolution}
    given = self.task.ask(num, seed, source, facts, **wishes)
    num = min(map(len, given.values()), default=num)
    return given | {"index": np.arange(num)}

  def clips(
    self,
    given: Given,
    seed: int,
    *,
    times: np.ndarray | None = None,
    batch: int = 32,
  ) -> np.ndarray:
    """Draws the clips that are asked for.

    Args:
      given: see `ask`.
      seed: of the noise.
      times: (T,) seconds of the frames; None: those of a training clip.
      batch: clips drawn at a time, at most.

    Returns:
      uint8 (B, T, H, W, C).
    """
    times = np.asarray(self.times if times is None else times, np.float32)
    return np.concatenate(list(self._parts(given, seed, batch, times)))

  def stream(
    self,
    given: Given,
    seed: int,
    *,
    batch: int = 32,
    frames: int | None = None,
  ) -> Iterator[np.ndarray]:
    """Draws the clips of `clips` a few at a time: evaluators look at many.

    Args:
      given: see `ask`.
      seed: of the noise.
      batch: clips drawn at a time, at most.
      frames: of a clip; None: those of a training clip. More go on at the same
        rate, which a generator of a fixed length refuses.

    Yields:
      uint8 (n, T, H, W, C), n at most `batch`.
    """
    times = np.asarray(self.times, np.float32)
    if frames is not None and frames > len(times):
      times = np.arange(frames, dtype=np.float32) * self._gap
    yield from self._parts(given, seed, batch, times)

  @property
  def _gap(self) -> np.float32:
    """Seconds from frame to frame of a training clip."""
    times = np.asarray(self.times, np.float32)
    return times[1] - times[0] if len(times) > 1 else np.float32(1)

  def _parts(self, given, seed, batch, times):
    for left, index in _portions(len(given["index"]), batch):
      part = rows(given, index)
      z = self.noise(seed, part.pop("index"), float(times.max()))
      yield np.asarray(self.draw(z, part, times))[:left]

  def apply(self, given: Given, times: np.ndarray, seed: int = 0) -> np.ndarray:
    """What the generator makes of given clips, before it is rounded to bytes.

    Args:
      given: as a task prepares it, leading dimension B.
      times: (B, T) seconds.
      seed: of the noise, if the generator takes any.

    Returns:
      float32 (B, T, H, W, C).
    """
    z = self.noise(seed, np.arange(len(times)), float(np.max(times)))
    batch = _beside(self.params, (given, z, times))
    return np.asarray(_apply(self.generator, self.params, *batch))

  def noise(self, seed: int, index: np.ndarray, seconds: float) -> dict:
    """The noise z of the clips of these numbers, for times up to `seconds`."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
      jax.random.key(seed), jnp.asarray(index)
    )
    return state_lib.sample_noise(self.generator.noise_spec(seconds), keys)

  def draw(self, z: dict, given: Given, times: np.ndarray) -> jax.Array:
    """Draws the frames at `times` of the clips with noise z, on the device.

    Args:
      z: noise, leading dimension B.
      given: without `index`.
      times: (T,) seconds, in any order.

    Returns:
      uint8 (B, T, H, W, C).

    Raises:
      UserError: pixels are not finite; as bytes they would be black.
    """
    num = len(jax.tree.leaves((z, given))[0])
    given = _at(self, given, np.asarray(times))
    times = jnp.tile(jnp.asarray(times, jnp.float32), (num, 1))
    batch = _beside(self.params, (given, z, times))
    video, finite = _draw(self.generator, self.params, *batch)
    if not finite:
      raise errors.UserError(
        f"The clips of step {self.step} ({self.weights} weights) have pixels "
        "that are not finite: the run diverged. Take an earlier checkpoint, "
        "with --step."
      )
    return video

  def film(
    self, z: dict, given: Given, times: np.ndarray
  ) -> Iterator[np.ndarray]:
    """Draws a few frames of all clips at a time.

    The noise covers the whole length, so that the parts fit together; memory
    does not grow with the number of frames.

    Args:
      z: noise, leading dimension B.
      given: without `index`.
      times: (T,) seconds, in any order.

    Yields:
      uint8 (B, t, H, W, C).
    """
    num = len(jax.tree.leaves((z, given))[0])
    # About 64 MiB of pixels at a time; one length, so that it compiles once.
    part = max(len(self.times), (16 << 20) // (num * self.resolution**2))
    for frames_left, shown in _portions(len(times), part):
      video = []
      for left, index in _portions(num, 32):
        drawn = self.draw(rows(z, index), rows(given, index), times[shown])
        video.append(np.asarray(drawn)[:left])
      yield np.concatenate(video)[:, :frames_left]

  def flops(self) -> float | None:
    """Operations that one clip costs, as XLA counts them; None: unknown."""
    times = np.asarray(self.times, np.float32)
    given = self.ask(1)
    z = self.noise(0, given.pop("index"), float(times.max()))
    lowered = _draw.lower(self.generator, self.params, given, z, times[None])
    return (lowered.cost_analysis() or {}).get("flops")


def _at(sampler: Sampler, given: Given, times: np.ndarray) -> Given:
  """What is given of each time and pixel, for frames at other times.

  It is asked for at the times of a training clip, or beyond these at the same
  rate. Rows, such as a sound, stay whole and get the times that they are of;
  of maps, that of t is the one of number round((t - t_0) / (t_1 - t_0)).
  """
  trained, gap = np.asarray(sampler.times), sampler._gap
  index = np.round((times - trained[0]) / gap).astype(int)
  given = dict(given)
  for name, x in given.items():
    kind = "map" if name == "video" else condition.KINDS.get(name)
    if kind not in ("rows", "map"):
      continue
    if index.min() < 0 or index.max() >= x.shape[1]:
      raise errors.UserError(
        f"Frames from {times.min():g} to {times.max():g} s are asked for, "
        f"but {name!r} is given of {x.shape[1]} times, {gap:g} s "
        "apart: ask for fewer frames, or give more."
      )
    if kind == "map":
      given[name] = x[:, index]
    elif x.shape[1] != len(times) or not np.array_equal(times, trained):
      at = trained[0] + gap * np.arange(x.shape[1], dtype=np.float32)
      given = given | {"row_times": np.tile(at, (len(x), 1))}
  return given


def rows(given: Given, index: np.ndarray) -> Given:
  """The rows of these numbers, of all that is given, or of noise."""
  return {name: x[index] for name, x in given.items()}


def _portions(num: int, size: int) -> Iterator[tuple[int, np.ndarray]]:
  """Numbers below `num`, `size` at a time, and how many are left before each.

  The last portion is filled up with the last number, so that what is made of
  each has one shape and compiles once.
  """
  size = min(size, num)
  for start in range(0, num, size):
    yield num - start, np.arange(start, start + size).clip(max=num - 1)


def _beside(params: Any, batch: Any) -> Any:
  """Puts a batch, leaves (B, ...), where the weights live.

  Over a mesh it is cut as a batch of training is; whole on every device, where
  the mesh has more devices than divide B.
  """
  batch = jax.tree.map(jnp.asarray, batch)
  places = [x.sharding for x in jax.tree.leaves(params)]
  if not places or not isinstance(places[0], jax.sharding.NamedSharding):
    return batch
  mesh, num = places[0].mesh, len(jax.tree.leaves(batch)[0])
  if num % mesh.size == 0 and set(mesh.shape) & set(sharding.BATCH_AXES):
    return jax.device_put(batch, sharding.batch_sharding(mesh))
  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  return jax.device_put(batch, whole)


@functools.partial(jax.jit, static_argnums=0)
def _apply(generator, params, given, z, times):
  try:
    output = generator.apply({"params": params}, given, z, times)
  except flax_errors.FlaxError as e:
    raise errors.UserError(
      "The weights are not those of the model that the config beside them "
      f"describes ({errors.brief(e)}): was config.model edited? Bring the run "
      "back from a copy."
    ) from e
  return layers.drawn(output).video


@functools.partial(jax.jit, static_argnums=0)
def _draw(generator, params, given, z, times):
  video = _apply(generator, params, given, z, times)
  finite = jnp.isfinite(video).all()
  return pixels.to_bytes(video), finite


def load(
  workdir: str, step: int | None = None, weights: str = "ema"
) -> Sampler:
  """Loads a generator from a workdir.

  Args:
    workdir: of a training run, or one checkpoints/STEP of it.
    step: of the checkpoint; None is the newest good one.
    weights: 'ema' or 'raw'.

  Raises:
    WorkdirError: there is no such checkpoint, or it is damaged.
  """
  from vidgan_jax.store import checkpoint

  if step is not None:
    workdir = workdir_lib.checkpoints(workdir) / str(step)
  network = {"ema": "ema", "raw": "g"}[weights]
  saved = checkpoint.restore_params(workdir, network)
  record = provenance.from_json(saved.metadata | {"step": saved.step})
  return dataclasses.replace(build(saved.tree, record), weights=weights)


def build(params: Any, record: provenance.Record) -> Sampler:
  """A sampler of parameters and of the record of where they come from."""
  config = record.config
  generator, _ = models.create(config.model, jnp.dtype(config.precision))
  return Sampler(
    generator=generator,
    params=params,
    step=record.step,
    task=tasks.create(config.task),
    num_classes=config.model.num_classes,
    class_names=record.class_names,
    text=text_lib.restore(record.text) if record.text else None,
    times=record.times,
    resolution=config.model.resolution,
    experts=tuple(record.experts.values()),
  )


def truncate(sampler: Sampler, z: dict, given: Given, scale: float) -> dict:
  """Draws the content nearer to its mean: quality for diversity.

  A generator with styles has each drawn towards the mean style of what is
  given with it, as its class (Karras et al. 2019, section B); of any other
  the noise is scaled. Motion stays whole.

  Args:
    sampler: of the generator.
    z: noise, leading dimension B.
    given: without `index`.
    scale: 1 leaves z as it is, 0 gives the mean.
  """
  if scale == 1:
    return z
  if not hasattr(sampler.generator, "style"):
    return {
      k: x * (scale if k in ("content", "z") else 1) for k, x in z.items()
    }
  style = functools.partial(sampler.generator.style, sampler.params)
  content = sampler.noise(0, np.arange(1024), 0.0)["content"]

  @functools.cache
  def mean(i):
    same = rows(given, np.full(len(content), i))
    return style(same, {"content": content}).mean(0)

  # w <- mean + scale (w - mean), of rows that are alike the mean only once.
  first = [_first_like(given, i) for i in range(len(z["content"]))]
  middle = jnp.stack([mean(i) for i in first])
  w = style(given, z)
  return z | {"style": middle + scale * (w - middle)}


def _first_like(given: Given, i: int) -> int:
  """Number of the first row that is like row i."""
  like = lambda x: (x == x[i]).reshape(len(x), -1).all(1)
  alike = [like(np.asarray(x)) for x in given.values()]
  return int(np.argmax(np.logical_and.reduce(alike))) if alike else 0


def vary(z: dict, what: str) -> dict:
  """Makes all clips share their content or their motion.

  Args:
    z: noise of B clips.
    what: 'content' (all have the motion of the first), 'motion' (all have the
      content of the first) or 'both' (as they are).
  """
  if what == "both":
    return z
  if "content" not in z:
    raise errors.UserError(
      "This generator does not tell content from motion; only models that do, "
      "such as 'continuous', know --vary content and --vary motion."
    )
  shared = lambda x: jnp.broadcast_to(x[:1], x.shape)
  fixed = {name for name in z if (name == "content") == (what == "motion")}
  return {name: shared(x) if name in fixed else x for name, x in z.items()}


def interpolate(z: dict, num: int) -> dict:
  """Leads from the first clip's content to the second's, on a great circle.

  Args:
    z: noise of at least two clips.
    num: clips on the way, the two ends included.

  Returns:
    Noise of `num` clips with the motion of the first. (White 2016, `slerp`.)
  """
  name = "content" if "content" in z else "z"
  a, b = z[name][0], z[name][1]
  cosine = jnp.sum(a * b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b))
  angle = jnp.maximum(jnp.arccos(jnp.clip(cosine, -1, 1)), 1e-4)
  share = jnp.linspace(0, 1, num)[:, None]
  way = jnp.sin((1 - share) * angle) * a + jnp.sin(share * angle) * b
  rest = {k: jnp.repeat(x[:1], num, 0) for k, x in z.items()}
  return rest | {name: way / jnp.sin(angle)}
