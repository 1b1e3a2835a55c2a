"""Which clips of a source are shown, and in which order."""

from collections.abc import Mapping
import functools
import hashlib
from typing import Any

import numpy as np

from vidgan_jax.data import oplang
from vidgan_jax.data import signals

_READ = 2**26  # bytes, for a fingerprint


def shown(seed: int, n: int, positions: np.ndarray) -> np.ndarray:
  """Which clip is shown at each position of the endless stream of clips.

  Position p is slot p % n of epoch p // n, and each epoch is a permutation of
  its own: every clip once. It depends on nothing but the arguments, so any
  process can ask for its part, from any step on.

  Args:
    seed: seed of the run.
    n: clips in the data set.
    positions: integers >= 0, any shape.

  Returns:
    Indices in [0, n), int64, of the same shape.
  """
  positions = np.asarray(positions, np.int64)
  epochs, slots = np.divmod(positions, n)
  out = np.empty_like(positions)
  for epoch in np.unique(epochs):
    here = epochs == epoch
    out[here] = _permutation(seed, n, int(epoch))[slots[here]]
  return out


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, n: int, epoch: int) -> np.ndarray:
  return np.random.default_rng([seed, epoch]).permutation(n)


def usable(
  source: Any, ops: list[oplang.Op], name: str
) -> tuple[np.ndarray, int]:
  """Indices of clips long enough for the ops, as far as the source knows.

  A source may say how many frames its clips have in `lengths`, (N,) integers;
  where it does not, all clips are kept and short ones show when read.

  Returns:
    (indices, number of clips left out).

  Raises:
    DataError: no clip is left.
  """
  n, lengths = len(source), getattr(source, "lengths", None)
  if not n:
    raise signals.DataError(no_clip(name, 0, None, ()))
  if lengths is None:
    return np.arange(n), 0
  index = np.flatnonzero(np.asarray(lengths) >= oplang.min_frames(ops))
  if not len(index):
    raise signals.DataError(no_clip(name, n, oplang.selection(ops), lengths))
  return index, n - len(index)


def no_clip(name: str, n: int, chosen: oplang.Op | None, lengths: Any) -> str:
  """What to say of a source of which no clip is left."""
  if not n:
    return f"{name} is empty: was it prepared from the right folder?"
  return (
    f"{name} has no clip to use: of its {n} clips the longest has "
    f"{max(lengths)} frames, and {oplang.show(chosen)} needs "
    f"{oplang.span(chosen)}. Ask for fewer frames or a smaller stride or span, "
    "or prepare longer clips."
  )


def fingerprint(source: Any) -> dict[str, Any]:
  """By what a run that goes on knows its clips again, as JSON values.

  Up to 256 clips are read, and no more than take `_READ` bytes; they are spread
  over the source, and are all of a small one.

  Returns:
    Their number, and a digest of each signal by its name.
  """
  digests, left = {}, _READ
  indices = np.unique(np.linspace(0, len(source) - 1, 256).astype(int))
  for index in np.random.default_rng(0).permutation(indices):
    if left < 0:
      break
    try:
      example = source.read([int(index)])[0]
    except Exception as error:  # whatever a source may raise
      example = {"damaged": str(type(error))}
    for signal, value in example.items():
      value = np.asarray(value)
      sha = digests.setdefault(signal, hashlib.sha256())
      sha.update(f"{value.dtype.str} {value.shape}:".encode())
      if value.dtype.hasobject:  # encoded frames, texts
        for item in value.ravel():
          item = item if isinstance(item, bytes) else str(item).encode()
          sha.update(f"{len(item)}:".encode() + item)
          left -= len(item)
      else:
        sha.update(value.tobytes())
        left -= value.nbytes
  digests = {name: sha.hexdigest()[:16] for name, sha in digests.items()}
  return {"clips": len(source)} | digests


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
  """In words, in what two fingerprints differ; '' if in nothing."""
  changed = [k for k in now | before if before.get(k) != now.get(k)]
  if "clips" in changed:
    return f"it had {before.get('clips')} clips, now it has {now['clips']}"
  return f"the {', '.join(changed)} of its clips changed" if changed else ""


def say_dropped(name: str, dropped: int, n: int, chosen: oplang.Op) -> str:
  """One line on clips that are too short."""
  return (
    f"{name}: {dropped} of {n} clips are shorter than the "
    f"{oplang.span(chosen)} frames of {oplang.show(chosen)} and left out"
  )


def check_label(
  example: signals.Example, num_classes: int, clip: str, name: str
) -> None:
  """Raises DataError if the label is none of the classes."""
  label = example.get("label")
  if label is not None and num_classes and not 0 <= label < num_classes:
    raise signals.DataError(
      f"The label of {clip} of {name} is {label}, out of range: its "
      f"{num_classes} classes are numbered 0 to {num_classes - 1}. Mend the "
      "labels and prepare the data set again."
    )


def reason(error: Exception) -> str:
  """An exception in one line."""
  text = " ".join(str(error).split()) or "no reason given"
  if not isinstance(error, signals.DataError):
    text = f"{type(error).__name__}: {text}"
  return text[:300]
