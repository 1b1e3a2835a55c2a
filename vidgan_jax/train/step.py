"""THE training step: (state, batch) -> (state, metrics), pure.

One function serves every model, task and objective; what differs between runs
is a `Method`. This is its machinery: gradients over the parts of a batch,
updates, averages, and the guard against numbers that are not finite. What is
descended stands in train/adversarial.py.

All randomness is drawn per sample from the sample's place in the global batch,
so that any mesh, `pmap`, and any number of accumulation steps see the same
numbers.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vidgan_jax import errors
from vidgan_jax.losses import augment as augment_lib
from vidgan_jax.train import adversarial
from vidgan_jax.train import method as method_lib
from vidgan_jax.train import state as state_lib


def mean_gradients(
  loss_fn: Callable,
  params: Any,
  state: state_lib.State,
  batch: Any,
  keys: jax.Array,
  *,
  accumulate: int = 1,
  axis_name: str | None = None,
) -> tuple[Any, dict]:
  """Gradients of the mean loss, and the means of its metrics.

  Args:
    loss_fn: (params, state, batch, keys) -> (loss, metrics).
    params: that the gradients are by.
    state: of the run.
    batch: tree of leading dimension B.
    keys: (B,), one a clip.
    accumulate: number of parts that are worked on one after the other.
    axis_name: of the devices under `jax.pmap`, else None.

  Returns:
    (gradients, metrics), the same on all devices.
  """
  grad_fn = jax.grad(loss_fn, has_aux=True)
  if accumulate == 1:
    result = grad_fn(params, state, batch, keys)
  else:
    parts = jax.tree.map(lambda x: _split(x, accumulate), (batch, keys))
    shapes = jax.eval_shape(
      grad_fn, params, state, *jax.tree.map(lambda x: x[0], parts)
    )
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    total, _ = jax.lax.scan(
      lambda total, part: (
        jax.tree.map(jnp.add, total, grad_fn(params, state, *part)),
        None,
      ),
      zeros,
      parts,
      # XLA's convolutions are ten times slower inside a loop on a CPU.
      unroll=jax.default_backend() == "cpu",
    )
    result = jax.tree.map(lambda x: x / accumulate, total)
  return jax.lax.pmean(result, axis_name) if axis_name else result


def make_step(
  method: method_lib.Method,
  *,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  ema_halflife: float = 10_000.0,
  ema_rampup: float | None = 0.05,
  d_steps: int = 1,
  accumulate: int = 1,
  axis_name: str | None = None,
  gradients: Callable = mean_gradients,
) -> Callable:
  """Builds the step.

  Args:
    method: the networks and what they descend.
    g_tx: optimizer of the generator.
    d_tx: optimizer of the discriminator.
    ema_halflife: clips after which a weight's share in the EMA is halved.
    ema_rampup: the half-life is at most this share of the clips shown so far
      (Karras et al. 2021); None switches the ramp-up off.
    d_steps: updates of D for one of G; the batch holds d_steps times the
      clips of one update.
    accumulate: an update's clips are worked on in so many parts.
    axis_name: name of the mapped axis under `jax.pmap`, else None.
    gradients: like `mean_gradients`.

  Returns:
    step(state, batch, due) -> (state, metrics), metrics being a dict of
    float32 scalars, means over the global batch. `due` is static: what the
    step is to compute, see `Method.due`.
  """
  gradients = functools.partial(
    gradients, accumulate=accumulate, axis_name=axis_name
  )

  def update(loss, tx, params, opt, state, part, due):
    """One update of one network on (batch, keys)."""
    loss_fn = functools.partial(loss, method, due=due)
    grads, metrics = gradients(loss_fn, params, state, *part)
    updates, opt = tx.update(grads, opt, params)
    metrics["grad_norm"] = optax.global_norm(grads)
    return optax.apply_updates(params, updates), opt, _finite(grads), metrics

  def update_d(state, part, ahead, due):
    old = state.d, state.d_opt
    *new, finite, metrics = update(
      adversarial.d_loss, d_tx, *old, state, part, due
    )
    if method.adversary.hold is not None:
      rests = ahead > method.adversary.hold
      new = jax.tree.map(lambda n, o: jnp.where(rests, o, n), tuple(new), old)
    metrics["d/grad_norm"] = metrics.pop("grad_norm")
    return state.replace(d=new[0], d_opt=new[1]), finite, metrics

  def update_g(state, part, clips, due):
    g, opt, finite, metrics = update(
      adversarial.g_loss, g_tx, state.g, state.g_opt, state, part, due
    )
    metrics["g/grad_norm"] = metrics.pop("grad_norm")
    ema, decay = _average(state, g, clips, ema_halflife, ema_rampup)
    metrics["ema_decay"] = decay
    return state.replace(g=g, g_opt=opt, ema=ema), finite, metrics

  def step(state, batch, due=("adversary",)):
    keys, clips = _keys(state, batch, axis_name)
    rounds = jax.tree.map(lambda x: _split(x, d_steps), (batch, keys))
    clips //= d_steps  # Of one update.
    ahead = state.score_means[0] - state.score_means[1]

    new, metrics, finite = state, {}, jnp.asarray(True)
    for i in range(d_steps if "adversary" in due else 0):
      part = jax.tree.map(lambda x, i=i: x[i], rounds)
      new, fine, metrics = update_d(new, part, ahead, due)
      finite &= fine
    part = jax.tree.map(lambda x: x[d_steps - 1], rounds)
    new, fine, g_metrics = update_g(new, part, clips, due)
    finite &= fine
    metrics |= g_metrics
    if "adversary" in due:
      metrics["d/ahead"] = ahead
      new = _watch_d(new, metrics, method.augment, clips)

    new = _guard(new, state, finite)
    return new, metrics | {
      name: getattr(new, name).astype(jnp.float32)
      for name in ("augment_p", "skipped", "skipped_in_a_row")
    }

  return step


def _keys(state, batch, axis_name):
  """A key for each clip of this device's batch, and the clips of all."""
  clips = jax.tree.leaves(batch)[0].shape[0]
  devices = jax.lax.axis_size(axis_name) if axis_name else 1
  first = jax.lax.axis_index(axis_name) * clips if axis_name else 0
  rng = jax.random.fold_in(state.key, state.step)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(rng, first + jnp.arange(clips))
  return keys, clips * devices


