"""V-JEPA and its attentive probe, the network of JEDi.

Bardes et al., "Revisiting Feature Prediction for Learning Visual
Representations from Video" (2024): a ViT-H/16 that learnt to predict masked
features of its own moving average, and a probe, one cross-attention with a
learnt query, trained on Something-Something v2. Luo et al., "Beyond FVD"
(2024), measure a kernel distance, JEDi, of the pooled `features`.

Kept as published: norms have the epsilon 1e-6 in the encoder and 1e-5 in the
probe; the table of places comes from the file and is stretched to clips of
other sizes; the query is not normed, and the cross-attention has a last dense
layer (V-JEPA 2's has none).
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import errors
from vidgan_jax import rooms
from vidgan_jax.nets import conv
from vidgan_jax.nets import vit

SOURCE = """\
vith16.pth.tar and ssv2-probe.pth.tar, both at once, of Meta's list of models in
facebookresearch/jepa (their sums are unknown to us)

Most of the code there is under CC BY-NC 4.0; terms of the files unknown to us.
  vith16/vith16.pth.tar      the training's state of ViT-H/16 at 224 pixels, ten
                             gigabytes, of which 'target_encoder' is taken
  vith16/ssv2-probe.pth.tar  the probe, of which 'classifier' is taken
Certain are the names within both parts, as the code of JEDi and V-JEPA loads
them. Inferred from the code of the training are what may stand before them,
'module.backbone.' and 'module.', and the names of what we leave out. Files of
the 384-pixel model and of ViT-L have other shapes and are refused.
"""

# What else stands in the two files.
UNUSED = r"(encoder|predictor|opt|scaler)\..*"

SIZE = 224  # Pixels of the clips that it was trained on.
PROTOCOLS = {
  "squash": "squashed to 224 x 224 (PyTorch's bilinear), ImageNet's colours",
  "videojedi": "of their own size, ImageNet's colours; Luo et al.'s package",
}
# Of ImageNet's colours in [0, 1].
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)

_BLOCK = "pooler.cross_attention_block."


class Network(nn.Module):
  """Clip -> endpoints.

  Attributes:
    width: channels of a token. Below the published network's it is a toy for
      tests, as are other numbers in what follows.
    depth: blocks.
    heads: of the attention.
    hidden: channels within a block's dense layers.
    patch: pixels of a token's side.
    size: pixels of a side of the clips that it was trained on.
    frames: of those clips.
    classes: logits.
  """

  width: int = 1280
  depth: int = 32
  heads: int = 16
  hidden: int = 5120
  patch: int = 16
  size: int = SIZE
  frames: int = 16
  classes: int = 174

  @property
  def grid(self) -> tuple[int, int, int]:
    """Tokens in time, rows and columns of the table of places."""
    side = self.size // self.patch
    return self.frames // vit.TUBELET, side, side

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Parameters: name -> shape."""
    c = self.width
    block = {
      "norm1.weight": (c,),
      "norm1.bias": (c,),
      "xattn.q.weight": (c, c),
      "xattn.q.bias": (c,),
      "xattn.kv.weight": (2 * c, c),
      "xattn.kv.bias": (2 * c,),
      "xattn.proj.weight": (c, c),
      "xattn.proj.bias": (c,),
      "norm2.weight": (c,),
      "norm2.bias": (c,),
      "mlp.fc1.weight": (4 * c, c),
      "mlp.fc1.bias": (4 * c,),
      "mlp.fc2.weight": (c, 4 * c),
      "mlp.fc2.bias": (c,),
    }
    return (
      vit.shapes(c, self.depth, self.hidden, self.patch)
      | {
        "blocks.attn.qkv.bias": (self.depth, 3 * c),
        "pos_embed": (1, int(np.prod(self.grid)), c),
        "norm.weight": (c,),
        "norm.bias": (c,),
        "pooler.query_tokens": (1, 1, c),
        "linear.weight": (self.classes, c),
        "linear.bias": (self.classes,),
      }
      | {f"{_BLOCK}{name}": shape for name, shape in block.items()}
    )

  @nn.compact
  def __call__(self, video: jax.Array) -> dict[str, jax.Array]:
    """Runs the network.

    Args:
      video: (B, T, H, W, 3) float32 from `preprocess`, T a multiple of 2, H and
        W of 16. For others than 16 x 224 x 224 the table of places is
        interpolated linearly along all three.

    Returns:
      `tokens` (B, T / 2 * H / 16 * W / 16, 1280) after the encoder's norm;
      `mean` (B, 1280), their mean, which Luo et al. take without the probe;
      `features` (B, 1280), the output of the probe's pooler; `logits` (B, 174).
    """
    b, *size, _ = video.shape
    grid = [n // p for n, p in zip(size, (vit.TUBELET, self.patch, self.patch))]
    exact = [vit.TUBELET * grid[0], *(self.patch * n for n in grid[1:])]
    if video.shape[-1] != 3 or size != exact or not all(grid):
      raise errors.UserError(
        "V-JEPA takes clips (B, T, H, W, 3) with an even number of frames and "
        f"sides that are multiples of {self.patch} pixels; this one has the "
        f"shape {video.shape}. The protocol 'squash' of `preprocess` makes "
        f"pictures of {self.size} x {self.size} of any."
      )
    params = {
      name: self.param(name, vit.initializer(name), shape)
      for name, shape in self.shapes.items()
    }
    x = vit.tokens(video, params) + self._places(params["pos_embed"], *grid)
    x = x.reshape(b, -1, self.width)  # (B, N, C), N = T/2 * H/P * W/P
    x = vit.encode(x, vit.below(params, "blocks."), self.heads, 1e-6)
    x = vit.norm(x, params, "norm", 1e-6)
    features = self._pool(x, params)
    logits = vit.dense(features, params, "linear")
    return {
      "tokens": x,
      "mean": x.mean(1),
      "features": features,
      "logits": logits,
    }

  def _places(self, table, length, rows, columns):
    """(length, rows, columns, C), as PyTorch's trilinear interpolation."""
    # Linear along one axis after the other: rows and columns first, then time,
    # for which all else is one long axis of channels.
    table = table.reshape(*self.grid, self.width)
    if self.grid[1:] != (rows, columns):
      table = conv.resize(table, (rows, columns), "half_pixel")
    if self.grid[0] != length:
      table = table.reshape(self.grid[0], 1, -1)
      table = conv.resize(table, (length, 1), "half_pixel")
    return table.reshape(length, rows, columns, self.width)

  def _pool(self, x, params):
    """(B, N, C) tokens -> (B, C)."""
    block = vit.below(params, _BLOCK)
    keys = vit.dense(vit.norm(x, block, "norm1", 1e-5), block, "xattn.kv")
    query = params["pooler.query_tokens"]
    query = jnp.broadcast_to(query, (len(x), *query.shape[1:]))
    y = vit.attention(
      vit.dense(query, block, "xattn.q"), *jnp.split(keys, 2, -1), self.heads
    )
    # One query a clip asks all tokens; its answer goes through a dense block.
    y = query + vit.dense(y, block, "xattn.proj")
    y = y + vit.mlp(vit.norm(y, block, "norm2", 1e-5), block)
    return y[:, 0]


def preprocess(video: jax.Array, protocol: str = "squash") -> jax.Array:
  """Makes the input of the network.

  The package of Luo et al. normalises colours and leaves the size to who calls
  it; to which size their paper's clips were brought we do not know, and the
  default is our choice. At 224 x 224 the protocols are the same. The package
  takes its normalisation from a fork of V-JEPA's code; that it acts on colours,
  as in V-JEPA's own, is inferred.

  Args:
    video: (B, T, H, W, 3) uint8, RGB.
    protocol: a key of `PROTOCOLS`.

  Returns:
    (B, T, 224, 224, 3) float32, or (B, T, H, W, 3) for `videojedi`.
  """
  rooms.check_name(protocol, PROTOCOLS, "the protocol of V-JEPA")
  conv.check_clips(video, "V-JEPA")
  x = video.astype(jnp.float32)
  if protocol == "squash":
    x = conv.resize(video, (SIZE, SIZE), "half_pixel")
  return (x / 255 - jnp.array(_MEAN)) / jnp.array(_DEVIATION)


def convert(
  tensors: Mapping[str, np.ndarray], network: Network | None = None
) -> dict[str, np.ndarray]:
  """Tensors of the two public files together -> parameters.

  Args:
    tensors: name -> array: the encoder's 'blocks.0.attn.qkv.weight' and so on,
      which may stand below 'target_encoder.', 'module.' and 'backbone.', and
      the probe's 'pooler.query_tokens', below 'classifier.' and 'module.'. The
      encoder that was trained, 'encoder.', is not taken for its average.
    network: whose parameters are wanted; the published one if None.

  Returns:
    The same names, those of all blocks stacked as 'blocks.attn.qkv.weight';
    float32.

  Raises:
    ValueError: they are not the tensors of this network.
  """
  return vit.collect(
    tensors,
    (network or Network()).shapes,
    "those of V-JEPA in vith16.pth.tar and ssv2-probe.pth.tar, both given",
    prefix=r"(target_encoder\.|classifier\.)?(module\.)?(backbone\.)?",
    unused=UNUSED,
  )
