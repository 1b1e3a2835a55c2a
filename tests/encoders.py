"""Folders with small text networks, for the tests of what reads them."""

import json

import numpy as np

from vidgan_jax.nets import e5
from vidgan_jax.store import tensors

WORDS = "a red blue green disc square cross flies bounces on black in the wind"


def tokenizer(path, words=WORDS):
  """Writes a tokenizer of whole words that marks start and end."""
  import tokenizers

  marks = ("<s>", "<pad>", "</s>", "<unk>")
  table = {word: i for i, word in enumerate((*marks, *words.split()))}
  made = tokenizers.Tokenizer(tokenizers.models.WordLevel(table, "<unk>"))
  made.normalizer = tokenizers.normalizers.Lowercase()
  made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  made.add_special_tokens(list(marks))
  made.post_processor = tokenizers.processors.TemplateProcessing(
    single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
  )
  # As in published files; both are to be lifted.
  made.enable_truncation(3)
  made.enable_padding(pad_id=1, pad_token="<pad>")
  made.save(str(path))
  return made


def folder(path, seed=0, **config):
  """Writes a small E5 of random numbers; the path as text."""
  facts = dict(
    model_type="xlm-roberta",
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    vocab_size=20,
    max_position_embeddings=14,
    pad_token_id=1,
    type_vocab_size=1,
  )
  facts |= config
  path.mkdir()
  tokenizer(path / "tokenizer.json")
  (path / "config.json").write_text(json.dumps(facts))
  rng = np.random.default_rng(seed)
  state = {"pooler.dense.bias": np.zeros(8, np.float32)}
  for name, shape in e5.network(facts, ()).shapes.items():
    names = [name]
    if name.startswith("blocks."):
      depth, *shape = shape
      names = [f"encoder.layer.{i}.{name[7:]}" for i in range(depth)]
    for each in names:
      state[each] = rng.normal(0, 0.5, shape).astype(np.float32)
  tensors.save(path / "model.safetensors", state, {})
  return str(path)
