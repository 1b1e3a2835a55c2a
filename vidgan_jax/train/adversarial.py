"""THE method: what D and what G descend, on one part of a batch.

  D:  objective(D(x), D(G(z))) + penalties + auxiliary(x)
  G:  adversary * (objective(D(x), D(G(z))) + auxiliary(G(z)))
        + reconstructions + costs of G

`keys` holds one key a clip, (B,), into which each draw folds a number of its
own: what is drawn for a clip depends on its place in the batch alone.
"""

import jax
import jax.numpy as jnp

from vidgan_jax import losses
from vidgan_jax.losses import reconstruction as reconstruction_lib
from vidgan_jax.train import state as state_lib


def d_loss(method, d, state, batch, keys, due):
  """D's loss, () float32, and metrics; for `due` see `Method`."""
  fold = lambda i: state_lib.fold(keys, i)
  drawn, _ = method.draw(state.g, state, batch, fold(0))
  real = method.augment(batch["target"], fold(1), state.augment_p)
  fake = jax.lax.stop_gradient(drawn.video)
  fake = method.augment(fake, fold(2), state.augment_p)
  score = lambda video: method.score(d, state, video, batch, fold(90))
  real_scores, fake_scores = score(real), score(fake)
  loss = _over_heads(method.objective.d_loss, real_scores, fake_scores)
  real_logit, fake_logit = _mean(real_scores), _mean(fake_scores)
  metrics = {
    "d/loss": loss,
    "d/real": jnp.mean(real_logit),
    "d/fake": jnp.mean(fake_logit),
    "d/accuracy": jnp.mean((real_logit > fake_logit).astype(jnp.float32)),
    # Half-way between the usual scores, not zero: some objectives do not
    # change when a constant is added to D.
    "d/sign": jnp.mean(jnp.sign(real_logit - jnp.mean(state.score_means))),
  }
  total = lambda video: sum(score(video).per_clip())
  for i, (name, penalty) in enumerate(method.penalties.items()):
    if name not in due:
      continue
    if penalty.on_slope:
      value = jnp.mean(penalty.fn(total, real, fake, fold(3 + i)))
    else:
      value = penalty.fn(real_logit, fake_logit, state.score_means)
    loss += penalty.weight(state.step) * penalty.interval * value
    metrics[f"d/{name}"] = value
  # D learns its questions of real clips alone: those of G may be unanswerable.
  asked = losses.made(method.discriminator, real_scores.auxiliary, method)
  for name, value in asked.items():
    loss += method.reconstruction[name].weight * value
    metrics[f"d/{name}"] = value
  return loss, metrics


def g_loss(method, g, state, batch, keys, due):
  """G's loss, () float32, and metrics."""
  # Other numbers than D's: G answers for clips that D has not just learnt.
  fold = lambda i: state_lib.fold(keys, 100 + i)
  drawn, z = method.draw(g, state, batch, fold(0))
  costs = losses.made(method.generator, drawn.losses, method)
  loss, metrics, scores = 0.0, {}, (None, None)
  if "adversary" in due:
    score = lambda video: method.score(state.d, state, video, batch, fold(90))
    real = method.augment(batch["target"], fold(2), state.augment_p)
    fake = method.augment(drawn.video, fold(1), state.augment_p)
    scores = score(real), score(fake)
    value = _over_heads(method.objective.g_loss, *scores)
    factor = method.adversary.weight(state.step)
    loss = factor * value
    if method.reconstruction:
      metrics["g/adversarial"] = value
    asked = losses.made(method.discriminator, scores[1].auxiliary, method)
    losses.check_complete(method.reconstruction, asked | costs)
    for name, value in asked.items():
      loss += factor * method.reconstruction[name].weight * value
      metrics[f"g/{name}"] = value
  again = lambda given, times: method.draw(
    g, state, {"given": given, "times": times}, fold(0)
  )
  extras = reconstruction_lib.Extras(
    real=scores[0],
    fake=scores[1],
    generate=lambda given, times: again(given, times)[0].video,
    z=z,
    extra=drawn.extra,
  )
  for name, part in method.reconstruction.items():
    if part.fn is not None:
      value = jnp.mean(part.fn(drawn.video, batch, extras))
    elif name in costs:
      value = costs[name]
    else:
      continue  # D's, above.
    loss += part.weight * value
    metrics[f"g/{name}"] = value
  return loss, metrics | {"g/loss": loss}


def _over_heads(loss, real, fake):
  """The mean over D's heads of a loss of one head's logits, in float32."""
  values = []
  for r, f in zip(real.logits, fake.logits, strict=True):
    if r.shape != f.shape:  # They would be broadcast: every clip with every.
      raise ValueError(
        f"D gives logits of shape {r.shape} for the target and {f.shape} for "
        "what G draws: both must be clips of the same shape."
      )
    values.append(loss(r.astype(jnp.float32), f.astype(jnp.float32)))
  return sum(values) / len(values)


def _mean(scores):
  """Mean logit of every clip over all heads: (B,)."""
  return sum(scores.per_clip()) / len(scores.logits)
