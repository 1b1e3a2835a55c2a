"""Texts as numbers, by tokenizers and networks of a user's own files.

A folder as Hugging Face lays it out is one encoder: `config.json` says which
network and of what size, `tokenizer.json` how texts become tokens, and
`model.safetensors` holds the weights. Nothing is downloaded, and no pickle is
read. Folders and files are taken from where a config names them, or from below
that of the public weights (`store.folder`).
"""

from collections.abc import Mapping
from collections.abc import Sequence
import functools
import json
import logging
import os
import pathlib
from typing import Any

import jax
import numpy as np

from vidgan_jax import errors
from vidgan_jax.nets import clip_text
from vidgan_jax.nets import e5
from vidgan_jax.nets import store
from vidgan_jax.nets import t5_encoder
from vidgan_jax.store import files
from vidgan_jax.store import tensors as tensors_lib

try:
  import tokenizers
except ImportError:  # It is an extra: `tokenizer` says so.
  tokenizers = None

NETWORKS = (clip_text, e5, t5_encoder)
BATCH = 32  # Texts that are computed at a time.
_PLACES = 16  # Tokens of a batch are a multiple: few shapes are compiled.
_LOG = logging.getLogger(__name__)


def find(path: str | os.PathLike) -> pathlib.Path:
  """Where a file or folder is: as it is named, or below `store.folder()`.

  Raises:
    UserError: it is in neither place.
  """
  for place in (pathlib.Path(path).expanduser(), store.folder() / path):
    if place.exists():
      return place
  raise errors.UserError(
    f"Texts are encoded by {path}, and there is no such file or folder, nor "
    f"below {store.folder()} ($VIDGAN_WEIGHTS). Put it there, correct "
    "config.data.text, or with `vidgan generate` say where it is: "
    "--text-weights."
  )


def digest(path: pathlib.Path, known: Mapping[str, str]) -> dict[str, str]:
  """The name of a file and its sha256.

  Args:
    path: of the file.
    known: name -> sha256 that a run has learnt with; without the name any will
      do.

  Raises:
    UserError: it is another file.
  """
  sha256 = files.digest(path)
  if known.get(path.name, sha256) != sha256:
    raise errors.UserError(
      f"{path} is not the file that this run has learnt with: its sha256 is "
      f"{sha256}, not {known[path.name]}. Bring that one back."
    )
  return {path.name: sha256}


@functools.lru_cache
def tokenizer(path: str | os.PathLike, sha256: str = "") -> Any:
  """A tokenizer that neither cuts nor fills texts.

  Args:
    path: of a tokenizer.json, see `find`.
    sha256: that it must have, or '' for any.

  Raises:
    UserError: it is not there, damaged or another one, or the library is
      missing.
  """
  path = find(path)
  digest(path, {path.name: sha256} if sha256 else {})
  return _open(path)


def _open(path):
  """The tokenizer of a file, as `tokenizer`, but not shared."""
  if tokenizers is None:
    raise errors.UserError(
      f"{path} is read by the library tokenizers, which is not installed: "
      "pip install tokenizers, which is the extra `text` of vidgan_jax."
    )
  try:
    out = tokenizers.Tokenizer.from_file(str(path))
  except Exception as e:  # The library raises nothing narrower.
    raise errors.UserError(
      f"{path} is not a tokenizer.json that the library tokenizers "
      f"{tokenizers.__version__} reads: {errors.brief(e)}."
    ) from e
  out.no_truncation()
  out.no_padding()
  return out


