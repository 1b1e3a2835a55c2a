"""Captions as numbers: tokens to learn from, or vectors of a frozen network.

`config.data.text` names an encoder; the source then gives a signal beside
`caption`:

  words, bytes         `text`, the words or the bytes
  PATH/tokenizer.json  `text`, the tokens of a public vocabulary
  embed:FOLDER         `text_vectors`, a vector by a network, see nets/texts.py
  embed:FILE           `text_vectors`, those of a file of safetensors with a
                       tensor (n,) or (L, n) for each caption, named by it

The vocabulary, and the statistics of vectors, are those of the captions that
are trained on. They go into the checkpoint, so that a trained generator reads
texts without them; of a user's files the checkpoint has the names and digests.
"""

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import difflib
import functools
import itertools
import re
from typing import Any
import unicodedata

import numpy as np

from vidgan_jax import errors
from vidgan_jax import rooms
from vidgan_jax.data import signals
from vidgan_jax.nets import texts as texts_lib
from vidgan_jax.store import tensors as tensors_lib

KINDS = ("words", "bytes")
EMBED = "embed:"  # What stands before the path of vectors.
CAPTIONS = 4096  # Most that are read for the vocabulary, or the statistics.
KEPT = 65536  # Most captions whose vectors are kept in memory.
WORDS = 4095  # Most words of a vocabulary; the rarest are left out.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoder:
  """Text -> tokens from 1 on, 0 behind the last.

  Attributes:
    kind: 'words', 'bytes' or the path of a tokenizer.json.
    length: tokens of the longest text.
    words: the vocabulary; token i + 1 is word i. Empty for bytes.
    digests: name -> sha256 of the files.
    signal: that the clips get.
    shape: of the signal.
  """

  kind: str
  length: int
  words: Sequence[str] = ()
  digests: Mapping[str, str] = dataclasses.field(default_factory=dict)

  signal = "text"

  @property
  def shape(self) -> tuple[int, ...]:
    return (self.length,)

  @functools.cached_property
  def _token(self) -> dict[str, int]:
    return {word: i for i, word in enumerate(self.words, 1)}

  def tokens(self, text: str) -> np.ndarray:
    """(length,) int32 of any text: what is unknown or too much is left out."""
    parts = self._split(text)
    if self.kind == "bytes":
      tokens = [byte + 1 for byte in parts]
    else:
      tokens = [self._token[word] for word in parts if word in self._token]
    out = np.zeros(self.length, np.int32)
    out[: len(tokens)] = tokens[: self.length]
    return out

  def encode(self, texts: Sequence[str]) -> np.ndarray:
    """(N, length) int32: `tokens` of each."""
    return np.stack([self.tokens(text) for text in texts])

  def moved(self, path: str) -> "Encoder":
    """The same, its files elsewhere: `path` is a tokenizer.json or its folder.

    Raises:
      UserError: it has no files.
    """
    if self.kind in KINDS:
      raise errors.UserError(
        f"--text-weights {path}: this run has learnt {self.kind} of its own "
        "and needs no files. Leave it out."
      )
    path = path if path.endswith(".json") else f"{path}/tokenizer.json"
    return dataclasses.replace(self, kind=path)

  def _split(self, text):
    return split(text, self.kind, *self.digests.values())

  def check(self, text: str, anyway: bool = False) -> None:
    """Refuses a text that `tokens` does not hold as it is.

    Args:
      text: what a user asks for.
      anyway: unknown words are allowed, as long as there are others.

    Raises:
      UserError: the text is empty or too long, or has an unknown word.
    """
    parts = self._split(text)
    unit = "word" if self.kind in KINDS else "token"
    unknown = [w for w in parts if self.words and w not in self._token]
    if unknown and not anyway:
      near = difflib.get_close_matches(unknown[0], self.words, 1, 0.0)[0]
      raise errors.UserError(
        f"The {unit} {unknown[0]!r} of {text[:60]!r} is in no caption of the "
        f"training data; the nearest is {near!r}. There are {len(self.words)} "
        f"{unit}s: {', '.join(self.words[:60])}"
        f"{', ...' * (len(self.words) > 60)}. With --text-anyway unknown "
        f"{unit}s are left out."
      )
    if len(parts) == len(unknown):
      raise errors.UserError(
        f"The text {text!r} has no {unit} that is known: describe a clip."
      )
    if len(parts) - len(unknown) > self.length:
      raise errors.UserError(
        f"The text {text[:60]!r} has {len(parts)} "
        f"{self.kind if self.kind in KINDS else 'tokens'}; those of the "
        f"training data have at most {self.length}: say it shorter."
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frozen:
  """Text -> vectors, standardised over the captions that are trained on.

  Vectors of captions that are much alike lie close to one another, far from the
  origin. With mean m and deviation s of each number over the captions a model
  is given (v - m) / s; `condition.Condition.text` adds noise in training.

  Attributes:
    kind: 'embed:' and the path of a folder or a file.
    shape: (L, n).
    mean: n numbers.
    deviation: n numbers; 1 where all vectors are alike.
    digests: name -> sha256 of the files.
    signal: that the clips get.
  """

  kind: str
  shape: Sequence[int]
  mean: Sequence[float]
  deviation: Sequence[float]
  digests: Mapping[str, str]

  signal = "text_vectors"

  @functools.cached_property
  def _read(self) -> Any:
    return _reader(self.kind, self.digests)

  @functools.cached_property
  def _kept(self) -> dict[str, np.ndarray]:
    return {}

  def encode(self, texts: Sequence[str]) -> np.ndarray:
    """(N, L, n) float32: zeros behind a text's last, and of an empty one."""
    texts = list(map(_plain, texts))
    made = dict.fromkeys(t for t in texts if t and t not in self._kept)
    if made:
      made = dict(zip(made, self._read(list(made))))
    if len(self._kept) < KEPT:
      self._kept.update(made)
    out = np.zeros((len(texts), *self.shape), np.float32)
    for row, text in zip(out, texts):
      if text:
        rows = made[text] if text in made else self._kept[text]
        rows = rows[: len(row)] - np.float32(self.mean)
        rows /= np.float32(self.deviation)
        # Zeros stand for no vector; that of a caption may be the mean.
        rows[~rows.any(-1)] = np.finfo(np.float32).eps
        row[: len(rows)] = rows
    return out

  def moved(self, path: str) -> "Frozen":
    """The same, its folder or file elsewhere."""
    return dataclasses.replace(self, kind=f"{EMBED}{path}")

  def check(self, text: str, anyway: bool = False) -> None:
    """Refuses a text that is empty, too long, or not in the file.

    Args:
      text: what a user asks for.
      anyway: of no use here: there are no unknown words.
    """
    del anyway
    if not _plain(text):
      raise errors.UserError(f"The text {text!r} is empty: describe a clip.")
    self._read.check(_plain(text))


class Table:
  """Vectors that a file has for each caption.

  Attributes:
    digests: name of the file -> sha256.
    length: most vectors of a caption.
  """

  def __init__(self, path: str, known: Mapping[str, str]):
    """Reads a file.

    Args:
      path: of safetensors, see `texts.find`.
      known: name -> sha256 of the file of a run.

    Raises:
      UserError: it is not there, damaged or another one, or holds no vectors.
    """
    self._path = texts_lib.find(path)
    self.digests = texts_lib.digest(self._path, known)
    arrays, _ = tensors_lib.load(self._path)
    self._rows = {
      _plain(name): np.atleast_2d(value).astype(np.float32)
      for name, value in arrays.items()
    }
    widths = {row.shape[1:] for row in self._rows.values()}
    finite = all(np.isfinite(row).all() for row in self._rows.values())
    if len(widths) != 1 or len(*widths) != 1 or not finite:
      raise errors.UserError(
        f"{self._path} should hold a tensor (n,) or (L, n) of finite numbers "
        "for each caption, named by it, with one n for all. It has "
        + (
          f"tensors of {len(widths)} kinds."
          if finite
          else "numbers that are not finite."
        )
      )
    self.length = max(map(len, self._rows.values()))

  def check(self, text: str) -> None:
    """Refuses a text that the file does not have."""
    self([text])

  def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
    """(l, n) float32 of each text."""
    missing = [text for text in texts if text not in self._rows]
    if missing:
      near = difflib.get_close_matches(missing[0], self._rows, 1, 0.0)[0]
      raise errors.UserError(
        f"{self._path} has vectors of {len(self._rows)} captions, but not of "
        f"{len(missing)} of {len(texts)} that are asked for, as "
        f"{missing[0][:60]!r}; the nearest is {near[:60]!r}. Write the file "
        "for all captions; a folder with a text network reads any."
      )
    return [self._rows[text] for text in texts]


def split(text: str, kind: str, sha256: str = "") -> Sequence[Any]:
  """A text in its tokens.

  Args:
    text: any.
    kind: 'words': in lower case; 'bytes': of UTF-8, in lower case; or the path
      of a tokenizer.json, without the marks of start and end that it adds.
    sha256: of that file; '': any.
  """
  text = unicodedata.normalize("NFC", text)
  if kind == "words":
    return re.findall(r"\w+", text.lower())
  if kind == "bytes":
    return text.lower().encode()
  read = texts_lib.tokenizer(kind, sha256)
  return read.encode(text, add_special_tokens=False).tokens


def restore(fields: Mapping[str, Any]) -> Encoder | Frozen:
  """The inverse of `dataclasses.asdict`; opens no file."""
  frozen = fields["kind"].startswith(EMBED)
  return (Frozen if frozen else Encoder)(**fields)


def _plain(text: str) -> str:
  return unicodedata.normalize("NFC", text).strip()


def _reader(kind: str, known: Mapping[str, str]) -> Any:
  """What makes the vectors, of a folder or a file."""
  path = kind.removeprefix(EMBED)
  read = texts_lib.Folder if texts_lib.find(path).is_dir() else Table
  return read(path, known)


def learn(captions: Iterable[str], kind: str) -> Encoder | Frozen:
  """The encoder of the captions that are trained on.

  Args:
    captions: texts; empty ones say nothing and are passed over.
    kind: `config.data.text`, see above.

  Raises:
    DataError: there is no caption, or all are the same.
    UserError: a file that `kind` names is not there, or does not read them.
  """
  if not kind.startswith(EMBED) and not kind.endswith(".json"):
    rooms.check_name(kind, KINDS, "config.data.text")
  captions = [text for text in captions if text.strip()]
  if len(set(map(_plain, captions))) < 2:
    raise signals.DataError(
      f"config.data.text is {kind!r}, but "
      + (
        f"every clip has the caption {captions[0]!r}: a text says nothing then"
        if captions
        else "no clip has a caption"
      )
      + ". Give captions in the table of `vidgan prepare --metadata`, or set "
      "config.data.text=''."
    )
  if kind.startswith(EMBED):
    return _freeze(list(dict.fromkeys(map(_plain, captions))), kind)
  digests = {}
  if kind not in KINDS:
    digests = texts_lib.digest(texts_lib.find(kind), {})
  parts = [split(text, kind, *digests.values()) for text in captions]
  length = max(map(len, parts))
  if kind == "bytes":
    return Encoder(kind=kind, length=length)
  counts = collections.Counter(itertools.chain.from_iterable(parts))
  often = sorted(counts, key=lambda word: (-counts[word], word))[:WORDS]
  return Encoder(kind=kind, length=length, words=tuple(often), digests=digests)


def _freeze(captions: Sequence[str], kind: str) -> Frozen:
  """The statistics of the vectors of different captions."""
  read = _reader(kind, {})
  values = read(captions)
  rows = np.concatenate(values).astype(np.float64)
  mean, deviation = rows.mean(0), rows.std(0)
  # What differs by rounding alone says nothing, and would be blown up.
  same = deviation <= 1e-6 * np.abs(rows).max()
  if same.all():
    raise signals.DataError(
      f"config.data.text is {kind!r}, which gives {len(captions)} different "
      "captions one and the same vector: a text says nothing then. Choose "
      "another encoder, or set config.data.text=''."
    )
  frozen = Frozen(
    kind=kind,
    shape=(read.length, len(mean)),
    mean=mean.tolist(),
    deviation=np.where(same, 1.0, deviation).tolist(),
    digests=read.digests,
  )
  # The network is not read again, nor are the captions computed again.
  vars(frozen).update(_read=read, _kept=dict(zip(captions, values)))
  return frozen


class Source:
  """A source whose clips have the encoder's signal as well."""

  def __init__(self, source: Any, encoder: Encoder | Frozen):
    self._source, self.text = source, encoder
    dtype = np.dtype(signals.SIGNALS[encoder.signal].dtype)
    self.spec = source.spec | {encoder.signal: (tuple(encoder.shape), dtype)}

  def __len__(self) -> int:
    return len(self._source)

  def __getattr__(self, name: str) -> Any:
    return getattr(self._source, name)

  def read(self, indices: Iterable[int]) -> list[signals.Example]:
    """The clips; where the caption is empty, the signal is 0."""
    examples = self._source.read(indices)
    values = self.text.encode([example["caption"] for example in examples])
    for example, value in zip(examples, values):
      example[self.text.signal] = value
    return examples


def encoder(source: Any) -> Encoder | Frozen | None:
  """That of a source's texts; None where no config asks for texts."""
  return source.text if isinstance(source, Source) else None


def wrap(source: Any, training: Any, kind: str) -> Source:
  """The source with the signal of an encoder.

  Args:
    source: of any split.
    training: that of the training split, whose captions make the vocabulary.
    kind: `config.data.text`, see above.
  """
  if "caption" not in source.spec:
    raise signals.DataError(
      f"config.data.text is {kind!r}, but the clips of this source have no "
      "captions. Choose a source that gives them, or set config.data.text=''."
    )
  number = np.linspace(0, len(training) - 1, min(len(training), CAPTIONS))
  captions = training.captions(np.unique(number.astype(int)))
  return Source(source, learn(captions, kind))
