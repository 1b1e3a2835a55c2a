"""The two-player game as first written (Goodfellow et al. 2014, eq. 1).

Algorithm 1: D ascends, and G descends, the value

  V = E[log D(x)] + E[log(1 - D(G(z)))],   D = sigmoid(logit).

At the optimum D = 1/2 everywhere and V = -2 log 2. G's gradient fades while D
is sure of itself, since V is flat where D(G(z)) is near 0: `nonsaturating` is
what the same paper uses in practice.
"""

import jax
import jax.numpy as jnp

from vidgan_jax.models import layers


def d_loss(real: layers.Scores, fake: layers.Scores) -> jax.Array:
  """-(log D(x) + log(1 - D(G(z)))), D's descent on -V.

  Args:
    real: scores of real clips; logits (B,) or (B, n) for each head.
    fake: scores of generated clips, of the same shapes.

  Returns:
    float32 scalar, the mean over samples and heads.
  """
  # 1 - sigmoid(x) = sigmoid(-x): the logarithm never sees a rounded 1 - D.
  return sum(
    -jnp.mean(jax.nn.log_sigmoid(r.astype(jnp.float32)))
    - jnp.mean(jax.nn.log_sigmoid(-f.astype(jnp.float32)))
    for r, f in zip(real.logits, fake.logits, strict=True)
  ) / len(real.logits)


def g_loss(real: layers.Scores, fake: layers.Scores) -> jax.Array:
  """log(1 - D(G(z))), the part of V that G can move; `real` is not used."""
  del real
  return sum(
    jnp.mean(jax.nn.log_sigmoid(-f.astype(jnp.float32))) for f in fake.logits
  ) / len(fake.logits)
