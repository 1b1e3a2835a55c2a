"""CLIP's text network, E5 and T5 beside transformers; folders of a user's."""

import json
import random
import shutil

import encoders
import numpy as np
import pytest

from vidgan_jax import errors
from vidgan_jax.nets import clip_text
from vidgan_jax.nets import e5
from vidgan_jax.nets import t5_encoder
from vidgan_jax.nets import texts
from vidgan_jax.store import tensors

CLIP = dict(
  vocab_size=50,
  hidden_size=24,
  intermediate_size=40,
  num_hidden_layers=2,
  num_attention_heads=3,
  max_position_embeddings=20,
  projection_dim=10,
  bos_token_id=48,
  eos_token_id=49,
)
BERT = {k: v for k, v in CLIP.items() if k[:3] not in ("bos", "eos", "pro")}
T5 = dict(vocab_size=50, d_model=24, d_kv=5, d_ff=40, num_layers=2, num_heads=3)


# ---------------------------------------------------------------------- parity


@pytest.mark.parametrize(
  "module, name, options, length",
  [
    (clip_text, "CLIPTextModelWithProjection", CLIP, 20),
    (clip_text, "CLIPTextModel", CLIP | {"hidden_act": "gelu"}, 9),
    (e5, "BertModel", BERT | {"layer_norm_eps": 0.01}, 20),
    (e5, "XLMRobertaModel", BERT | {"pad_token_id": 3}, 16),
    (t5_encoder, "T5EncoderModel", T5, 150),
    (
      t5_encoder,
      "MT5EncoderModel",
      T5 | {"feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 0.01},
      9,
    ),
  ],
)
def test_parity(tmp_path, module, name, options, length):
  """With random weights, from files as transformers writes them."""
  reason = "transformers and PyTorch are not installed"
  torch = pytest.importorskip("torch", reason=reason)
  transformers = pytest.importorskip("transformers", reason=reason)
  torch.manual_seed(0)
  cls = getattr(transformers, name)
  model = cls(cls.config_class(**options)).eval()
  with torch.no_grad():
    for value in model.parameters():
      # Biases and the scales of norms too: each is seen to be read.
      value.add_(0.2 * torch.randn(value.shape))
  model.save_pretrained(tmp_path)
  facts = json.loads((tmp_path / "config.json").read_text())
  state, _ = tensors.load(tmp_path / "model.safetensors")
  assert facts["model_type"] in module.TYPES
  network = module.network(facts, state.keys())
  params = module.convert(state, network)

  rng = np.random.default_rng(0)
  ids = rng.integers(4, 48, (4, length))
  words = np.arange(length) < [[length], [length - 1], [3], [2]]
  ids[np.arange(4), words.sum(1) - 1] = 49  # The end, which CLIP looks for.
  got = network.apply({"params": params}, ids, words)
  with torch.no_grad():
    want = model(torch.from_numpy(ids), torch.from_numpy(words).long())
  hidden = want.last_hidden_state.numpy()
  if module is clip_text:
    features = want["text_embeds" if "text_embeds" in want else "pooler_output"]
    features = features.numpy()
  else:
    features = (hidden * words[..., None]).sum(1) / words.sum(1)[:, None]
  if module is e5:
    features /= np.linalg.norm(features, axis=1, keepdims=True)
  for ours, theirs in (
    (np.asarray(got["tokens"])[words], hidden[words]),
    (np.asarray(got["features"]), features),
  ):
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * scale)


