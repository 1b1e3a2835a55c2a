"""VideoMAE v2, the network of the content-debiased FVD.

Wang et al., "VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking"
(2023): a ViT-g/14 of a billion parameters, fine-tuned on Something-Something
v2, where a class is a motion and not a thing. Ge et al., "On the Content Bias
in Frechet Video Distance" (2024), measure the Frechet distance of its
`features`, which I3D's leave nearly blind to motion.

Kept as published: queries and values have biases, keys have none; places are
given by a fixed table of sines over the tokens' number in the clip, not over
time, row and column; the norm comes after the mean over all tokens. The
original network was trained on colours that are normalised; cd-fvd gives it
[0, 1].
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
vit_g_hybrid_pt_1200e_ssv2_ft.pth of OpenGVLab/InternVideoMAE_models on Hugging
Face, folder mae-g (its sum is unknown to us)

By the authors of VideoMAE v2 (their project is under the MIT licence; terms of
the file unknown to us), the one that cd-fvd takes. A PyTorch state dict under
'model' or 'module'.
Certain are its names: cd-fvd wants all of them and no others. The ports for the
transformers library have other names and are refused.
"""

SIZE = 224  # Pixels, of every protocol.
PROTOCOLS = {"cdfvd": "squashed to 224 x 224 (PyTorch's bilinear), [0, 1]"}


class Network(nn.Module):
  """Clip -> endpoints.

  Attributes:
    width: channels of a token. Below the published network's it is a toy for
      tests, as are other numbers in what follows.
    depth: blocks.
    heads: of the attention.
    hidden: channels within a block's dense layers.
    patch: pixels of a token's side.
    size: pixels of a side.
    frames: of the clips that it was trained on.
    classes: logits.
  """

  width: int = 1408
  depth: int = 40
  heads: int = 16
  hidden: int = 6144
  patch: int = 14
  size: int = SIZE
  frames: int = 16
  classes: int = 174

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Parameters: name -> shape."""
    return vit.shapes(self.width, self.depth, self.hidden, self.patch) | {
      "blocks.attn.q_bias": (self.depth, self.width),
      "blocks.attn.v_bias": (self.depth, self.width),
      "fc_norm.weight": (self.width,),
      "fc_norm.bias": (self.width,),
      "head.weight": (self.classes, self.width),
      "head.bias": (self.classes,),
    }

  @nn.compact
  def __call__(self, video: jax.Array) -> dict[str, jax.Array]:
    """Runs the network.

    Args:
      video: (B, T, 224, 224, 3) float32 from `preprocess`. T is even; for other
        clips than those of 16 frames the table of places is stretched by
        cd-fvd's rule.

    Returns:
      `tokens` (B, T / 2 * 256, 1408) of the last block; `features` (B, 1408),
      their mean after the norm; `logits` (B, 174).
    """
    b, t, *rest = video.shape
    if rest != [self.size, self.size, 3] or not t or t % vit.TUBELET:
      raise errors.UserError(
        "VideoMAE takes clips (B, T, H, W, 3) with an even number of frames of "
        f"{self.size} x {self.size} pixels; this one has the shape "
        f"{video.shape}. Cut it to {self.frames} frames; `preprocess` sees to "
        "the rest."
      )
    params = {
      name: self.param(name, vit.initializer(name), shape)
      for name, shape in self.shapes.items()
    }
    blocks = vit.below(params, "blocks.")
    q, v = blocks.pop("attn.q_bias"), blocks.pop("attn.v_bias")
    # Keys have no bias there (a constant added to all of them changes nothing).
    blocks["attn.qkv.bias"] = jnp.concatenate([q, jnp.zeros_like(q), v], -1)
    x = vit.tokens(video, params).reshape(b, -1, self.width)
    x = x + self._places(t // vit.TUBELET)
    x = vit.encode(x, blocks, self.heads, 1e-6)
    features = vit.norm(x.mean(1), params, "fc_norm", 1e-6)
    logits = vit.dense(features, params, "head")
    return {"tokens": x, "features": features, "logits": logits}

  def _places(self, length):
    """(length * rows * columns, C), constant: Vaswani et al. (2017), 3.5."""
    trained = self.frames // vit.TUBELET
    tokens = trained * (self.size // self.patch) ** 2
    pairs = np.arange(self.width) // 2
    table = np.arange(tokens)[:, None] / 10000 ** (2 * pairs / self.width)
    # sin at the even channels, cos at the odd, of p / 10000^(2 i / C).
    table[:, ::2] = np.sin(table[:, ::2])
    table[:, 1::2] = np.cos(table[:, 1::2])
    table = table.reshape(trained, -1)
    if length != trained:
      # Linear in time. The 0.1 is cd-fvd's guard against rounding, which moves
      # the places a little.
      at = (np.arange(length) + 0.5) * trained / (length + 0.1) - 0.5
      at = np.maximum(at, 0)
      first = np.minimum(at.astype(int), trained - 1)
      after = np.minimum(first + 1, trained - 1)
      share = (at - first)[:, None]
      table = (1 - share) * table[first] + share * table[after]
    return table.reshape(-1, self.width).astype(np.float32)


def preprocess(video: jax.Array, protocol: str = "cdfvd") -> jax.Array:
  """Makes the input of the network as a published evaluation did.

  Args:
    video: (B, T, H, W, 3) uint8, RGB.
    protocol: a key of `PROTOCOLS`. `cdfvd` is what cd-fvd does with an array;
      its loaders of files resize and crop to a square before (filtered, unlike
      this resize), and round colours down.

  Returns:
    (B, T, 224, 224, 3) float32 in [0, 1], without any mean or deviation.
  """
  rooms.check_name(protocol, PROTOCOLS, "the protocol of VideoMAE")
  conv.check_clips(video, "VideoMAE")
  return conv.resize(video, (SIZE, SIZE), "half_pixel") / 255


def convert(
  tensors: Mapping[str, np.ndarray], network: Network | None = None
) -> dict[str, np.ndarray]:
  """Tensors of the public file -> parameters.

  Args:
    tensors: name -> array: 'blocks.0.attn.qkv.weight' and so on, which may
      stand below 'model.' or 'module.'.
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
    "those of the VideoMAE v2 in vit_g_hybrid_pt_1200e_ssv2_ft.pth",
    prefix=r"(model|module)\.",
  )
