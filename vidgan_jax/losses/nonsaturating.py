"""Binary cross-entropy with G's labels swapped (Goodfellow et al. 2014, s. 3).

  D descends -log D(x) - log(1 - D(G(z))),   G descends -log D(G(z)),

with D = sigmoid(logit): the game of `minimax`, but G's gradient is strongest
where D rejects a sample. Mescheder et al. 2018 pair it with R1.
"""

import jax
import jax.numpy as jnp

from vidgan_jax.models import layers


def d_loss(real: layers.Scores, fake: layers.Scores) -> jax.Array:
  """softplus(-D(x)) + softplus(D(G(z))) of the logits D.

  Args:
    real: scores of real clips; logits (B,) or (B, n) for each head.
    fake: scores of generated clips, of the same shapes.

  Returns:
    float32 scalar, the mean over samples and heads.
  """
  return sum(
    jnp.mean(jax.nn.softplus(-r.astype(jnp.float32)))
    + jnp.mean(jax.nn.softplus(f.astype(jnp.float32)))
    for r, f in zip(real.logits, fake.logits, strict=True)
  ) / len(real.logits)


def g_loss(real: layers.Scores, fake: layers.Scores) -> jax.Array:
  """softplus(-D(G(z))); `real` is not used."""
  del real
  return sum(
    jnp.mean(jax.nn.softplus(-f.astype(jnp.float32))) for f in fake.logits
  ) / len(fake.logits)
