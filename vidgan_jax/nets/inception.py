"""Inception-V3 of 2015-12-05: the network of FID, KID and IS on frames.

Szegedy et al. 2016 describe the network, Salimans et al. 2016 and Heusel et al.
2017 the scores. This one file of weights *is* the metric, with its quirks:

* average pools in the blocks 5b to 7b do not count the padding;
* the pool of the last block, 7c, takes the maximum, against the paper;
* there are 1008 logits, and the Inception Score of the published code leaves
  out their bias;
* frames are resized by TensorFlow 1's rule, whose pixels have no centres, and
  scaled to (x - 128) / 128.

A classifier from torchvision's own training has the same layers and none of
this: FID values with it are other numbers, and `convert` refuses its file.
"""

from collections.abc import Mapping
import functools

from flax import traverse_util
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import errors
from vidgan_jax.nets import conv
from vidgan_jax.nets import naming

SOURCE = """\
pt_inception-2015-12-05-6726825d.pth of pytorch-fid's releases (the name has the
first digits of its sha256), or inception-2015-12-05.pt of StyleGAN2-ADA (its
sum is unknown to us)

Both are ports of Google's ImageNet model of 2015-12-05
(inception-2015-12-05.tgz), a PyTorch state dict and a TorchScript.
The model's terms are Google's, those of the ports their authors'.
"""

SIZE = 299  # Pixels a side that the published scores use.

# Our names, which are pytorch-fid's -> those of the TorchScript port, which
# are the old graph's.
_STEM = {
  "Conv2d_1a_3x3": "conv",
  "Conv2d_2a_3x3": "conv_1",
  "Conv2d_2b_3x3": "conv_2",
  "Conv2d_3b_1x1": "conv_3",
  "Conv2d_4a_3x3": "conv_4",
}
_A = {
  "branch1x1": "conv",
  "branch5x5_1": "tower.conv",
  "branch5x5_2": "tower.conv_1",
  "branch3x3dbl_1": "tower_1.conv",
  "branch3x3dbl_2": "tower_1.conv_1",
  "branch3x3dbl_3": "tower_1.conv_2",
  "branch_pool": "tower_2.conv",
}
_B = {
  "branch3x3": "conv",
  "branch3x3dbl_1": "tower.conv",
  "branch3x3dbl_2": "tower.conv_1",
  "branch3x3dbl_3": "tower.conv_2",
}
_C = {
  "branch1x1": "conv",
  "branch7x7_1": "tower.conv",
  "branch7x7_2": "tower.conv_1",
  "branch7x7_3": "tower.conv_2",
  "branch7x7dbl_1": "tower_1.conv",
  "branch7x7dbl_2": "tower_1.conv_1",
  "branch7x7dbl_3": "tower_1.conv_2",
  "branch7x7dbl_4": "tower_1.conv_3",
  "branch7x7dbl_5": "tower_1.conv_4",
  "branch_pool": "tower_2.conv",
}
_D = {
  "branch3x3_1": "tower.conv",
  "branch3x3_2": "tower.conv_1",
  "branch7x7x3_1": "tower_1.conv",
  "branch7x7x3_2": "tower_1.conv_1",
  "branch7x7x3_3": "tower_1.conv_2",
  "branch7x7x3_4": "tower_1.conv_3",
}
_E = {
  "branch1x1": "conv",
  "branch3x3_1": "tower_conv",
  "branch3x3_2a": "tower_mixed_conv",
  "branch3x3_2b": "tower_mixed_conv_1",
  "branch3x3dbl_1": "tower_1_conv",
  "branch3x3dbl_2": "tower_1_conv_1",
  "branch3x3dbl_3a": "tower_1_mixed_conv",
  "branch3x3dbl_3b": "tower_1_mixed_conv_1",
  "branch_pool": "tower_2_conv",
}
_BLOCKS = {
  "Mixed_5b": ("mixed", _A),
  "Mixed_5c": ("mixed_1", _A),
  "Mixed_5d": ("mixed_2", _A),
  "Mixed_6a": ("mixed_3", _B),
  "Mixed_6b": ("mixed_4", _C),
  "Mixed_6c": ("mixed_5", _C),
  "Mixed_6d": ("mixed_6", _C),
  "Mixed_6e": ("mixed_7", _C),
  "Mixed_7a": ("mixed_8", _D),
  "Mixed_7b": ("mixed_9", _E),
  "Mixed_7c": ("mixed_10", _E),
}


