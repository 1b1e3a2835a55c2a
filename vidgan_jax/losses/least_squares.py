"""Least squares (Mao et al. 2017, LSGAN, eq. 9: a = 0, b = 1, c = 1)."""

import jax
import jax.numpy as jnp


def d_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """(D(x) - 1)^2 / 2 + D(G(z))^2 / 2."""
  return 0.5 * jnp.mean(jnp.square(real - 1)) + 0.5 * jnp.mean(jnp.square(fake))


def g_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """(D(G(z)) - 1)^2 / 2; `real` is not used."""
  del real
  return 0.5 * jnp.mean(jnp.square(fake - 1))
