"""The state of a training run: everything that a checkpoint must hold."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from vidgan_jax.models import layers


@flax.struct.dataclass
class State:
  """All that changes from step to step; nothing else does.

  Attributes:
    step: int32 (), updates done, skipped ones included.
    key: typed PRNG key of the run; step s draws from fold_in(key, s).
    g: generator parameters (float32).
    d: discriminator parameters (float32).
    ema: exponential moving average of `g`, the weights to sample with.
    g_opt: optimizer state of `g`.
    d_opt: optimizer state of `d`.
    augment_p: float32 (), probability of each augmentation of D's input.
    score_means: float32 (2,), moving averages of D(real) and D(fake); zeros at
      first, near which an untrained D's scores are.
    skipped: int32 (), updates refused because a gradient was not finite.
    skipped_in_a_row: int32 (), the same since the last good update.
  """

  step: jax.Array
  key: jax.Array
  g: Any
  d: Any
  ema: Any
  g_opt: Any
  d_opt: Any
  augment_p: jax.Array
  score_means: jax.Array
  skipped: jax.Array
  skipped_in_a_row: jax.Array


def sample_noise(spec: dict[str, tuple], keys: jax.Array) -> dict:
  """Draws z: normal numbers, each sample from its own key.

  A two-dimensional shape (rows, n) is drawn row by row, so that a longer
  clip begins with the noise of a shorter one.

  Args:
    spec: `generator.noise_spec(seconds)`: name -> shape of one sample.
    keys: (B,) typed keys.

  Returns:
    name -> float32 array (B, *shape).
  """

  def one(key):
    z = {}
    for i, (name, shape) in enumerate(sorted(spec.items())):
      draw = jax.random.fold_in(key, i)
      if len(shape) == 2:
        rows = jax.vmap(jax.random.fold_in, (None, 0))(
          draw, jnp.arange(shape[0])
        )
        z[name] = jax.vmap(lambda k, n=shape[1]: jax.random.normal(k, (n,)))(
          rows
        )
      else:
        z[name] = jax.random.normal(draw, shape)
    return z

  return jax.vmap(one)(keys)


def fold(keys: jax.Array, number: int) -> jax.Array:
  """Other keys, one for each of (B,) keys."""
  return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def in_training(given: Mapping, progress: jax.Array, keys: jax.Array) -> dict:
  """`given` as both networks see it in training, and in training alone.

  Args:
    given: of the batch.
    progress: () share of the run that is done.
    keys: (B,).

  Returns:
    The same with 'progress', a float32 scalar in [0, 1], and 'keys', (B,) typed
    keys to draw from. (Linen's own `rngs` take one key for all clips, with
    which a clip's draw would depend on the batch.)
  """
  progress = jnp.clip(jnp.asarray(progress, jnp.float32), 0, 1)
  # Far from the numbers that `sample_noise` folds.
  return {**given, "progress": progress, "keys": fold(keys, 1 << 16)}


def create(
  *,
  seed: int,
  generator: Any,
  discriminator: Any,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  batch: dict,
  seconds: float,
  augment_p: float = 0.0,
) -> State:
  """Builds the first state; call it under `jax.jit` or `jax.eval_shape`.

  Args:
    seed: seed of the whole run.
    generator: Linen module.
    discriminator: Linen module.
    g_tx: optimizer of the generator.
    d_tx: optimizer of the discriminator.
    batch: a batch or its ShapeDtypeStructs; only the shapes matter.
    seconds: the longest time that `batch['times']` can hold.
    augment_p: the first probability of augmentation.
  """
  key = jax.random.key(seed)
  g_key, d_key, run_key = jax.random.split(key, 3)
  # One zero sample: shapes decide the parameters, values do not.
  sample = jax.tree.map(lambda x: jnp.zeros((1, *x.shape[1:]), x.dtype), batch)
  z = {
    name: jnp.zeros((1, *shape))
    for name, shape in generator.noise_spec(seconds).items()
  }
  given = in_training(
    sample["given"], jnp.zeros(()), jax.random.split(run_key, 1)
  )
  target, times = sample["target"], sample["times"]
  g = generator.init(
    g_key, target, given, z, times, method=layers.encode_and_draw
  )["params"]
  d = discriminator.init(d_key, target, given, times)["params"]
  return State(
    step=jnp.zeros((), jnp.int32),
    key=run_key,
    g=g,
    d=d,
    # A copy: the donated state may not hold one buffer twice.
    ema=jax.tree.map(jnp.copy, g),
    g_opt=g_tx.init(g),
    d_opt=d_tx.init(d),
    augment_p=jnp.asarray(augment_p, jnp.float32),
    score_means=jnp.zeros((2,), jnp.float32),
    skipped=jnp.zeros((), jnp.int32),
    skipped_in_a_row=jnp.zeros((), jnp.int32),
  )