def test_the_text_half_of_a_whole_clip():
  """Its sizes stand in `text_config`, its pictures' half is passed over."""
  config = {"model_type": "clip", "text_config": CLIP, "projection_dim": 6}
  network = clip_text.network(config, ["text_projection.weight"])
  assert (network.width, network.projection, network.quick) == (24, 6, True)
  state = {
    f"text_model.{name}": np.zeros(shape, np.float32)
    for name, shape in network.shapes.items()
    if not name.startswith(("blocks.", "text_projection"))
  }
  for name, (depth, *shape) in network.shapes.items():
    if name.startswith("blocks."):
      for i in range(depth):
        at = f"text_model.encoder.layers.{i}.{name[7:]}"
        state[at] = np.full(shape, i, np.float32)
  state |= {
    "text_projection.weight": np.zeros((6, 24), np.float32),
    "text_model.embeddings.position_ids": np.arange(20)[None],
    "vision_model.post_layernorm.bias": np.zeros(3, np.float32),
    "logit_scale": np.float32(4.6),
  }
  params = clip_text.convert(state, network)
  assert params.keys() == network.shapes.keys()
  assert params["blocks.mlp.fc1.bias"][:, 0].tolist() == [0, 1]
  with pytest.raises(ValueError, match="CLIP text.*unexpected tensor 'other'"):
    clip_text.convert(state | {"other": np.zeros(1)}, network)


# ------------------------------------------------------------------ tokenizers


def strings(number):
  """Captions, words of no caption, and what else a keyboard has."""
  draw = random.Random(0)
  letters = "abc ABC, .!?'-_\n\t0123 äéßñ ÅÇ 名前 🎈 \u0301\u00a0"
  words = encoders.WORDS.split()
  return [
    "".join(draw.choices(letters, k=draw.randrange(40)))
    if i % 3
    else " ".join(draw.choices(words, k=draw.randrange(20)))
    for i in range(number)
  ]


def bpe(word, ranks, table):
  """Sennrich et al. (2016): merge the pair that was learnt first, and again."""
  parts = list(word)
  while pairs := [p for p in zip(parts, parts[1:]) if p in ranks]:
    first = min(pairs, key=ranks.get)
    i = 0
    while i < len(parts) - 1:
      if (parts[i], parts[i + 1]) == first:
        parts[i : i + 2] = ["".join(first)]
      i += 1
  return [table[part] for part in parts]


def test_tokens_are_those_of_another_implementation(tmp_path):
  tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers")
  made = tokenizers.Tokenizer(tokenizers.models.BPE())
  # One piece a word, of bytes that are written as letters.
  made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False, use_regex=False
  )
  letters = tokenizers.pre_tokenizers.ByteLevel.alphabet()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=400, initial_alphabet=letters, show_progress=False
  )
  made.train_from_iterator(strings(300), trainer)
  path = tmp_path / "tokenizer.json"
  made.save(str(path))
  model = json.loads(path.read_text())["model"]
  ranks = {tuple(pair): i for i, pair in enumerate(model["merges"])}
  # GPT-2's letters of bytes: those that can be printed, then from 256 on.
  shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
  rest = [byte for byte in range(256) if byte not in shown]
  letter = {b: chr(b) for b in shown}
  letter |= {b: chr(256 + i) for i, b in enumerate(rest)}
  read = texts.tokenizer(path)
  for text in strings(1000):
    word = "".join(letter[byte] for byte in text.encode())
    assert read.encode(text).ids == bpe(word, ranks, model["vocab"]), text


def test_ids_of_a_folder_are_those_of_transformers(tmp_path):
  pytest.importorskip("tokenizers", reason="needs tokenizers")
  transformers = pytest.importorskip("transformers", reason="needs it")
  path = encoders.folder(tmp_path / "a")
  theirs = transformers.PreTrainedTokenizerFast(
    tokenizer_file=f"{path}/tokenizer.json", model_max_length=12
  )
  ours = texts.Folder(path, {})
  asked = strings(1000)
  want = theirs([f"query: {text}" for text in asked], truncation=True)
  assert [ours.ids(text) for text in asked] == want["input_ids"]


# --------------------------------------------------------------------- folders


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  pytest.importorskip("tokenizers", reason="needs tokenizers")
  return encoders.folder(tmp_path_factory.mktemp("encoder") / "e5")


