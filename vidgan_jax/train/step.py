"""THE training step: (state, batch) -> (state, metrics), pure.

One function serves every model, task and objective. What differs between
runs comes in as arguments of `make_step`. All randomness is drawn per
sample from the sample's place in the global batch, so that any mesh, `pmap`,
and any number of accumulation steps see the same numbers.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vidgan_jax import errors
from vidgan_jax.losses import augment as augment_lib
from vidgan_jax.losses import penalties as penalties_lib
from vidgan_jax.losses import reconstruction as reconstruction_lib
from vidgan_jax.train import state as state_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Penalty:
  """One gradient penalty on the discriminator.

  Attributes:
    fn: (score_fn, real, fake, keys) -> (B,), from `losses.penalties`.
    weight: step -> factor of the penalty in D's loss (gamma / 2 of the
      papers).
    interval: computed every so many steps, then times the interval ("lazy",
      Karras et al. 2020, appendix B).

  Whether a penalty is due is a static argument of the step, not a `lax.cond`
  in it: XLA runs convolutions inside a conditional ten times slower on a CPU.
  """

  fn: Callable
  weight: optax.Schedule
  interval: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment:
  """Augmentation of all that the discriminator sees.

  Attributes:
    policy: names of `losses.augment`, comma separated; '' is none.
    target: wanted mean sign of D(real), seen from half-way between the
      running means of D(real) and D(fake) (Karras et al. 2020); None keeps
      the probability where it is.
    kimg: thousands of clips in which the probability may go from 0 to 1.
  """

  policy: str = ""
  target: float | None = None
  kimg: float = 100.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruction:
  """One loss between what G makes of `given` and the target.

  Attributes:
    fn: (fake, batch, extras) -> (B,), from `losses.reconstruction`.
    weight: factor in G's loss.
  """

  fn: Callable
  weight: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversary:
  """When and how strongly D takes part.

  Attributes:
    weight: step -> factor of the objective in G's loss.
    start: first step with D; G learns from its reconstruction alone until
      then, at the cost of a network without adversary.
    hold: D rests while the running mean of D(real) - D(fake) is above this
      (after Chu et al. 2020, section 3.2); None: never.
  """

  weight: optax.Schedule = lambda step: 1.0
  start: int = 0
  hold: float | None = None


def make_step(
  *,
  generator: Any,
  discriminator: Any,
  objective: Any,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  seconds: float,
  penalties: dict[str, Penalty] | None = None,
  lecam: optax.Schedule | None = None,
  augment: Augment = Augment(),
  reconstruction: dict[str, Reconstruction] | None = None,
  adversary: Adversary = Adversary(),
  ema_halflife: float = 10_000.0,
  ema_rampup: float | None = 0.05,
  d_steps: int = 1,
  accumulate: int = 1,
  axis_name: str | None = None,
) -> Callable:
  """Builds the step.

  Args:
    generator: Linen module; `noise_spec`, `apply(params, given, z, times)`.
    discriminator: Linen module; `apply(params, video, given, times)`.
    objective: a module of `losses` with `d_loss` and `g_loss`.
    g_tx: optimizer of the generator.
    d_tx: optimizer of the discriminator.
    seconds: the longest time that `batch['times']` can hold.
    penalties: name -> Penalty.
    lecam: step -> weight of the LeCam regulariser (Tseng et al. 2021), which
      works on scores and so costs nothing.
    augment: augmentation of D's input.
    reconstruction: name -> Reconstruction, for tasks whose target is known.
    adversary: when and how strongly D takes part.
    ema_halflife: clips after which a weight's share in the EMA is halved.
    ema_rampup: the half-life is at most this share of the clips shown so far
      (Karras et al. 2021); None switches the ramp-up off.
    d_steps: updates of D for one of G; the batch holds d_steps times the
      clips of one update.
    accumulate: an update's clips are worked on in so many parts.
    axis_name: name of the mapped axis under `jax.pmap`, else None.

  Returns:
    step(state, batch, due) -> (state, metrics), metrics being a dict of
    float32 scalars, means over the global batch. `due` is static: what the
    step is to compute, see `due`.
  """
  penalties = penalties or {}
  reconstruction = reconstruction or {}
  noise_spec = generator.noise_spec(seconds)

  def generate(g, batch, keys):
    z = state_lib.sample_noise(noise_spec, keys)
    return generator.apply({"params": g}, batch["given"], z, batch["times"])

  def discriminate(d, video, batch):
    return discriminator.apply(
      {"params": d}, video, batch["given"], batch["times"]
    )

  def seen(video, keys, state):
    if not augment.policy:
      return video
    return augment_lib.augment(video, keys, state.augment_p, augment.policy)

  # --- The two losses, on one part of the batch. `keys` holds one key a clip.

  def d_loss(d, state, batch, keys, due):
    fold = lambda i: _fold(keys, i)
    fake = jax.lax.stop_gradient(generate(state.g, batch, fold(0)))
    real = seen(batch["target"], fold(1), state)
    fake = seen(fake, fold(2), state)
    real_scores = discriminate(d, real, batch)
    fake_scores = discriminate(d, fake, batch)
    loss = objective.d_loss(real_scores, fake_scores)
    real_logit, fake_logit = _mean(real_scores), _mean(fake_scores)
    metrics = {
      "d/loss": loss,
      "d/real": jnp.mean(real_logit),
      "d/fake": jnp.mean(fake_logit),
      "d/accuracy": jnp.mean((real_logit > fake_logit).astype(jnp.float32)),
      # Half-way between the usual scores, not zero: some objectives do not
      # change when a constant is added to D.
      "d/sign": jnp.mean(jnp.sign(real_logit - jnp.mean(state.lecam))),
    }
    score = lambda video: _total(discriminate(d, video, batch))
    for i, (name, penalty) in enumerate(penalties.items()):
      if name not in due:
        continue
      value = jnp.mean(penalty.fn(score, real, fake, fold(3 + i)))
      loss += penalty.weight(state.step) * penalty.interval * value
      metrics[f"d/{name}"] = value
    if lecam is not None:
      value = penalties_lib.lecam(
        real_scores, fake_scores, state.lecam[0], state.lecam[1]
      )
      loss += lecam(state.step) * value
      metrics["d/lecam"] = value
    return loss, metrics

  def g_loss(g, state, batch, keys, due):
    # Other folds than D's: G answers for clips that D has not just learnt.
    fold = lambda i: _fold(keys, 100 + i)
    fake = generate(g, batch, fold(0))
    loss, metrics, scores = 0.0, {}, (None, None)
    if "adversary" in due:
      real = seen(batch["target"], fold(2), state)
      scores = (
        discriminate(state.d, real, batch),
        discriminate(state.d, seen(fake, fold(1), state), batch),
      )
      value = objective.g_loss(*scores)
      loss = adversary.weight(state.step) * value
      if reconstruction:
        metrics["g/adversarial"] = value
    extras = reconstruction_lib.Extras(
      real=scores[0],
      fake=scores[1],
      generate=lambda given, times: generate(
        g, {"given": given, "times": times}, fold(0)
      ),
    )
    for name, part in reconstruction.items():
      value = jnp.mean(part.fn(fake, batch, extras))
      loss += part.weight * value
      metrics[f"g/{name}"] = value
    return loss, metrics | {"g/loss": loss}

  def gradients(loss_fn, params, state, batch, keys):
    """Means of gradients and metrics over the parts and the devices."""
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

  # --- The step.

  def step(state, batch, due=("adversary",)):
    clips = jax.tree.leaves(batch)[0].shape[0]
    devices = jax.lax.axis_size(axis_name) if axis_name else 1
    first = jax.lax.axis_index(axis_name) * clips if axis_name else 0
    rng = jax.random.fold_in(state.key, state.step)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
      rng, first + jnp.arange(clips)
    )
    rounds = jax.tree.map(lambda x: _split(x, d_steps), (batch, keys))
    clips_per_update = clips * devices // d_steps

    new, metrics = state, {}
    finite = jnp.asarray(True)
    ahead = state.lecam[0] - state.lecam[1]
    for i in range(d_steps if "adversary" in due else 0):
      part, part_keys = jax.tree.map(lambda x, i=i: x[i], rounds)
      grads, metrics = gradients(
        functools.partial(d_loss, due=due), new.d, new, part, part_keys
      )
      finite &= _all_finite(grads)
      metrics["d/grad_norm"] = optax.global_norm(grads)
      updates, d_opt = d_tx.update(grads, new.d_opt, new.d)
      d = optax.apply_updates(new.d, updates)
      if adversary.hold is not None:
        d, d_opt = jax.tree.map(
          lambda n, o: jnp.where(ahead > adversary.hold, o, n),
          (d, d_opt),
          (new.d, new.d_opt),
        )
      new = new.replace(d=d, d_opt=d_opt)

    part, part_keys = jax.tree.map(lambda x: x[d_steps - 1], rounds)
    grads, g_metrics = gradients(
      functools.partial(g_loss, due=due), new.g, new, part, part_keys
    )
    finite &= _all_finite(grads)
    metrics |= g_metrics | {"g/grad_norm": optax.global_norm(grads)}
    updates, g_opt = g_tx.update(grads, new.g_opt, new.g)
    g = optax.apply_updates(new.g, updates)

    shown = (state.step + 1).astype(jnp.float32) * clips_per_update
    halflife = jnp.asarray(ema_halflife, jnp.float32)
    if ema_rampup is not None:
      halflife = jnp.minimum(halflife, shown * ema_rampup)
    decay = 0.5 ** (clips_per_update / jnp.maximum(halflife, 1e-8))
    ema = jax.tree.map(lambda e, p: p + decay * (e - p), new.ema, g)

    new = new.replace(g=g, g_opt=g_opt, ema=ema)
    if "adversary" in due:
      means = jnp.stack([metrics["d/real"], metrics["d/fake"]])
      new = new.replace(lecam=penalties_lib.lecam_update(state.lecam, means))
      metrics["d/ahead"] = ahead
      if augment.target is not None:
        new = new.replace(
          augment_p=augment_lib.adapt(
            state.augment_p,
            metrics["d/sign"],
            augment.target,
            clips_per_update,
            augment.kimg,
          )
        )
    # Both networks, both optimizers and the averages move together or not at
    # all: a half-done update is worse than none.
    new = jax.tree.map(lambda n, o: _where(finite, n, o), new, state).replace(
      step=state.step + 1,
      skipped=state.skipped + jnp.where(finite, 0, 1),
      skipped_in_a_row=jnp.where(finite, 0, state.skipped_in_a_row + 1),
    )
    metrics |= {
      "augment_p": new.augment_p,
      "skipped": new.skipped.astype(jnp.float32),
      "skipped_in_a_row": new.skipped_in_a_row.astype(jnp.float32),
      "ema_decay": decay,
    }
    return new, metrics

  return step


def due(penalties: dict[str, Penalty], start: int, step: int) -> tuple:
  """What step number `step` computes.

  Args:
    penalties: name -> Penalty.
    start: `Adversary.start`.
    step: updates done.

  Returns:
    'adversary' and the names of the penalties that are due; () before `start`.
  """
  if step < start:
    return ()
  lazy = (n for n, p in penalties.items() if step % p.interval == 0)
  return ("adversary", *lazy)


def _fold(keys, i):
  return jax.vmap(jax.random.fold_in, (0, None))(keys, i)


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


def _mean(scores):
  """Mean logit of every clip over all heads: (B,)."""
  return sum(_per_clip(x) for x in scores.logits) / len(scores.logits)


def _total(scores):
  """Sum over the heads of every clip's mean logit: (B,)."""
  return sum(_per_clip(x) for x in scores.logits)


def _per_clip(logits):
  x = logits.astype(jnp.float32)
  return x.reshape(x.shape[0], -1).mean(-1)


def _all_finite(tree):
  return jnp.all(
    jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)])
  )


def _where(condition, new, old):
  if jnp.issubdtype(new.dtype, jax.dtypes.prng_key):
    return old
  return jnp.where(condition, new, old)
