"""A fixed-seed random 3-D convolutional network: features without weights.

Random convolutional features tell distributions of pictures apart fairly well
(Naeem et al. 2020, section 4, "R64"), need no download and know no data set.
A distance on them is comparable only with itself, never with FVD.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import numpy as np

CHANNELS = (16, 32, 64, 128)
SIZE = 2 * sum(CHANNELS)  # Length of the feature vector.
VERSION = "random3d-1"  # Changes with anything that changes the features.


def params() -> tuple[np.ndarray, ...]:
  """The weights, the same on every machine: (3, 3, 3, in, out) a layer."""
  rng = np.random.Generator(np.random.Philox(2014))
  weights, c = [], 3
  for features in CHANNELS:
    shape = (3, 3, 3, c, features)
    scale = np.sqrt(2 / (27 * c))
    weights.append((rng.standard_normal(shape) * scale).astype(np.float32))
    c = features
  return tuple(weights)


@functools.cache
def network() -> Callable[[jax.Array], jax.Array]:
  """`apply` with its weights, the same function each time."""
  return functools.partial(apply, params())


def apply(weights: tuple, video: jax.Array) -> jax.Array:
  """Features of clips.

  Args:
    weights: `params()`.
    video: (B, T, H, W, 3) float32 in [-1, 1], H and W at least 8.

  Returns:
    (B, SIZE) float32: the mean and the standard deviation of every channel of
    every layer over time and space.
  """
  x, features = video, []
  for i, weight in enumerate(weights):
    x = jax.lax.conv_general_dilated(
      x,
      jnp.asarray(weight),
      (1, 1, 1),
      "SAME",
      dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
      precision="highest",
    )
    x = jnp.where(x > 0, x, 0.2 * x)
    mean = x.mean((1, 2, 3), keepdims=True)
    # The root of the square keeps far from zero, where it is not smooth.
    std = jnp.sqrt(jnp.square(x - mean).mean((1, 2, 3)) + 1e-6)
    features += [mean[:, 0, 0, 0], std]
    if i < len(weights) - 1:
      b, t, h, w, c = x.shape
      x = x[:, :, : h // 2 * 2, : w // 2 * 2]
      x = x.reshape(b, t, h // 2, 2, w // 2, 2, c).mean((3, 5))
      if t >= 4:  # Shorter clips keep their frames.
        x = x[:, : t // 2 * 2].reshape(b, t // 2, 2, *x.shape[2:]).mean(2)
  return jnp.concatenate(features, -1)
