"""E5, the encoder of BERT or XLM-RoBERTa: a text -> a vector of its meaning.

Wang et al., "Text Embeddings by Weakly-Supervised Contrastive Pre-training"
(2022) and "Multilingual E5" (2024), on the network of Devlin et al., "BERT"
(2019): a transformer with the norms behind, N(x + A(x)) and then N(x + M(x)).
The text's vector is the mean over its tokens, of length 1, and "query: " stands
before a text of which nothing is looked for, as the authors ask.

Names are those of Hugging Face's files. Kept as there: XLM-RoBERTa counts
places from one behind that of its filling token, BERT from 0.
"""

from collections.abc import Container
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax.nets import vit

TYPES = ("bert", "xlm-roberta")  # `model_type` of config.json.
PREFIX = "query: "  # Of a text.
# A layer that E5 does not ask, the head of its training, a table of 0, 1, 2.
UNUSED = r".*pooler\..*|(cls|lm_head)\..*|.*position_ids"


class Network(nn.Module):
  """Tokens -> endpoints.

  Attributes:
    width: channels of a token.
    depth: blocks.
    heads: of the attention.
    hidden: channels within a block's dense layers.
    vocabulary: tokens.
    table: rows of the table of places.
    first: the row of the first token's.
    kinds: rows of the table of kinds, of which a text has the first.
    epsilon: of the norms.
  """

  width: int = 384
  depth: int = 12
  heads: int = 12
  hidden: int = 1536
  vocabulary: int = 250037
  table: int = 514
  first: int = 2
  kinds: int = 1
  epsilon: float = 1e-5

  @property
  def places(self) -> int:
    """Most tokens of a text."""
    return self.table - self.first

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Parameters: name -> shape."""
    c = self.width
    block = {}
    for name in ("self.query", "self.key", "self.value", "output.dense"):
      block |= vit.dense_shapes(f"attention.{name}", c, c)
    block |= vit.dense_shapes("intermediate.dense", c, self.hidden)
    block |= vit.dense_shapes("output.dense", self.hidden, c)
    for name in ("attention.output.LayerNorm", "output.LayerNorm"):
      block |= vit.norm_shapes(name, c)
    return {
      "embeddings.word_embeddings.weight": (self.vocabulary, c),
      "embeddings.position_embeddings.weight": (self.table, c),
      "embeddings.token_type_embeddings.weight": (self.kinds, c),
      **vit.norm_shapes("embeddings.LayerNorm", c),
    } | vit.stacked(block, self.depth)

  @nn.compact
  def __call__(self, ids: jax.Array, words: jax.Array) -> dict[str, jax.Array]:
    """Runs the network.

    Args:
      ids: (B, L) int32, the tokens of texts with those of start and end.
      words: (B, L) bool, False behind the last of a text.

    Returns:
      `tokens` (B, L, C) of the last block; `features` (B, C), the mean of a
      text's, of length 1.
    """
    params = {
      name: self.param(name, vit.initializer(name), shape)
      for name, shape in self.shapes.items()
    }
    table = vit.below(params, "embeddings.")
    x = table["word_embeddings.weight"][ids]
    x = x + table["position_embeddings.weight"][self.first :][: ids.shape[1]]
    x = x + table["token_type_embeddings.weight"][0]
    x = vit.norm(x, table, "LayerNorm", self.epsilon)
    seen = jnp.where(words, 0.0, -jnp.inf)[:, None, None]

    def block(x, p):
      names = ("query", "key", "value")
      q, k, v = (vit.dense(x, p, f"attention.self.{name}") for name in names)
      y = vit.attention(q, k, v, self.heads, seen)
      y = x + vit.dense(y, p, "attention.output.dense")
      x = vit.norm(y, p, "attention.output.LayerNorm", self.epsilon)
      y = jax.nn.gelu(vit.dense(x, p, "intermediate.dense"), approximate=False)
      y = x + vit.dense(y, p, "output.dense")
      return vit.norm(y, p, "output.LayerNorm", self.epsilon), None

    x = jax.lax.scan(block, x, vit.below(params, "blocks."))[0]
    # The direction of the sum over a text's tokens is that of their mean.
    total = jnp.where(words[..., None], x, 0.0).sum(1)
    features = total / jnp.linalg.norm(total, axis=-1, keepdims=True)
    return {"tokens": x, "features": features}


def network(config: Mapping[str, Any], names: Container[str]) -> Network:
  """The network of a folder.

  Args:
    config: config.json.
    names: of the tensors; not looked at.
  """
  del names
  vit.activation(config.get("hidden_act", "gelu"), ("gelu",))
  roberta = config["model_type"] == "xlm-roberta"
  return Network(
    width=config["hidden_size"],
    depth=config["num_hidden_layers"],
    heads=config["num_attention_heads"],
    hidden=config["intermediate_size"],
    vocabulary=config["vocab_size"],
    table=config["max_position_embeddings"],
    first=config.get("pad_token_id", 1) + 1 if roberta else 0,
    kinds=config["type_vocab_size"],
    epsilon=config.get("layer_norm_eps", 1e-12),
  )


def convert(
  tensors: Mapping[str, np.ndarray], network: Network
) -> dict[str, np.ndarray]:
  """Tensors of Hugging Face's file -> parameters.

  Args:
    tensors: 'encoder.layer.0.attention.self.query.weight' and so on, which may
      stand below 'bert.' or 'roberta.'.
    network: whose parameters are wanted.

  Returns:
    The same names, those of all blocks stacked as
    'blocks.attention.self.query.weight'; float32.

  Raises:
    ValueError: they are not the tensors of this network.
  """
  return vit.collect(
    vit.renamed(tensors, r"((bert|roberta)\.)?encoder\.layer\."),
    network.shapes,
    "those of the BERT or XLM-RoBERTa of its config.json",
    prefix=r"(bert|roberta)\.",
    unused=UNUSED,
  )
