"""Relativistic pairing (RpGAN: Jolicoeur-Martineau 2019; Huang et al. 2024).

D says which of two clips is the more real, so every generated clip is judged
against a real one and dropping a mode does not pay. Sample i is paired with
sample i: both are independent draws, and of the same class when there are
classes. R3GAN (Huang et al. 2024) adds the penalties r1 and r2, without which
the dynamics need not converge. The loss does not change when a constant is
added to D: the sign of D(x) alone says nothing.
"""

import jax
import jax.numpy as jnp


def d_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """softplus(-(D(x) - D(G(z)))), paired element by element."""
  return jnp.mean(jax.nn.softplus(-(real - fake)))


def g_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """softplus(-(D(G(z)) - D(x))): D's loss with the two sides swapped."""
  return d_loss(fake, real)
