"""The hinge objective (Lim and Ye 2017; Miyato et al. 2018, eqs. 16-17).

  D descends max(0, 1 - D(x)) + max(0, 1 + D(G(z))),   G descends -D(G(z)).

D stops learning from samples that are already a margin of 1 on their side.
"""

import jax
import jax.numpy as jnp

from vidgan_jax.models import layers


def d_loss(real: layers.Scores, fake: layers.Scores) -> jax.Array:
  """max(0, 1 - D(x)) + max(0, 1 + D(G(z))).

  Args:
    real: scores of real clips; logits (B,) or (B, n) for each head.
    fake: scores of generated clips, of the same shapes.

  Returns:
    float32 scalar, the mean over samples and heads.
  """
  return sum(
    jnp.mean(jax.nn.relu(1 - r.astype(jnp.float32)))
    + jnp.mean(jax.nn.relu(1 + f.astype(jnp.float32)))
    for r, f in zip(real.logits, fake.logits, strict=True)
  ) / len(real.logits)


def g_loss(real: layers.Scores, fake: layers.Scores) -> jax.Array:
  """-D(G(z)); `real` is not used."""
  del real
  return sum(-jnp.mean(f.astype(jnp.float32)) for f in fake.logits) / len(
    fake.logits
  )