def test_a_vector_is_the_same_in_any_company(made, caplog):
  folder = texts.Folder(made, {})
  asked = ["a red disc", "a blue square flies on black", "disc", "disc " * 20]
  together = folder(asked)
  assert "1 of 4 texts have more than the 12 tokens" in caplog.text
  assert [x.shape for x in together] == [(1, 8)] * 4
  for text, vector in zip(asked, together):
    np.testing.assert_allclose(folder([text])[0], vector, atol=1e-6)
    assert np.linalg.norm(vector) == pytest.approx(1)
  assert np.abs(together[0] - together[2]).max() > 0.01
  assert len(folder(["disc"] * 70)) == 70
  folder.check("a red disc")
  with pytest.raises(errors.UserError, match="has 22 tokens.*reads 10"):
    folder.check("disc " * 20)


def test_where_a_folder_is(made, tmp_path, monkeypatch):
  monkeypatch.setenv("VIDGAN_WEIGHTS", str(tmp_path))
  with pytest.raises(errors.UserError, match="no such file.*VIDGAN_WEIGHTS"):
    texts.Folder("e5-there", {})
  shutil.copytree(made, tmp_path / "e5-there")
  known = texts.Folder("e5-there", {}).digests
  assert sorted(known) == ["config.json", "model.safetensors", "tokenizer.json"]
  texts.Folder(made, known)
  other = encoders.folder(tmp_path / "other", seed=1)
  with pytest.raises(errors.UserError, match="not the file that this run has"):
    texts.Folder(other, known)
  # In several parts, as large networks are.
  parts, _ = tensors.load(tmp_path / "other/model.safetensors")
  (tmp_path / "other/model.safetensors").unlink()
  for i in range(2):
    half = {k: parts[k] for k in sorted(parts)[i::2]}
    name = f"model-0000{i + 1}-of-00002.safetensors"
    tensors.save(tmp_path / "other" / name, half, {})
  assert len(texts.Folder(other, {}).digests) == 4


@pytest.mark.parametrize(
  "config, match",
  [
    (dict(model_type="gpt2"), "type 'gpt2'; read are clip, clip_text_model"),
    (dict(hidden_act="silu"), "activation 'silu'; read are those with gelu"),
    (dict(num_hidden_layers=3), "has no tensor 'blocks.2"),
    (dict(hidden_size=6), r"of shape \(20, 8\), not \(20, 6\)"),
    (dict(hidden_size=None), "config.json: "),
    (dict(vocab_size=9), r"word_embeddings.weight' of shape \(20, 8\)"),
  ],
)
def test_configs_that_are_refused(made, tmp_path, config, match):
  path = shutil.copytree(made, tmp_path / "a")
  facts = json.loads((path / "config.json").read_text())
  (path / "config.json").write_text(json.dumps(facts | config))
  with pytest.raises(errors.UserError, match=match):
    texts.Folder(path, {})


def test_files_that_are_refused(made, tmp_path, monkeypatch):
  path = shutil.copytree(made, tmp_path / "a")
  encoders.tokenizer(path / "tokenizer.json", encoders.WORDS + " and more")
  texts.Folder(path, {})
  encoders.tokenizer(path / "tokenizer.json", " ".join(map(str, range(17))))
  with pytest.raises(errors.UserError, match="21 tokens, and config.json 20"):
    texts.Folder(path, {})
  bare = encoders.tokenizer(path / "tokenizer.json")
  bare.post_processor = None
  bare.save(str(path / "tokenizer.json"))
  with pytest.raises(errors.UserError, match="ends no text with a token"):
    texts.Folder(path, {})
  (path / "tokenizer.json").write_text("{}")
  with pytest.raises(errors.UserError, match="not a tokenizer.json that the"):
    texts.Folder(path, {})
  (path / "config.json").write_text("[")
  shutil.copy(f"{made}/tokenizer.json", path)
  with pytest.raises(errors.UserError, match="config.json: Expecting value"):
    texts.Folder(path, {})
  (path / "model.safetensors").unlink()
  with pytest.raises(errors.UserError, match="no model.safetensors.*pickles"):
    texts.Folder(path, {})
  monkeypatch.setattr(texts, "tokenizers", None)
  with pytest.raises(errors.UserError, match="pip install tokenizers"):
    texts.Folder(made, {})
