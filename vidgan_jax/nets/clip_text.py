"""The text half of CLIP: a caption -> a vector in the space of pictures.

Radford et al., "Learning Transferable Visual Models From Natural Language
Supervision" (2021), section 2.4: a transformer with the norms in front, in
which each token sees those before it; its output at the last token, normed and
projected, is the text's.

Names are those of Hugging Face's files, of a whole CLIP or of its text half,
with or without the projection (Stable Diffusion's has none). Kept as there: the
GELU of OpenAI's networks is x sigmoid(1.702 x), of later ones the exact.
"""

from collections.abc import Container
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax.nets import vit

TYPES = ("clip", "clip_text_model")  # `model_type` of config.json.
PREFIX = ""  # Of a text.
# The half of the pictures, and a table of 0, 1, 2, ...
UNUSED = r"vision_model\..*|visual_projection\..*|logit_scale|.*position_ids"


class Network(nn.Module):
  """Tokens -> endpoints.

  Attributes:
    width: channels of a token.
    depth: blocks.
    heads: of the attention.
    hidden: channels within a block's dense layers.
    vocabulary: tokens.
    places: most tokens of a text.
    projection: channels of the space of pictures; 0: the file has no layer for
      it.
    quick: the GELU of OpenAI's networks.
    epsilon: of the norms.
  """

  width: int = 512
  depth: int = 12
  heads: int = 8
  hidden: int = 2048
  vocabulary: int = 49408
  places: int = 77
  projection: int = 512
  quick: bool = True
  epsilon: float = 1e-5

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Parameters: name -> shape."""
    c, hidden = self.width, self.hidden
    block = {}
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
      block |= vit.dense_shapes(f"self_attn.{name}", c, c)
    block |= vit.dense_shapes("mlp.fc1", c, hidden)
    block |= vit.dense_shapes("mlp.fc2", hidden, c)
    for name in ("layer_norm1", "layer_norm2"):
      block |= vit.norm_shapes(name, c)
    shapes = {
      "embeddings.token_embedding.weight": (self.vocabulary, c),
      "embeddings.position_embedding.weight": (self.places, c),
    } | vit.norm_shapes("final_layer_norm", c)
    if self.projection:
      shapes["text_projection.weight"] = (self.projection, c)
    return shapes | vit.stacked(block, self.depth)

  @nn.compact
  def __call__(self, ids: jax.Array, words: jax.Array) -> dict[str, jax.Array]:
    """Runs the network.

    Args:
      ids: (B, L) int32, the tokens of texts with those of start and end.
      words: (B, L) bool, False behind the last of a text.

    Returns:
      `tokens` (B, L, C) after the last norm; `features` (B, n), the projection
      of the last one, or itself where there is no projection.
    """
    params = {
      name: self.param(name, vit.initializer(name), shape)
      for name, shape in self.shapes.items()
    }
    length = ids.shape[1]
    x = params["embeddings.token_embedding.weight"][ids]
    x = x + params["embeddings.position_embedding.weight"][:length]
    # A token sees none behind it, and so none behind the text's last either.
    seen = jnp.where(jnp.tri(length, dtype=bool), 0.0, -jnp.inf)
    act = (
      (lambda x: x * jax.nn.sigmoid(1.702 * x))
      if self.quick
      else (lambda x: jax.nn.gelu(x, approximate=False))
    )

    def block(x, p):
      y = vit.norm(x, p, "layer_norm1", self.epsilon)
      q, k, v = (vit.dense(y, p, f"self_attn.{n}_proj") for n in "qkv")
      y = vit.attention(q, k, v, self.heads, seen)
      x = x + vit.dense(y, p, "self_attn.out_proj")
      y = vit.norm(x, p, "layer_norm2", self.epsilon)
      return x + vit.dense(act(vit.dense(y, p, "mlp.fc1")), p, "mlp.fc2"), None

    x = jax.lax.scan(block, x, vit.below(params, "blocks."))[0]
    x = vit.norm(x, params, "final_layer_norm", self.epsilon)
    features = x[jnp.arange(len(x)), words.sum(1) - 1]
    if self.projection:
      kernel = params["text_projection.weight"]
      features = jnp.einsum("bi,oi->bo", features, kernel, precision="highest")
    return {"tokens": x, "features": features}


def network(config: Mapping[str, Any], names: Container[str]) -> Network:
  """The network of a folder.

  Args:
    config: config.json, of a whole CLIP or of its text half.
    names: of the tensors.
  """
  text = config.get("text_config", config)
  projection = "text_projection.weight" in names
  return Network(
    width=text.get("hidden_size", 512),
    depth=text.get("num_hidden_layers", 12),
    heads=text.get("num_attention_heads", 8),
    hidden=text.get("intermediate_size", 2048),
    vocabulary=text.get("vocab_size", 49408),
    places=text.get("max_position_embeddings", 77),
    # A whole CLIP's stands outside, and that of its half there by default.
    projection=projection
    and config.get("projection_dim", text.get("projection_dim", 512)),
    quick=vit.activation(
      text.get("hidden_act", "quick_gelu"), ("quick_gelu", "gelu")
    )
    == "quick_gelu",
    epsilon=text.get("layer_norm_eps", 1e-5),
  )


def convert(
  tensors: Mapping[str, np.ndarray], network: Network
) -> dict[str, np.ndarray]:
  """Tensors of Hugging Face's file -> parameters.

  Args:
    tensors: 'text_model.encoder.layers.0.mlp.fc1.weight' and so on, which may
      lack the first part.
    network: whose parameters are wanted.

  Returns:
    The same names without 'text_model.', those of all blocks stacked as
    'blocks.mlp.fc1.weight'; float32.

  Raises:
    ValueError: they are not the tensors of this network.
  """
  return vit.collect(
    vit.renamed(tensors, r"(text_model\.)?encoder\.layers\."),
    network.shapes,
    "those of the CLIP text network of its config.json",
    prefix=r"text_model\.",
    unused=UNUSED,
  )
