"""Least squares (Mao et al. 2017, LSGAN, eq. 9: a = 0, b = 1, c = 1).

D descends (D(x) - b)^2 / 2 + (D(G(z)) - a)^2 / 2,
G descends (D(G(z)) - c)^2 / 2.
"""

import jax
import jax.numpy as jnp

from vidgan_jax.models import layers


def d_loss(real: layers.Scores, fake: layers.Scores) -> jax.Array:
  """(D(x) - 1)^2 / 2 + D(G(z))^2 / 2.

  Args:
    real: scores of real clips; logits (B,) or (B, n) for each head.
    fake: scores of generated clips, of the same shapes.

  Returns:
    float32 scalar, the mean over samples and heads.
  """
  return sum(
    0.5 * jnp.mean(jnp.square(r.astype(jnp.float32) - 1))
    + 0.5 * jnp.mean(jnp.square(f.astype(jnp.float32)))
    for r, f in zip(real.logits, fake.logits, strict=True)
  ) / len(real.logits)


def g_loss(real: layers.Scores, fake: layers.Scores) -> jax.Array:
  """(D(G(z)) - 1)^2 / 2; `real` is not used."""
  del real
  return sum(
    0.5 * jnp.mean(jnp.square(f.astype(jnp.float32) - 1)) for f in fake.logits
  ) / len(fake.logits)
