"""Relativistic pairing (RpGAN: Jolicoeur-Martineau 2019; Huang et al. 2024).

  D descends softplus(-(D(x) - D(G(z)))),
  G descends softplus(-(D(G(z)) - D(x))).

D says which of two clips is the more real, so every generated clip is judged
against a real one and dropping a mode does not pay. Sample i is paired with
sample i: both are independent draws, and of the same class when there are
classes. R3GAN (Huang et al. 2024) adds the penalties r1 and r2, without which
the dynamics need not converge. The loss does not change when a constant is
added to D: the sign of D(x) alone says nothing.
"""

import jax
import jax.numpy as jnp

from vidgan_jax.models import layers


def d_loss(real: layers.Scores, fake: layers.Scores) -> jax.Array:
  """softplus(-(D(x) - D(G(z)))), paired element by element.

  Args:
    real: scores of real clips; logits (B,) or (B, n) for each head.
    fake: scores of generated clips, of the same shapes.

  Returns:
    float32 scalar, the mean over samples and heads.

  Raises:
    ValueError: when a pair of logits differs in shape, as broadcasting would
      then pair every clip with every other.
  """
  return sum(
    jnp.mean(jax.nn.softplus(-_gap(r, f)))
    for r, f in zip(real.logits, fake.logits, strict=True)
  ) / len(real.logits)


def g_loss(real: layers.Scores, fake: layers.Scores) -> jax.Array:
  """softplus(-(D(G(z)) - D(x))): D's loss with the two sides swapped."""
  return d_loss(fake, real)


def _gap(one: jax.Array, other: jax.Array) -> jax.Array:
  if one.shape != other.shape:
    raise ValueError(
      f"The relativistic objective pairs logits of shapes {one.shape} and"
      f" {other.shape}: give it as many real clips as generated ones, of the"
      " same number of frames."
    )
  return one.astype(jnp.float32) - other.astype(jnp.float32)
