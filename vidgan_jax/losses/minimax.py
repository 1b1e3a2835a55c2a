"""The two-player game as first written (Goodfellow et al. 2014, eq. 1).

Algorithm 1: D ascends, and G descends, the value

  V = E[log D(x)] + E[log(1 - D(G(z)))],   D = sigmoid(logit).

At the optimum D = 1/2 everywhere and V = -2 log 2. G's gradient fades while D
is sure of itself, since V is flat where D(G(z)) is near 0: `nonsaturating` is
what the same paper uses in practice.
"""

import jax
import jax.numpy as jnp


def d_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """-(log D(x) + log(1 - D(G(z)))), D's descent on -V."""
  # 1 - sigmoid(x) = sigmoid(-x): the logarithm never sees a rounded 1 - D.
  log_d, log_1_d = jax.nn.log_sigmoid(real), jax.nn.log_sigmoid(-fake)
  return -jnp.mean(log_d) - jnp.mean(log_1_d)


def g_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """log(1 - D(G(z))), the part of V that G can move; `real` is not used."""
  del real
  return jnp.mean(jax.nn.log_sigmoid(-fake))
