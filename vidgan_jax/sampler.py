"""A trained generator with its weights, ready to draw clips."""

from collections.abc import Iterator
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax import models
from vidgan_jax import pixels
from vidgan_jax import tasks
from vidgan_jax.models import layers
from vidgan_jax.store import provenance
from vidgan_jax.store import workdir as workdir_lib
from vidgan_jax.train import state as state_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """A generator with its weights, ready to draw clips.

  Attributes:
    generator: Linen module.
    params: its parameters.
    step: training step that they come from.
    num_classes: 0 for an unconditional one.
    class_names: names of the classes.
    times: (T,) seconds of the frames of a clip as it is evaluated.
    resolution: height and width of a frame, pixels.
    task: `config.task` of the run, name and options.
    weights: 'ema' or 'raw'.
  """

  generator: Any
  params: Any
  step: int
  num_classes: int
  class_names: tuple[str, ...]
  times: tuple[float, ...]
  resolution: int
  task: Any = None
  weights: str = "ema"

  @property
  def card(self) -> dict[str, Any]:
    """What it is, for the protocol of a figure."""
    return {"checkpoint": self.step, "weights": self.weights}

  def with_params(self, params: Any, step: int) -> "Model":
    """The same generator with other weights."""
    return dataclasses.replace(self, params=params, step=step)

  def clips(
    self,
    seed: int,
    num: int,
    labels: np.ndarray | None = None,
    *,
    batch: int = 32,
    times: np.ndarray | None = None,
  ) -> tuple[np.ndarray, np.ndarray | None]:
    """Draws clips; clip i depends on (seed, i) alone, not on `batch`.

    Args:
      seed: of the noise.
      num: number of clips.
      labels: (num,) classes; None takes them in turn.
      batch: clips drawn at a time.
      times: (T,) seconds of the frames; None: those of a training clip.

    Returns:
      uint8 (num, T, H, W, C), and the labels, int32 (num,) or None.
    """
    if self.num_classes and labels is None:
      labels = np.arange(num) % self.num_classes
    if labels is not None:
      labels = np.asarray(labels, np.int32)
    times = np.asarray(self.times if times is None else times, np.float32)
    parts = list(self._parts(seed, num, labels, batch, times))
    return np.concatenate(parts), labels

  def stream(
    self, seed: int, num: int, batch: int = 32, *, frames: int | None = None
  ) -> Iterator[np.ndarray]:
    """Draws the clips of `clips` a few at a time: evaluators look at many.

    Args:
      seed: of the noise.
      num: number of clips; classes are taken in turn.
      batch: clips drawn at a time, at most.
      frames: of a clip; None: those of a training clip. More go on at the same
        rate, which a generator of a fixed length refuses.

    Yields:
      uint8 (n, T, H, W, C), n at most `batch`.
    """
    times = np.asarray(self.times, np.float32)
    if frames is not None and frames > len(times):
      gap = times[1] - times[0] if len(times) > 1 else np.float32(1)
      times = np.arange(frames, dtype=np.float32) * gap
    labels = None
    if self.num_classes:
      labels = np.arange(num, dtype=np.int32) % self.num_classes
    yield from self._parts(seed, num, labels, batch, times)

  def check_draws(self) -> None:
    """Raises a ConfigError where clips are not made of noise alone."""
    if self.task and tasks.create(self.task).given is not None:
      raise config_lib.ConfigError(
        f"A model of the task {self.task.name!r} draws no clips, it works on "
        "given ones: use `vidgan process WORKDIR IN OUT`, and to measure it "
        "`vidgan evaluate WORKDIR --metrics restoration`."
      )

  def _parts(self, seed, num, labels, batch, times):
    self.check_draws()
    batch = min(batch, num)
    for start in range(0, num, batch):
      # The last part is filled up, so that the generator compiles once.
      index = np.minimum(np.arange(start, start + batch), num - 1)
      drawn = self.draw(
        self.noise(seed, index, float(times.max())),
        None if labels is None else labels[index],
        times,
      )
      yield np.asarray(drawn)[: num - start]

  def apply(self, given: dict, times: np.ndarray, seed: int = 0) -> np.ndarray:
    """What the generator makes of given clips.

    Args:
      given: as a task prepares it, leading dimension B.
      times: (B, T) seconds.
      seed: of the noise, if the generator takes any.

    Returns:
      float32 (B, T, H, W, C).
    """
    z = self.noise(seed, np.arange(len(times)), float(np.max(times)))
    given = jax.tree.map(jnp.asarray, given)
    times = jnp.asarray(times, jnp.float32)
    return np.asarray(_apply(self.generator, self.params, given, z, times))

  def noise(self, seed: int, index: np.ndarray, seconds: float) -> dict:
    """The noise z of the clips of these numbers, for times up to `seconds`."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
      jax.random.key(seed), jnp.asarray(index)
    )
    return state_lib.sample_noise(self.generator.noise_spec(seconds), keys)

  def draw(
    self, z: dict, labels: np.ndarray | None, times: np.ndarray
  ) -> jax.Array:
    """Draws the frames at `times` of the clips with noise z, on the device.

    Args:
      z: noise, leading dimension B.
      labels: (B,) or None.
      times: (T,) seconds, in any order.

    Returns:
      uint8 (B, T, H, W, C).

    Raises:
      ValueError: pixels are not finite; as bytes they would be black.
    """
    num = len(jax.tree.leaves(z)[0])
    given = {"label": jnp.asarray(labels)} if self.num_classes else {}
    times = jnp.tile(jnp.asarray(times, jnp.float32), (num, 1))
    video, finite = _draw(self.generator, self.params, given, z, times)
    if not finite:
      raise errors.UserError(
        f"The clips of step {self.step} ({self.weights} weights) have pixels "
        "that are not finite: the run diverged. Take an earlier checkpoint, "
        "with --step."
      )
    return video

  def flops(self) -> float | None:
    """Operations that one clip costs, as XLA counts them; None: unknown."""
    times = np.asarray(self.times, np.float32)
    z = self.noise(0, np.arange(1), float(times.max()))
    given = {"label": jnp.zeros(1, jnp.int32)} if self.num_classes else {}
    lowered = _draw.lower(self.generator, self.params, given, z, times[None])
    return (lowered.cost_analysis() or {}).get("flops")

  def truncate(self, z: dict, labels: np.ndarray | None, scale: float) -> dict:
    """Draws the content nearer to its mean: quality for diversity.

    A generator with styles has each drawn towards the mean style of its class
    (Karras et al. 2019, section B); of any other the noise is scaled. Motion
    stays whole.

    Args:
      z: noise, leading dimension B.
      labels: (B,) or None.
      scale: 1 leaves z as it is, 0 gives the mean.
    """
    if scale == 1:
      return z
    if not hasattr(self.generator, "style"):
      return {
        k: x * (scale if k in ("content", "z") else 1) for k, x in z.items()
      }
    content = self.noise(0, np.arange(1024), 0.0)["content"]

    def mean(label):
      given = {"label": jnp.broadcast_to(label, len(content))}
      many = {"content": content}
      return self.generator.style(self.params, given, many).mean(0)

    labels = np.zeros(len(z["content"]), int) if labels is None else labels
    means = {c: mean(c) for c in np.unique(labels)}
    middle = jnp.stack([means[c] for c in labels])
    given = {"label": jnp.asarray(labels)}
    w = self.generator.style(self.params, given, z)
    return z | {"style": middle + scale * (w - middle)}


@functools.partial(jax.jit, static_argnums=0)
def _apply(generator, params, given, z, times):
  output = generator.apply({"params": params}, given, z, times)
  return layers.drawn(output).video


@functools.partial(jax.jit, static_argnums=0)
def _draw(generator, params, given, z, times):
  video = _apply(generator, params, given, z, times)
  finite = jnp.isfinite(video).all()
  return pixels.to_bytes(video), finite


def load(workdir: str, step: int | None = None, weights: str = "ema") -> Model:
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
  return dataclasses.replace(build(saved.params, record), weights=weights)


def build(params: Any, record: provenance.Record) -> Model:
  """A model of parameters and of the record of where they come from."""
  config = record.config
  generator, _ = models.create(config.model, jnp.dtype(config.precision))
  return Model(
    generator=generator,
    params=params,
    step=record.step,
    task=config.task,
    num_classes=config.model.num_classes,
    class_names=record.class_names,
    times=record.times,
    resolution=config.model.resolution,
  )


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
    raise config_lib.ConfigError(
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
