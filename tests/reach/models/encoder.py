"""A VAE's encoder before the textbook generator (Kingma and Welling 2014)."""

import flax.linen as nn
import jax.numpy as jnp

from vidgan_jax.models import mlp

VARIANTS = {
  "S": {"generator": {"widths": (32,)}, "discriminator": {"widths": (32,)}}
}
LOSSES = ("kl",)
Discriminator = mlp.Discriminator


class Generator(mlp.Generator):
  """Noise or a clip's code -> clip."""

  def setup(self):
    self.code = nn.Dense(2 * self.z_dim)

  def encode(self, target, given, z, times):
    """mean + deviation z, and KL(N(mean, deviation^2) | N(0, I))."""
    code = self.code(target.reshape(len(target), -1))
    mean, log = jnp.split(code, 2, -1)
    kl = 0.5 * (mean**2 + jnp.exp(2 * log) - 1) - log
    return {"z": mean + jnp.exp(log) * z["z"]}, {"kl": kl.sum(-1)}