class Folder:
  """A text network with its tokenizer: texts -> vectors.

  Attributes:
    network: of `NETWORKS`.
    digests: name of each file -> sha256.
    length: vectors of a text, 1.
  """

  length = 1

  def __init__(self, path: str | os.PathLike, known: Mapping[str, str]):
    """Reads a folder.

    Args:
      path: see `find`.
      known: name -> sha256 of the files of a run.

    Raises:
      UserError: a file is missing, damaged or another one, or the network is
        of no kind that is here.
    """
    path = find(path)
    weights = [path / "model.safetensors"]
    if not weights[0].exists():  # Large ones are in several parts.
      weights = sorted(path.glob("model-*-of-*.safetensors")) or weights
    wanted = [path / "config.json", path / "tokenizer.json", *weights]
    missing = [file.name for file in wanted if not file.is_file()]
    if missing:
      raise errors.UserError(
        f"{path} has no {' and no '.join(missing)}. A folder with a text "
        "network holds config.json, tokenizer.json and model.safetensors, as "
        "`save_pretrained` of transformers writes them; pickles as "
        "pytorch_model.bin are not read."
      )
    self.digests = {}
    for file in wanted:
      self.digests |= digest(file, known)
    self._tokenizer = _open(path / "tokenizer.json")
    self.network, self._module, params = _read(wanted[0], weights)
    self._tokenizer.enable_truncation(self.network.places)
    marks = self._tokenizer.encode("a").special_tokens_mask
    most = self._tokenizer.get_vocab_size()
    if not marks[-1] or most > self.network.vocabulary:
      raise errors.UserError(
        f"{path / 'tokenizer.json'} is not that of the network: "
        + (
          f"it has {most} tokens, and config.json {self.network.vocabulary}."
          if marks[-1]
          else "it ends no text with a token of its own."
        )
      )
    self._warned = False  # Of texts that are cut.
    self._params = jax.device_put(params)
    self._apply = jax.jit(
      lambda params, ids, words: self.network.apply(
        {"params": params}, ids, words
      )["features"]
    )

  def check(self, text: str) -> None:
    """Refuses a text that the network would not read to its end."""
    code = self._encode(text)
    if code.overflowing:
      parts = (code, *code.overflowing)
      number = sum(part.special_tokens_mask.count(0) for part in parts)
      raise errors.UserError(
        f"The text {text[:60]!r} has {number} tokens; the network reads "
        f"{code.special_tokens_mask.count(0)}: say it shorter."
      )

  def ids(self, text: str) -> list[int]:
    """The tokens of a text that the network is shown, at most its places."""
    return self._encode(text).ids

  def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
    """(1, n) float32 of each text."""
    codes = [self._encode(text) for text in texts]
    cut = sum(bool(code.overflowing) for code in codes)
    if cut and not self._warned:
      self._warned = True
      _LOG.warning(
        "%d of %d texts have more than the %d tokens that the network reads: "
        "they are cut.",
        *(cut, len(texts), self.network.places),
      )
    out = []
    for i in range(0, len(codes), BATCH):
      ids = [code.ids for code in codes[i : i + BATCH]]
      longest = -(-max(map(len, ids)) // _PLACES) * _PLACES
      # Rows to a power of two as well; those that nobody wants have one token.
      shape = 1 << (len(ids) - 1).bit_length(), longest
      shape = shape[0], min(longest, self.network.places)
      tokens, words = np.zeros(shape, np.int32), np.zeros(shape, bool)
      words[:, 0] = True
      for row, of_text in enumerate(ids):
        tokens[row, : len(of_text)] = of_text
        words[row, : len(of_text)] = True
      features = np.asarray(self._apply(self._params, tokens, words))
      out += [row[None] for row in features[: len(ids)]]
    return out

  def _encode(self, text):
    return self._tokenizer.encode(self._module.PREFIX + text)


def _read(config, weights):
  """Network, its module and parameters of the files of a folder."""
  try:
    facts = json.loads(config.read_text())
    kind = facts["model_type"]
    [module] = [m for m in NETWORKS if kind in m.TYPES] or [None]
    if module is None:
      known = ", ".join(name for m in NETWORKS for name in m.TYPES)
      raise ValueError(f"the network is of the type {kind!r}; read are {known}")
    tensors = {}
    for file in weights:
      tensors |= tensors_lib.load(file, mapped=True)[0]
    network = module.network(facts, tensors.keys())
    return network, module, module.convert(tensors, network)
  except (ValueError, KeyError, TypeError, AttributeError) as e:
    # What JSON can hold in place of what is expected, or another's weights.
    why = f"it has no {e}" if isinstance(e, KeyError) else errors.brief(e, 500)
    raise errors.UserError(f"{config}: {why}.") from e