def _average(state, g, clips, halflife, rampup):
  """The next average of G, and the share of the old one in it: 2^(-n / h)."""
  halflife = jnp.asarray(halflife, jnp.float32)
  if rampup is not None:
    shown = (state.step + 1).astype(jnp.float32) * clips
    halflife = jnp.minimum(halflife, shown * rampup)
  decay = 0.5 ** (clips / jnp.maximum(halflife, 1e-8))
  return jax.tree.map(lambda e, p: p + decay * (e - p), state.ema, g), decay


def _watch_d(state, metrics, augment, clips, decay=0.99):
  """Moves the averages of D's scores, and the augmentation by their sign."""
  means = jnp.stack([metrics["d/real"], metrics["d/fake"]])
  means = decay * state.score_means + (1 - decay) * means
  if augment.target is not None:
    p = augment_lib.adapt(
      state.augment_p, metrics["d/sign"], augment.target, clips, augment.kimg
    )
    state = state.replace(augment_p=p)
  return state.replace(score_means=means)


def _split(x, parts):
  """(N, ...) -> (parts, N/parts, ...), part i being x[i::parts].

  Interleaved, so that every part is spread over all devices of a mesh.
  """
  if x.shape[0] % parts:
    raise errors.UserError(
      f"A batch of {x.shape[0]} clips on one device cannot be split into "
      f"{parts} parts (config.accumulate or config.d_steps): make config.batch"
      " a multiple of devices x parts."
    )
  return jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)


def _finite(tree):
  return jnp.all(
    jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)])
  )


def _guard(new, old, finite):
  """The state after the step: the new one if all of its gradients are finite.

  Both networks, both optimizers and the averages move together or not at all: a
  half-done update is worse than none.
  """

  def either(n, o):
    if jnp.issubdtype(n.dtype, jax.dtypes.prng_key):
      return o
    return jnp.where(finite, n, o)

  return jax.tree.map(either, new, old).replace(
    step=old.step + 1,
    skipped=old.skipped + jnp.where(finite, 0, 1),
    skipped_in_a_row=jnp.where(finite, 0, old.skipped_in_a_row + 1),
  )
