"""Binary cross-entropy with G's labels swapped (Goodfellow et al. 2014, s. 3).

D = sigmoid(logit). It is the game of `minimax`, but G's gradient is strongest
where D rejects a sample. Mescheder et al. 2018 pair it with R1.
"""

import jax
import jax.numpy as jnp


def d_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """-log D(x) - log(1 - D(G(z))), as softplus(-logit) and softplus(logit)."""
  softplus = jax.nn.softplus
  return jnp.mean(softplus(-real)) + jnp.mean(softplus(fake))


def g_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """-log D(G(z)), as softplus(-logit); `real` is not used."""
  del real
  return jnp.mean(jax.nn.softplus(-fake))
