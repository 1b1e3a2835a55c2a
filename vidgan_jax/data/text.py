"""Captions as numbers: the words, or the bytes, of what a clip shows.

`config.data.text` names an encoder; the source then gives the signal `text`
beside `caption`. The vocabulary is that of the captions that are trained on. It
goes into the checkpoint, so that a trained generator reads texts without them.
"""

import collections
from collections.abc import Iterable
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

KINDS = ("words", "bytes")
CAPTIONS = 4096  # Most that are read for the vocabulary.
WORDS = 4095  # Most words of a vocabulary; the rarest are left out.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoder:
  """Text -> tokens from 1 on, 0 behind the last.

  Attributes:
    kind: 'words' or 'bytes'.
    length: tokens of the longest text.
    words: the vocabulary; token i + 1 is word i. Empty for bytes.
  """

  kind: str
  length: int
  words: Sequence[str] = ()

  @functools.cached_property
  def _token(self) -> dict[str, int]:
    return {word: i for i, word in enumerate(self.words, 1)}

  def tokens(self, text: str) -> np.ndarray:
    """(length,) int32 of any text: what is unknown or too much is left out."""
    parts = split(text, self.kind)
    if self.kind == "bytes":
      tokens = [byte + 1 for byte in parts]
    else:
      tokens = [self._token[word] for word in parts if word in self._token]
    out = np.zeros(self.length, np.int32)
    out[: len(tokens)] = tokens[: self.length]
    return out

  def check(self, text: str, anyway: bool = False) -> None:
    """Refuses a text that `tokens` does not hold as it is.

    Args:
      text: what a user asks for.
      anyway: unknown words are allowed, as long as there are others.

    Raises:
      UserError: the text is empty or too long, or has an unknown word.
    """
    parts = split(text, self.kind)
    unknown = [w for w in parts if self.words and w not in self._token]
    if unknown and not anyway:
      near = difflib.get_close_matches(unknown[0], self.words, 1, 0.0)[0]
      raise errors.UserError(
        f"The word {unknown[0]!r} of {text[:60]!r} is in no caption of the "
        f"training data; the nearest is {near!r}. There are {len(self.words)} "
        f"words: {', '.join(self.words[:60])}"
        f"{', ...' * (len(self.words) > 60)}. With --text-anyway unknown words "
        "are left out."
      )
    if len(parts) == len(unknown):
      raise errors.UserError(
        f"The text {text!r} has no word that is known: describe a clip."
      )
    if len(parts) - len(unknown) > self.length:
      raise errors.UserError(
        f"The text {text[:60]!r} has {len(parts)} {self.kind}; those of the "
        f"training data have at most {self.length}: say it shorter."
      )


def split(text: str, kind: str) -> Sequence[Any]:
  """A text in its tokens: words in lower case, or the bytes of UTF-8."""
  text = unicodedata.normalize("NFC", text).lower()
  return re.findall(r"\w+", text) if kind == "words" else text.encode()


def learn(captions: Iterable[str], kind: str) -> Encoder:
  """The encoder of the captions that are trained on.

  Args:
    captions: texts; empty ones say nothing and are passed over.
    kind: one of `KINDS`.

  Raises:
    DataError: there is no caption, or all are the same.
  """
  rooms.check_name(kind, KINDS, "config.data.text")
  captions = [text for text in captions if text.strip()]
  if len(set(captions)) < 2:
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
  parts = [split(text, kind) for text in captions]
  length = max(map(len, parts))
  if kind == "bytes":
    return Encoder(kind=kind, length=length)
  counts = collections.Counter(itertools.chain.from_iterable(parts))
  often = sorted(counts, key=lambda word: (-counts[word], word))[:WORDS]
  return Encoder(kind=kind, length=length, words=tuple(often))


class Source:
  """A source whose clips have the signal `text` as well."""

  def __init__(self, source: Any, encoder: Encoder):
    self._source, self.text = source, encoder
    self.spec = source.spec | {"text": ((encoder.length,), np.dtype(np.int32))}

  def __len__(self) -> int:
    return len(self._source)

  def __getattr__(self, name: str) -> Any:
    return getattr(self._source, name)

  def read(self, indices: Iterable[int]) -> list[signals.Example]:
    """The clips; where the caption is empty, all tokens are 0."""
    examples = self._source.read(indices)
    for example in examples:
      example["text"] = self.text.tokens(example["caption"])
    return examples


def encoder(source: Any) -> Encoder | None:
  """That of a source's texts; None where no config asks for texts."""
  return source.text if isinstance(source, Source) else None


def wrap(source: Any, training: Any, kind: str) -> Source:
  """The source with the signal `text`.

  Args:
    source: of any split.
    training: that of the training split, whose captions make the vocabulary.
    kind: one of `KINDS`.
  """
  if "caption" not in source.spec:
    raise signals.DataError(
      f"config.data.text is {kind!r}, but the clips of this source have no "
      "captions. Choose a source that gives them, or set config.data.text=''."
    )
  number = np.linspace(0, len(training) - 1, min(len(training), CAPTIONS))
  captions = training.captions(np.unique(number.astype(int)))
  return Source(source, learn(captions, kind))
