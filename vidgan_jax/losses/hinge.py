"""The hinge objective (Lim and Ye 2017; Miyato et al. 2018, eqs. 16-17).

D stops learning from samples that are already a margin of 1 on their side.
"""

import jax
import jax.numpy as jnp


def d_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """max(0, 1 - D(x)) + max(0, 1 + D(G(z)))."""
  return jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))


def g_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """-D(G(z)); `real` is not used."""
  del real
  return -jnp.mean(fake)
