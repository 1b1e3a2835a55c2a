"""The Wasserstein critic (Arjovsky et al. 2017, eq. 2).

  D descends D(G(z)) - D(x),   G descends -D(G(z)).

An estimate of the earth mover's distance only while D is 1-Lipschitz: use it
with the penalty `wgan_gp`; without one the loss has no lower bound.
"""

import jax
import jax.numpy as jnp

from vidgan_jax.models import layers


def d_loss(real: layers.Scores, fake: layers.Scores) -> jax.Array:
  """D(G(z)) - D(x).

  Args:
    real: scores of real clips; logits (B,) or (B, n) for each head.
    fake: scores of generated clips, of the same shapes.

  Returns:
    float32 scalar, the mean over samples and heads.
  """
  return sum(
    jnp.mean(f.astype(jnp.float32)) - jnp.mean(r.astype(jnp.float32))
    for r, f in zip(real.logits, fake.logits, strict=True)
  ) / len(real.logits)


def g_loss(real: layers.Scores, fake: layers.Scores) -> jax.Array:
  """-D(G(z)); `real` is not used."""
  del real
  return sum(-jnp.mean(f.astype(jnp.float32)) for f in fake.logits) / len(
    fake.logits
  )
