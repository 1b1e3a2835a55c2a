"""Energies of random filters in bands of space and time, without weights.

One layer of convolution, squares, pooling and a logarithm. With random filters
such a layer says what bands of frequency a clip has, wherever they lie in it
(Saxe et al. 2011), and damage is a change of bands: noise fills the fine ones,
blur and codecs empty them, a still has none in time. Three rules make changes
large beside the differences of real clips. A filter's sum is zero, so that
brightness does not rule (Field 1987). The logarithm is of small places and
single frames, before any mean: what is empty in places is seen. A band is
compared with the mean of all bands, the clip's contrast (Heeger 1992).

It needs no download and knows no data set. Squares have no sign: it is blind to
time backwards. A distance on these features is comparable only with itself,
never with FVD.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import errors

FILTERS = 4
SCALES = 4  # Octaves of space.
TIMES = 3  # Octaves of time, beside what single frames have.
PLACES = 2  # The picture's mean colours are of 2 x 2 places.
# Length of the feature vector: bands, their means, colours.
SIZE = (1 + TIMES) * (SCALES * FILTERS + 1) + 3 * PLACES**2
VERSION = "random3d-2"  # Changes with anything that changes the features.
_CELL = 4  # Pixels of a place whose energy is one number.
_FLOOR = (2 / 255) ** 2 / 12  # Power of rounding to 8 bits.
_COLOUR = 2.0  # Half the range weighs as much as a factor of e.


def params() -> np.ndarray:
  """The filters, the same on every machine: (3, 3, 3 colours, FILTERS)."""
  rng = np.random.Generator(np.random.Philox(2014))
  filters = rng.standard_normal((3, 3, 3, FILTERS))
  filters -= filters.mean((0, 1))
  filters /= np.sqrt(np.square(filters).sum((0, 1, 2)))
  return filters.astype(np.float32)


def apply(filters: jax.Array, video: jax.Array) -> jax.Array:
  """Features of clips.

  Args:
    filters: `params()`.
    video: (B, T, H, W, 3) float32 in [-1, 1], H and W at least 8.

  Returns:
    (B, SIZE) float32: of single frames and of each octave of time the bands'
    mean, then each band less that mean, in powers of e over the noise of 8
    bits; then mean colours.
  """
  b, t, h, w, c = video.shape
  if min(h, w) < 2 ** (SCALES - 1):
    raise errors.UserError(
      f"The clips are {h} x {w} pixels; the random network needs 8 x 8."
    )
  if t == 1:  # A picture is a clip in which nothing moves.
    video = jnp.repeat(video, 2, 1)
  x, bands = video, []
  for scale in range(SCALES):
    if scale:
      # Sums of four, halved: noise keeps its power from scale to scale.
      x = _windows(x, 2, 2) / 2
    edges = [(0, 0), (1, 1), (1, 1), (0, 0)]
    y = jax.lax.conv_general_dilated(
      jnp.pad(x.reshape(-1, *x.shape[2:]), edges, "edge"),
      jnp.asarray(filters),
      (1, 1),
      "VALID",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      precision="highest",
    )
    y = y.reshape(*x.shape[:-1], FILTERS)
    # Haar's transform of time: energies of the differences of neighbours, an
    # octave slower each round. Factors of sqrt(1/2) keep the power of noise.
    bands.append(_energy(y))
    for _ in range(TIMES):
      bands.append(_energy((y[:, 1:] - y[:, :-1]) * 0.5**0.5))
      if y.shape[1] >= 4:  # Shorter clips keep their frames.
        y = y[:, : y.shape[1] // 2 * 2]
        y = (y[:, ::2] + y[:, 1::2]) * 0.5**0.5
  bands = jnp.stack(bands, 1).reshape(b, SCALES, 1 + TIMES, FILTERS)
  bands = bands.transpose(0, 2, 1, 3).reshape(b, 1 + TIMES, -1)
  mean = bands.mean(-1, keepdims=True)
  side = h // PLACES, w // PLACES
  colours = video[:, :, : PLACES * side[0], : PLACES * side[1]].reshape(
    b, -1, PLACES, side[0], PLACES, side[1], c
  )
  colours = _COLOUR * colours.mean((1, 3, 5))
  bands = jnp.concatenate([mean, bands - mean], -1)
  return jnp.concatenate([bands.reshape(b, -1), colours.reshape(b, -1)], -1)


def _energy(y: jax.Array) -> jax.Array:
  """(B, T, H, W, C) -> (B, C): the mean logarithm over places and frames."""
  side = min(_CELL, *y.shape[2:4])
  energy = _windows(jnp.square(y), side, max(1, side // 2)) / side**2
  return jnp.log1p(energy / _FLOOR).mean((1, 2, 3))


def _windows(x: jax.Array, side: int, step: int) -> jax.Array:
  """Sums over squares of each frame."""
  window, stride = (1, 1, side, side, 1), (1, 1, step, step, 1)
  return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, stride, "VALID")
