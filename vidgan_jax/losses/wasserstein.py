"""The Wasserstein critic (Arjovsky et al. 2017, eq. 2).

An estimate of the earth mover's distance only while D is 1-Lipschitz: use it
with the penalty `wgan_gp`; without one the loss has no lower bound.
"""

import jax
import jax.numpy as jnp


def d_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """D(G(z)) - D(x)."""
  return jnp.mean(fake) - jnp.mean(real)


def g_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """-D(G(z)); `real` is not used."""
  del real
  return -jnp.mean(fake)
