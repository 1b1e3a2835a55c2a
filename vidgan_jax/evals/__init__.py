"""Evaluators, one file each, and what they yield: `Value`."""

from collections.abc import Mapping
import dataclasses
import hashlib
import json
import math
from typing import Any

# Where clips and networks come from; what they are stands beside, as digests.
_WHERE = ("generated", "files", "directory", "data_dir", "fitted")


@dataclasses.dataclass(frozen=True)
class Value:
  """A number and what one must know to put it beside another.

  Attributes:
    value: the number; NaN where it could not be computed, `note` says why.
    low: lower end of its 95 % interval, or None.
    high: its upper end.
    num: clips that it rests on: a number, or {'real': n, 'generated': m}.
    protocol: how it was measured, as plain JSON: values of different protocols
      must not be compared.
    note: what else the reader has to know, one sentence.
  """

  value: float
  low: float | None = None
  high: float | None = None
  num: Any = None
  protocol: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  note: str = ""

  def __float__(self) -> float:
    return float(self.value)

  @property
  def hash(self) -> str:
    """Eight digits that are the same where the protocol is; '' without one.

    Whose clips were measured is no part of how, nor where the real ones lie.
    """
    same = _without(self.protocol, _WHERE)
    text = json.dumps(same, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8] * bool(same)

  def record(self) -> dict[str, Any]:
    """As it stands in a file of results."""
    interval = [self.low, self.high]
    return {
      "value": float(self.value),
      "interval": None if None in interval else [*map(float, interval)],
      "num": self.num,
      "hash": self.hash,
      "protocol": dict(self.protocol),
      "note": self.note,
    }


def _without(facts: Any, keys: tuple[str, ...]) -> Any:
  """Facts without some keys, at any depth."""
  if not isinstance(facts, Mapping):
    return facts
  return {k: _without(v, keys) for k, v in facts.items() if k not in keys}


def missing(reason: object, protocol: Mapping[str, Any] | None = None) -> Value:
  """The value of what cannot be computed here, with the reason."""
  return Value(math.nan, protocol=protocol or {}, note=str(reason))
