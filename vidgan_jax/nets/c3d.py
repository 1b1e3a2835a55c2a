"""C3D on UCF-101, the classifier of the Inception Score of clips.

Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks"
(2015), figure 3: eight convolutions of 3 x 3 x 3, five poolings, three dense
layers, 101 classes. Saito et al. (TGAN 2017, TGANv2 2020) made the score of it.

Kept as published: pictures are BGR in 0 ... 255 less the mean clip of the
training set; poolings are Caffe's, whose last window may hang over the edge, so
that 7 rows give 4; clips have 16 frames.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import errors
from vidgan_jax import rooms
from vidgan_jax.nets import conv
from vidgan_jax.nets import naming

SOURCE = """\
conv3d_deepnetA_ucf.npz and mean2.npz, both at once, of the release of TGANv2's
code (Saito et al., MIT licence), sums unknown to us

  conv3d_deepnetA_ucf.npz   Chainer's copy of Tran et al.'s Caffe model
                            c3d_ucf101_finetune_whole_iter_20000
  mean2.npz                 the mean clip (3, 16, 128, 171), BGR
StyleGAN-V's c3d_ucf101.pt is a TorchScript port of the two whose inner names we
do not know.
"""

SIZE = 112  # Pixels, of every protocol.
PROTOCOLS = {
  "tgan2": "squashed to 112 x 112 (Chainer's bilinear); TGANv2, MAGVIT",
  "tgan": "squashed to 128 x 128 (OpenCV's cubic), centre crop; TGAN",
}
# Where in the mean clip, 128 x 171, the 112 x 112 pixels lie. TGANv2 takes
# columns left of the centre.
_CORNERS = {"tgan2": (8, 8), "tgan": (8, 29)}
_MEAN = (128, 171)

# Convolutions and their channels as multiples of the first layer's, between
# the poolings.
_STAGES = (
  (("conv1a", 1),),
  (("conv2a", 2),),
  (("conv3a", 4), ("conv3b", 4)),
  (("conv4a", 8), ("conv4b", 8)),
  (("conv5a", 8), ("conv5b", 8)),
)


class Network(nn.Module):
  """Clip -> endpoints.

  Attributes:
    protocol: that of `preprocess`, which says where the mean clip is cut.
    classes: logits.
    width: channels of the first layer; all others change with it. Below the
      published 64 it is a toy for tests, as are other `frames` and `size`.
    frames: of a clip.
    size: pixels of a side.
  """

  protocol: str = "tgan2"
  classes: int = 101
  width: int = 64
  frames: int = 16
  size: int = SIZE

  @nn.compact
  def __call__(self, video: jax.Array) -> dict[str, jax.Array]:
    """Runs the network.

    Args:
      video: (B, 16, 112, 112, 3) float32 from `preprocess`.

    Returns:
      `pool1` ... `pool5` (B, T', H', W', C), `fc6` and `fc7` (B, 4096) after
      their ReLU, `logits` and `softmax` (B, 101).
    """
    if video.shape[1:] != (self.frames, self.size, self.size, 3):
      raise errors.UserError(
        f"C3D takes clips of {self.frames} frames of {self.size} x {self.size} "
        f"pixels, and this one has the shape {video.shape[1:]}. Cut it to "
        f"{self.frames} frames; `preprocess` sees to the rest."
      )
    top, left = _CORNERS[self.protocol]
    mean = self.param("mean", nn.initializers.zeros, (self.frames, *_MEAN, 3))
    x = video - mean[:, top : top + self.size, left : left + self.size]
    out = {}
    for i, stage in enumerate(_STAGES, 1):
      for name, factor in stage:
        kernel, bias = self._layer(
          name, (3, 3, 3, x.shape[-1], factor * self.width)
        )
        x = nn.relu(conv.conv3d(x, kernel, padding=((1, 1),) * 3) + bias)
      window = (1, 2, 2) if i == 1 else (2, 2, 2)
      over = [(0, -size % w) for size, w in zip(x.shape[1:4], window)]
      out[f"pool{i}"] = x = conv.max_pool(x, window, window, over)
    x = jnp.moveaxis(x, -1, 1).reshape(len(x), -1)  # Chainer's order: C T H W.
    for name in ("fc6", "fc7", "fc8"):
      last = name == "fc8"
      kernel, bias = self._layer(
        name, (x.shape[-1], self.classes if last else 64 * self.width)
      )
      x = jnp.dot(x, kernel, precision="highest") + bias
      out["logits" if last else name] = x = x if last else nn.relu(x)
    out["softmax"] = nn.softmax(x)
    return out

  def _layer(self, name, shape):
    init = nn.initializers.he_normal()
    kernel = self.param(f"{name}_kernel", init, shape)
    bias = self.param(f"{name}_bias", nn.initializers.zeros, shape[-1:])
    return kernel, bias


def preprocess(video: jax.Array, protocol: str = "tgan2") -> jax.Array:
  """Makes the input of the network as a published evaluation did.

  Give the same protocol to `Network`. `tgan2` is the code of TGANv2, which
  StyleGAN-V and MAGVIT repeat; `tgan` is that of the first TGAN.

  Args:
    video: (B, 16, H, W, 3) uint8, RGB.
    protocol: a key of `PROTOCOLS`.

  Returns:
    (B, 16, 112, 112, 3) float32, BGR in 0 ... 255.
  """
  rooms.check_name(protocol, PROTOCOLS, "the protocol of C3D")
  conv.check_clips(video, "C3D")
  x = video[..., ::-1]
  if protocol == "tgan2":
    return conv.resize(x, (SIZE, SIZE), "corners")
  return conv.resize(x, (128, 128), "cubic")[:, :, 8:120, 8:120]


def convert(
  tensors: Mapping[str, np.ndarray], network: Network | None = None
) -> dict[str, np.ndarray]:
  """Tensors of the public files -> parameters.

  Known are Chainer's names ('conv1a/W', 'fc6/b') and the same layers under
  PyTorch's ('conv1a.weight', 'fc6.bias'), beside 'mean' in both cases.

  Args:
    tensors: name -> array, of both files.
    network: whose parameters are wanted; the published one if None.

  Returns:
    'mean' (16, 128, 171, 3), 'LAYER_kernel' and 'LAYER_bias', float32.

  Raises:
    ValueError: they are not the tensors of this network.
  """
  network = network or Network()
  wanted = jax.eval_shape(
    network.init,
    jax.random.key(0),
    jax.ShapeDtypeStruct(
      (1, network.frames, network.size, network.size, 3), jnp.float32
    ),
  )["params"]
  endings = {"kernel": "/W", "bias": "/b"}
  if any(name.endswith(".weight") for name in tensors):
    endings = {"kernel": ".weight", "bias": ".bias"}
  theirs, shapes = {}, {}
  for ours, value in wanted.items():
    layer, _, part = ours.partition("_")
    theirs[ours] = layer + endings.get(part, "")
    shape = value.shape
    if part == "kernel":
      shape = (*shape[:2:-1], *shape[:3]) if len(shape) == 5 else shape[::-1]
    elif ours == "mean":
      shape = (3, *shape[:3])
    shapes[theirs[ours]] = shape
  what = "those of C3D for UCF-101 in conv3d_deepnetA_ucf.npz and mean2.npz"
  naming.check(tensors, shapes, what)
  params = {}
  for ours, name in theirs.items():
    value = np.asarray(tensors[name], np.float32)
    if ours == "mean":
      value = value.transpose(1, 2, 3, 0)
    elif value.ndim == 5:
      value = value.transpose(2, 3, 4, 1, 0)
    elif value.ndim == 2:
      value = value.T
    params[ours] = np.ascontiguousarray(value)
  return params
