"""The encoder of T5: a text -> a vector for each token.

Raffel et al., "Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer" (2020), section 2.1: norms in front, without mean or
bias; no layer has a bias; attention has no scale, and places are told by a
number that is added to its logits, one for each head and each of 32 ranges of
distance, the same in all blocks. T5 1.1 and mT5 gate their dense layers with a
GELU (Shazeer 2020), T5 has ReLU.

Names are those of Hugging Face's files, whose decoder may be there too.
"""

from collections.abc import Container
from collections.abc import Mapping
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax.nets import vit

TYPES = ("t5", "mt5")  # `model_type` of config.json.
PREFIX = ""  # Of a text.
UNUSED = r"decoder\..*|lm_head\..*"


class Network(nn.Module):
  """Tokens -> endpoints.

  Attributes:
    width: channels of a token.
    depth: blocks.
    heads: of the attention.
    head: channels of one, whatever the width.
    hidden: channels within a block's dense layers.
    vocabulary: tokens.
    ranges: of distances between two tokens, half of them to either side.
    farthest: distance from which on all are of the last range.
    gated: the dense layers of T5 1.1.
    epsilon: of the norms.
    places: most tokens of a text; it has been trained on no more.
  """

  width: int = 512
  depth: int = 6
  heads: int = 8
  head: int = 64
  hidden: int = 2048
  vocabulary: int = 32128
  ranges: int = 32
  farthest: int = 128
  gated: bool = False
  epsilon: float = 1e-6
  places: int = 512

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Parameters: name -> shape."""
    c, inner = self.width, self.heads * self.head
    block = {
      f"layer.0.SelfAttention.{name}.weight": (inner, c) for name in "qkv"
    } | {
      "layer.0.SelfAttention.o.weight": (c, inner),
      "layer.0.layer_norm.weight": (c,),
      "layer.1.DenseReluDense.wo.weight": (c, self.hidden),
      "layer.1.layer_norm.weight": (c,),
    }
    for name in ("wi_0", "wi_1") if self.gated else ("wi",):
      block[f"layer.1.DenseReluDense.{name}.weight"] = (self.hidden, c)
    return {
      "shared.weight": (self.vocabulary, c),
      "relative_attention_bias.weight": (self.ranges, self.heads),
      "final_layer_norm.weight": (c,),
    } | vit.stacked(block, self.depth)

  @nn.compact
  def __call__(self, ids: jax.Array, words: jax.Array) -> dict[str, jax.Array]:
    """Runs the network.

    Args:
      ids: (B, L) int32, the tokens of texts with that of the end.
      words: (B, L) bool, False behind the last of a text.

    Returns:
      `tokens` (B, L, C) after the last norm; `features` (B, C), the mean of a
      text's (Ni et al. 2022, Sentence-T5).
    """
    params = {
      name: self.param(name, vit.initializer(name), shape)
      for name, shape in self.shapes.items()
    }
    x = params["shared.weight"][ids]
    near = self._ranges(ids.shape[1])
    bias = params["relative_attention_bias.weight"][near]  # (L, L, heads)
    seen = jnp.where(words, 0.0, -jnp.inf)[:, None, None]
    bias = bias.transpose(2, 0, 1) + seen

    def dense(x, p, name):
      kernel = p[f"{name}.weight"]
      return jnp.einsum("...i,oi->...o", x, kernel, precision="highest")

    def block(x, p):
      y = self._norm(x, p["layer.0.layer_norm.weight"])
      at = "layer.0.SelfAttention."
      q, k, v = (dense(y, p, at + name) for name in "qkv")
      y = vit.attention(q, k, v, self.heads, bias, scale=1.0)
      x = x + dense(y, p, f"{at}o")
      y = self._norm(x, p["layer.1.layer_norm.weight"])
      at = "layer.1.DenseReluDense."
      if self.gated:
        gate = jax.nn.gelu(dense(y, p, f"{at}wi_0"), approximate=True)
        y = gate * dense(y, p, f"{at}wi_1")
      else:
        y = jax.nn.relu(dense(y, p, f"{at}wi"))
      return x + dense(y, p, f"{at}wo"), None

    x = jax.lax.scan(block, x, vit.below(params, "blocks."))[0]
    x = self._norm(x, params["final_layer_norm.weight"])
    mean = jnp.where(words[..., None], x, 0.0).sum(1)
    mean = mean / words.sum(1, keepdims=True)
    return {"tokens": x, "features": mean}

  def _norm(self, x, weight):
    """RMS norm (Zhang and Sennrich 2019)."""
    square = jnp.square(x).mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(square + self.epsilon) * weight

  def _ranges(self, length):
    """(L, L) int, constant: in which range of distance a key is of a query."""
    half = self.ranges // 2
    exact = half // 2
    way = np.arange(length) - np.arange(length)[:, None]
    far = np.abs(way)
    # Each of the first distances has a range of its own; then ranges widen as
    # the logarithm: exact + log(d / exact) / log(farthest / exact) * (rest).
    # In float32, as it was trained: 2^k falls on the edge of a range.
    share = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(exact))
    share = share / np.float32(math.log(self.farthest / exact))
    wide = exact + (share * np.float32(half - exact)).astype(int)
    near = np.where(far < exact, far, np.minimum(wide, half - 1))
    return near + half * (way > 0)


def network(config: Mapping[str, Any], names: Container[str]) -> Network:
  """The network of a folder.

  Args:
    config: config.json.
    names: of the tensors; not looked at.
  """
  del names
  kind = config.get("feed_forward_proj", "relu")
  vit.activation(kind, ("relu", "gated-gelu"))
  return Network(
    width=config["d_model"],
    depth=config["num_layers"],
    heads=config["num_heads"],
    head=config["d_kv"],
    hidden=config["d_ff"],
    vocabulary=config["vocab_size"],
    ranges=config.get("relative_attention_num_buckets", 32),
    farthest=config.get("relative_attention_max_distance", 128),
    gated=kind == "gated-gelu",
    epsilon=config.get("layer_norm_epsilon", 1e-6),
  )


def convert(
  tensors: Mapping[str, np.ndarray], network: Network
) -> dict[str, np.ndarray]:
  """Tensors of Hugging Face's file -> parameters.

  Args:
    tensors: 'encoder.block.0.layer.0.SelfAttention.q.weight' and so on.
    network: whose parameters are wanted.

  Returns:
    The same names without 'encoder.', those of all blocks stacked as
    'blocks.layer.0.SelfAttention.q.weight'; float32.

  Raises:
    ValueError: they are not the tensors of this network.
  """
  # The first block holds the table of distances for all.
  first = r"encoder\.block\.0\.layer\.0\.SelfAttention\.(?=relative)"
  kept = vit.renamed(tensors, first, "")
  table = kept.pop("encoder.embed_tokens.weight", None)
  if table is not None:  # The same twice, or under this name alone.
    kept.setdefault("shared.weight", table)
  return vit.collect(
    vit.renamed(kept, r"encoder\.block\."),
    network.shapes,
    "those of the T5 encoder of its config.json",
    prefix=r"encoder\.",
    unused=UNUSED,
  )
