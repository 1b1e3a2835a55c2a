"""Evaluators, one file each; what they are given and what they yield.

An evaluator is a class `Evaluator` whose `run(sampler, reference)` yields
(name, `Value`), and (title, `Exhibit`) of what is worth a look.
"""

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import hashlib
import json
import math
from typing import Any

# Facts of a protocol that say where clips and networks come from. What they are
# is said beside them, by digests.
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
    unit: what it is measured in; '' for a number without one.
    better: 'lower' or 'higher'; '' where neither is, as of a count, or of what
      is best like that of real clips.
  """

  value: float
  low: float | None = None
  high: float | None = None
  num: Any = None
  protocol: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  note: str = ""
  unit: str = ""
  better: str = ""

  def __post_init__(self):
    if self.better not in ("lower", "higher", ""):
      raise ValueError(
        f"better is {self.better!r}: say 'lower', 'higher' or, for neither, ''."
      )

  def __float__(self) -> float:
    return float(self.value)

  @property
  def hash(self) -> str:
    """Eight digits that are the same where the protocol is; '' without one.

    The hash leaves out whose clips these are and where the real ones are
    stored.
    """
    same = _without(self.protocol, _WHERE)
    text = json.dumps(same, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8] * bool(same)

  def record(self) -> dict[str, Any]:
    """What a file of results holds of it."""
    interval = [self.low, self.high]
    return {
      "value": float(self.value),
      "interval": None if None in interval else [*map(float, interval)],
      "unit": self.unit,
      "better": self.better,
      "num": self.num,
      "hash": self.hash,
      "protocol": dict(self.protocol),
      "note": self.note,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
  """What the values of one evaluation have in common.

  Attributes:
    protocol: see `Value`.
    num: likewise.
    note: likewise.
  """

  protocol: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  num: Any = None
  note: str = ""

  def value(
    self,
    number: float,
    interval: tuple[float, float] | None,
    better: str,
    estimator: str = "",
    *,
    unit: str = "",
    note: str = "",
    reason: str = "too few clips",
    **facts: Any,
  ) -> Value:
    """A value of this evaluation.

    Args:
      number: NaN where there is none; `note` says why.
      interval: 95 %; None, or ends that are not finite, where there is none.
      better: see `Value`.
      estimator: how it was computed, for the protocol.
      unit: see `Value`.
      note: what is to be said beside the note of them all.
      reason: why there is no interval, if there is none.
      **facts: what the protocol says of this value alone.
    """
    low, high = interval or (None, None)
    if low is not None and not math.isfinite(low):
      low = high = None
    if estimator:
      facts["estimator"] = estimator
    # Where there is no number the note says why, and nobody asks for more.
    without = low is None and not math.isnan(number)
    notes = (self.note, note, f"no interval: {reason}" * without)
    return Value(
      float(number),
      low,
      high,
      num=self.num,
      protocol={**self.protocol, **facts},
      note="; ".join(filter(None, notes)),
      unit=unit,
      better=better,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exhibit:
  """Clips worth a look, for the page of an evaluation.

  Attributes:
    clips: (N, T, H, W, 3) uint8, or a function that makes them: where no page
      is written nobody pays for them.
    beside: real clips, one to be shown under each, likewise; None: none.
    scores: (N,), a number for each clip; None: the first clips are shown. With
      `beside` the best are shown, else the best and the worst.
    score: the name of the scores.
    better: 'lower' or 'higher', of the scores.
    captions: of a clip and of the one under it.
    note: a sentence under the title.
    text: a table of the same clips, for the log.
    fps: frames a second of the moving picture.
  """

  clips: Any = None
  beside: Any = None
  scores: Sequence[float] | None = None
  score: str = "score"
  better: str = "lower"
  captions: tuple[str, str] = ("generated", "reference")
  note: str = ""
  text: str = ""
  fps: float = 8.0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
  """Real clips, which those of a sampler are compared with.

  Clips of files that another system has generated are one as well: they take
  the place of the sampler.

  Attributes:
    clips: has `len` and `read(indices)`, a list of {'video': (T, H, W, 3)
      uint8, ...}; of a run it is a `data.reference_lib.Clips`.
    train: the clips that were trained on, likewise; None: they are not known.
    card: what the clips are, plain JSON, for protocols.
    fingerprint: a text that changes with any of the clips.
    cache: folder for what is computed of them; None: nothing is kept.
    task: `tasks.Task` of the run, or None.
    world: the options of a procedural source, or None.
  """

  clips: Any
  train: "Reference | None" = None
  card: Mapping[str, Any] | None = None
  fingerprint: str = ""
  cache: Any = None
  task: Any = None
  world: Mapping[str, Any] | None = None
  _computed: dict = dataclasses.field(
    default_factory=dict, init=False, repr=False
  )

  def __len__(self) -> int:
    return len(self.clips)

  def read(self, indices: Sequence[int]) -> list[dict[str, Any]]:
    """The clips of these numbers."""
    return self.clips.read(indices)

  def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
    """What `make` computes of the clips, which stay as they are: only once.

    Args:
      key: names what is computed, with all options that it depends on.
      make: computes it.
    """
    if key not in self._computed:
      self._computed[key] = make()
    return self._computed[key]


NOT_APART = "not told apart"  # Of two figures, in tables that compare.


def told_apart(ours: Value, theirs: Value) -> bool:
  """Whether two figures differ by more than their intervals leave open.

  The interval of a difference d = a - b of independent figures is
  [d - |(a - a_low, b_high - b)|, d + |(a_high - a, b - b_low)|], in the
  Euclidean norm (Zou and Donner 2008, eq. 3). Figures of one seed are not
  independent: it is then wider than it must be. Without intervals nothing
  says that they do not differ.
  """
  ends = (ours.low, ours.high, theirs.low, theirs.high)
  if None in ends:
    return True
  gap = float(ours) - float(theirs)
  down = math.hypot(float(ours) - ours.low, theirs.high - float(theirs))
  up = math.hypot(ours.high - float(ours), float(theirs) - theirs.low)
  return not gap - down <= 0 <= gap + up


def _without(facts: Any, keys: tuple[str, ...]) -> Any:
  """The facts without some keys, at any depth."""
  if not isinstance(facts, Mapping):
    return facts
  return {k: _without(v, keys) for k, v in facts.items() if k not in keys}


def missing(reason: object, protocol: Mapping[str, Any] | None = None) -> Value:
  """The value of what cannot be computed here, with the reason."""
  return Value(math.nan, protocol=protocol or {}, note=str(reason))