# -------------------------------------------------------------------- network


class Network(nn.Module):
  """Frames -> features and logits."""

  @nn.compact
  def __call__(self, frames: jax.Array) -> dict[str, jax.Array]:
    """Applies the network.

    Args:
      frames: (N, H, W, 3) from `preprocess`; at least 75 pixels a side.

    Returns:
      'features': (N, 2048), the "pool3" of FID; 'features_64',
      'features_192', 'features_768': means over the picture after the first
      and the second maximum and before the last stage; 'logits': (N, 1008),
      and 'logits_unbiased' without their bias, for the Inception Score.
    """
    if min(frames.shape[1:3]) < 75:
      raise errors.UserError(
        f"Inception-V3 needs frames of at least 75 pixels a side, not "
        f"{frames.shape[1:3]}: resize them, as `preprocess` does."
      )
    x = _conv(frames, "Conv2d_1a_3x3", 32, 3, stride=2)
    x = _conv(x, "Conv2d_2a_3x3", 32, 3, padding="VALID")
    x = _conv(x, "Conv2d_2b_3x3", 64, 3)
    x = found_64 = nn.max_pool(x, (3, 3), (2, 2))
    x = _conv(x, "Conv2d_3b_1x1", 80, 1)
    x = _conv(x, "Conv2d_4a_3x3", 192, 3, padding="VALID")
    x = found_192 = nn.max_pool(x, (3, 3), (2, 2))
    for name, features in [("5b", 32), ("5c", 64), ("5d", 64)]:
      x = _BlockA(features, name=f"Mixed_{name}")(x)
    x = _BlockB(name="Mixed_6a")(x)
    for name, inner in [("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)]:
      x = _BlockC(inner, name=f"Mixed_{name}")(x)
    found_768 = x
    x = _BlockD(name="Mixed_7a")(x)
    x = _BlockE(_mean_pool, name="Mixed_7b")(x)
    x = _BlockE(_max_pool, name="Mixed_7c")(x)
    features = x.mean((1, 2))
    kernel = self.param("fc_kernel", nn.initializers.zeros, (2048, 1008))
    bias = self.param("fc_bias", nn.initializers.zeros, (1008,))
    logits = jnp.dot(features, kernel, precision="highest")
    return {
      "features_64": found_64.mean((1, 2)),
      "features_192": found_192.mean((1, 2)),
      "features_768": found_768.mean((1, 2)),
      "features": features,
      "logits": logits + bias,
      "logits_unbiased": logits,
    }


class _BlockA(nn.Module):
  pooled: int  # Features of the pool's branch.

  @nn.compact
  def __call__(self, x):
    a = _conv(x, "branch1x1", 64, 1)
    b = _conv(x, "branch5x5_1", 48, 1)
    b = _conv(b, "branch5x5_2", 64, 5)
    c = _conv(x, "branch3x3dbl_1", 64, 1)
    c = _conv(c, "branch3x3dbl_2", 96, 3)
    c = _conv(c, "branch3x3dbl_3", 96, 3)
    d = _conv(_mean_pool(x), "branch_pool", self.pooled, 1)
    return jnp.concatenate([a, b, c, d], -1)


class _BlockB(nn.Module):
  @nn.compact
  def __call__(self, x):
    a = _conv(x, "branch3x3", 384, 3, stride=2)
    b = _conv(x, "branch3x3dbl_1", 64, 1)
    b = _conv(b, "branch3x3dbl_2", 96, 3)
    b = _conv(b, "branch3x3dbl_3", 96, 3, stride=2)
    return jnp.concatenate([a, b, nn.max_pool(x, (3, 3), (2, 2))], -1)


class _BlockC(nn.Module):
  inner: int  # Features between the long kernels.

  @nn.compact
  def __call__(self, x):
    c = self.inner
    a = _conv(x, "branch1x1", 192, 1)
    b = _conv(x, "branch7x7_1", c, 1)
    b = _conv(b, "branch7x7_2", c, (1, 7))
    b = _conv(b, "branch7x7_3", 192, (7, 1))
    d = _conv(x, "branch7x7dbl_1", c, 1)
    d = _conv(d, "branch7x7dbl_2", c, (7, 1))
    d = _conv(d, "branch7x7dbl_3", c, (1, 7))
    d = _conv(d, "branch7x7dbl_4", c, (7, 1))
    d = _conv(d, "branch7x7dbl_5", 192, (1, 7))
    e = _conv(_mean_pool(x), "branch_pool", 192, 1)
    return jnp.concatenate([a, b, d, e], -1)


class _BlockD(nn.Module):
  @nn.compact
  def __call__(self, x):
    a = _conv(x, "branch3x3_1", 192, 1)
    a = _conv(a, "branch3x3_2", 320, 3, stride=2)
    b = _conv(x, "branch7x7x3_1", 192, 1)
    b = _conv(b, "branch7x7x3_2", 192, (1, 7))
    b = _conv(b, "branch7x7x3_3", 192, (7, 1))
    b = _conv(b, "branch7x7x3_4", 192, 3, stride=2)
    return jnp.concatenate([a, b, nn.max_pool(x, (3, 3), (2, 2))], -1)


class _BlockE(nn.Module):
  pool: object  # `_mean_pool` or `_max_pool`.

  @nn.compact
  def __call__(self, x):
    a = _conv(x, "branch1x1", 320, 1)
    b = _conv(x, "branch3x3_1", 384, 1)
    c = _conv(x, "branch3x3dbl_1", 448, 1)
    c = _conv(c, "branch3x3dbl_2", 384, 3)
    ends = [
      _conv(b, "branch3x3_2a", 384, (1, 3)),
      _conv(b, "branch3x3_2b", 384, (3, 1)),
      _conv(c, "branch3x3dbl_3a", 384, (1, 3)),
      _conv(c, "branch3x3dbl_3b", 384, (3, 1)),
    ]
    d = _conv(self.pool(x), "branch_pool", 192, 1)
    return jnp.concatenate([a, *ends, d], -1)


def _conv(x, name, features, kernel, stride=1, padding=None):
  """Convolution, with its batch normalisation folded in, and ReLU."""
  kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
  # What strides is not padded.
  padding = padding or ("SAME" if stride == 1 else "VALID")
  x = nn.Conv(
    features, kernel, stride, padding, precision="highest", name=name
  )(x)
  return nn.relu(x)


def _mean_pool(x):
  return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def _max_pool(x):
  return nn.max_pool(x, (3, 3), padding="SAME")


# ---------------------------------------------------------------------- input


def preprocess(frames: jax.Array, protocol: str = "tensorflow") -> jax.Array:
  """What the network is to see.

  Args:
    frames: (N, H, W, 3) uint8, RGB.
    protocol: 'tensorflow', the graph's own rule, of the original FID and of
      StyleGAN's: pixel i of the result lies at i H / 299, values become
      (x - 128) / 128; or 'pytorch_fid', which differs a little in both: at
      (i + 1/2) H / 299 - 1/2, values x / 127.5 - 1. Neither filters when it
      makes frames smaller.

  Returns:
    (N, 299, 299, 3) float32.
  """
  if frames.dtype != jnp.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
    raise ValueError(
      "Inception-V3 takes frames (N, H, W, 3) of uint8 RGB; these are "
      f"{frames.dtype} of shape {frames.shape}: fold time into N, and round "
      "to 8 bits as a video file would."
    )
  if protocol not in ("tensorflow", "pytorch_fid"):
    raise errors.UserError(
      f"The protocol {protocol!r} of Inception-V3 is unknown: choose "
      "'tensorflow' or 'pytorch_fid'."
    )
  if protocol == "pytorch_fid":
    return conv.resize(frames, (SIZE, SIZE), "half_pixel") / 127.5 - 1
  return (conv.resize(frames, (SIZE, SIZE), "origin") - 128) / 128


# -------------------------------------------------------------------- weights


def convert(tensors: Mapping[str, np.ndarray]) -> dict:
  """Tensors of a public file -> parameters of `Network`.

  Batch normalisation (epsilon 0.001) is folded into the convolutions.

  Args:
    tensors: of either port (see `SOURCE`). pytorch-fid's: 'NAME.conv.weight',
      'NAME.bn.weight', '.bias', '.running_mean', '.running_var', 'fc.weight',
      'fc.bias'. The TorchScript port's: 'layers.NAME.weight', '.beta',
      '.mean', '.var', without a scale, 'output.weight', 'output.bias'.

  Raises:
    ValueError: they are not this network's.
  """
  shapes = _shapes()
  script = "output.weight" in tensors
  head = "output" if script else "fc"
  names = {layer: _names(layer, script) for layer in shapes}
  wanted = {f"{head}.weight": (1008, 2048), f"{head}.bias": (1008,)}
  for layer, (h, w, below, above) in shapes.items():
    for part, name in names[layer].items():
      wanted[name] = (above, below, h, w) if part == "kernel" else (above,)
  naming.check(
    tensors,
    wanted,
    "the Inception-V3 of 2015-12-05 with 1008 classes",
    unused=r".*\.num_batches_tracked",
  )
  params = {}
  for layer in shapes:
    part = {
      part: np.asarray(tensors[name], np.float64)
      for part, name in names[layer].items()
    }
    scale = part.get("gamma", 1) / np.sqrt(part["var"] + 1e-3)
    kernel = part["kernel"].transpose(2, 3, 1, 0) * scale
    path = tuple(layer.split("."))
    params[(*path, "kernel")] = kernel.astype(np.float32)
    bias = part["beta"] - part["mean"] * scale
    params[(*path, "bias")] = bias.astype(np.float32)
  weight = np.asarray(tensors[f"{head}.weight"], np.float32)
  params[("fc_kernel",)] = np.ascontiguousarray(weight.T)
  params[("fc_bias",)] = np.asarray(tensors[f"{head}.bias"], np.float32)
  return traverse_util.unflatten_dict(params)


@functools.cache
def _shapes() -> dict[str, tuple[int, ...]]:
  """Layer -> shape of its kernel, (h, w, in, out)."""
  params = jax.eval_shape(
    Network().init, jax.random.key(0), jnp.zeros((1, 75, 75, 3))
  )["params"]
  flat = traverse_util.flatten_dict(params, sep=".")
  end = ".kernel"
  return {k.removesuffix(end): x.shape for k, x in flat.items() if end in k}


def _names(layer: str, script: bool) -> dict[str, str]:
  """Names in a file of the tensors that make a layer."""
  if not script:
    return {
      "kernel": f"{layer}.conv.weight",
      "gamma": f"{layer}.bn.weight",
      "beta": f"{layer}.bn.bias",
      "mean": f"{layer}.bn.running_mean",
      "var": f"{layer}.bn.running_var",
    }
  if layer in _STEM:
    name = _STEM[layer]
  else:
    block, branch = layer.split(".")
    name, branches = _BLOCKS[block]
    name = f"{name}.{branches[branch]}"
  parts = {"kernel": "weight", "beta": "beta", "mean": "mean", "var": "var"}
  return {ours: f"layers.{name}.{theirs}" for ours, theirs in parts.items()}
