"""`oracle`: whether generated clips could be of the world of the sprites.

`evals/objects.py` reads the objects back from the pixels. How well it does on
real clips is reported beside what it says of generated ones.
"""

from collections.abc import Iterator
import dataclasses
import math
from typing import NamedTuple

import numpy as np

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax.data import sprites
from vidgan_jax.evals import objects
from vidgan_jax.measures import intervals

_RESAMPLES = 1000  # of the clips, for an interval
_BOOTSTRAP = f"bootstrap over clips, {_RESAMPLES} resamples"


class _Figure(NamedTuple):
  """A figure of clips.

  Attributes:
    number: NaN where no clip has one.
    interval: 95 %, or None.
    num: clips that it rests on; None for a count.
    how: it was computed, for the protocol.
  """

  number: float
  interval: tuple[float, float] | None
  num: int | None
  how: str


# Name -> unit, which is better. What the oracle says of real clips is about the
# oracle, and neither is better.
_KINDS = {
  "generated_clips": ("", ""),
  "count_accuracy": ("", "higher"),
  "class_accuracy": ("", "higher"),
  "found": ("", "higher"),
  "speed_ratio": ("", ""),  # 1 where both are alike.
  "law_error": ("pixels", "lower"),
  "real_law_error": ("pixels", ""),
  "edge_width": ("pixels", "lower"),
  "real_class_accuracy": ("", ""),
  "real_count_accuracy": ("", ""),
  "real_position_error": ("pixels", ""),
  "real_clips": ("", ""),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """Judges generated clips by the world of the sprites.

  Yields, over at most `num` generated and as many real clips:
    oracle/count_accuracy: share of the generated clips that show a number of
      objects that the world allows, and nothing else (`objects.EXPLAINED`);
    oracle/class_accuracy: share of them whose class is the label asked for; a
      clip without an object is wrong. Only when the model gives labels;
    oracle/found: share of them with at least one object;
    oracle/speed_ratio: mean speed of the objects, generated to real;
    oracle/law_error: median distance of the objects' paths from the laws of
      motion, pixels; oracle/real_law_error the same of real clips (alike
      objects that cross may be taken for one another, so not the mean);
    oracle/edge_width: median width of edges, pixels (`objects.Finding.edge`);
    oracle/real_count_accuracy: share of the real clips in which the oracle
      finds the true number, and nothing else;
    oracle/real_class_accuracy: share of them whose class it finds;
    oracle/real_position_error: mean distance of the places that it finds from
      the true ones, pixels, in clips whose number it finds;
    oracle/generated_clips, oracle/real_clips: how many were looked at.
  Each has its 95 % interval over clips. A value that nothing was found for is
  NaN. The true number and places are made again from the world, and count only
  for clips whose pixels agree; where none does, for instance because a random
  op flips them, the two values that need them are left out.

  Attributes:
    num: most clips to look at; about 40 take a second on one core.
    seed: seed of the generated clips.
  """

  num: int = 256
  seed: int = 0

  def __post_init__(self):
    if self.num < 1:
      raise errors.UserError(
        f"evals.oracle.num must be at least 1; it is {self.num}."
      )

  def run(self, sampler, reference) -> Iterator[tuple[str, evals.Value]]:
    """Yields the values.

    Raises:
      ValueError: the clips are not of sprites, or do not fit their world.
    """
    if reference.world is None:
      raise errors.UserError(
        "evals.oracle needs the data set sprites, whose world it knows; this "
        "source has no `world`. Set data.name to sprites, or take oracle out "
        "of evals."
      )
    world = sprites.World(**reference.world)
    given = sampler.ask(self.num, self.seed)
    clips, labels = sampler.clips(given, self.seed), given.get("label")
    findings = objects.inspect(clips, world)
    steps = clips.shape[1]
    real, of_oracle = reference.once(
      ("oracle", self.num, steps),
      lambda: _real(reference, world, self.num, steps),
    )
    figures = _judged(findings, real, labels, world) | of_oracle
    figures["real_clips"] = _count(real)
    for name, figure in figures.items():
      unit, better = _KINDS[name]
      common = evals.Measurement(num=figure.num)
      value = common.value(
        figure.number,
        figure.interval,
        better,
        figure.how,
        unit=unit,
        reason="counted" if figure.num is None else "too few clips",
      )
      yield f"oracle/{name}", value


def _judged(findings, real, labels, world) -> dict[str, _Figure]:
  """What is said of the generated clips, beside the findings of real ones."""
  shown = [f for f in findings if f.count]
  shown_real = [f for f in real if f.count]
  figures = {
    "generated_clips": _count(findings),
    "count_accuracy": _share(
      world.objects[0] <= f.count <= world.objects[1]
      and f.explained >= objects.EXPLAINED
      for f in findings
    ),
  }
  if labels is not None:
    figures["class_accuracy"] = _share(
      f.label == int(label) for f, label in zip(findings, labels)
    )
  speeds = [_known(f.speed for f in part) for part in (shown, shown_real)]
  return figures | {
    "found": _share(f.count > 0 for f in findings),
    "speed_ratio": _ratio(*speeds, "mean speed of generated to real clips"),
    "law_error": _median(f.law for f in shown),
    "real_law_error": _median(f.law for f in shown_real),
    "edge_width": _median(f.edge for f in findings),
  }


def _real(
  reference, world: sprites.World, num: int, steps: int
) -> tuple[list[objects.Finding], dict[str, _Figure]]:
  """Findings of the first real clips, and the oracle's own accuracy."""
  indices = range(min(num, len(reference)))
  examples = reference.read(indices)
  clips = np.stack([e["video"][:steps] for e in examples])
  findings = objects.inspect(clips, world)
  figures = {}
  if "label" in examples[0]:
    figures["real_class_accuracy"] = _share(
      f.label == int(e["label"]) for f, e in zip(findings, examples)
    )
  # The truth is made again; a clip may be cut from its source's clip.
  options = dict(reference.world, supervision="truth")
  truth = sprites.make("test", size=len(reference), **options).read(indices)
  right, gaps = [], []  # The latter: their sum and number, of each clip.
  for f, clip, e in zip(findings, clips, truth):
    starts = [
      s
      for s in range(len(e["video"]) - steps + 1)
      if np.array_equal(clip, e["video"][s : s + steps])
    ]
    if not starts:
      continue
    right.append(f.count == e["count"] and f.explained >= objects.EXPLAINED)
    if f.count == e["count"]:
      true = e["positions"][starts[0] : starts[0] + steps, None, : f.count]
      gap = np.sqrt(((f.positions[:, :, None] - true) ** 2).sum(-1)).min(-1)
      gap = gap[np.isfinite(gap)]
      gaps += [(gap.sum(), len(gap))] if len(gap) else []
  if right:
    figures["real_count_accuracy"] = _share(right)
    sums, counts = np.reshape(gaps, (-1, 2)).T
    how = "mean over objects and frames"
    error = _ratio(sums, counts, how, paired=True)
    figures["real_position_error"] = error
  return findings, figures


def _known(values) -> np.ndarray:
  """Those of the values, one a clip, that are known."""
  values = np.array([float(v) for v in values], np.float64)
  return values[np.isfinite(values)]


def _count(clips) -> _Figure:
  return _Figure(float(len(clips)), None, None, "")


def _share(flags) -> _Figure:
  """The share of clips of which something holds."""
  flags = [bool(flag) for flag in flags]
  num, right = len(flags), sum(flags)
  return _Figure(
    right / num, intervals.wilson(right, num), num, "share of clips; Wilson"
  )


def _median(values) -> _Figure:
  """The median over the clips whose value is known."""
  known = _known(values)
  number, interval = math.nan, None
  if len(known):
    number = float(np.median(known))
  if len(known) > 1:
    drawn = intervals.resampled(known, _RESAMPLES, 0, np.median)
    interval = intervals.percentiles(drawn)
  how = f"median over clips; {_BOOTSTRAP}"
  return _Figure(number, interval, len(known), how)


def _ratio(above, below, how: str, paired: bool = False) -> _Figure:
  """mean(above) / mean(below), of two sets of clips or twice of the same."""
  num = min(len(above), len(below))
  if not num:
    return _Figure(math.nan, None, 0, how)
  over = intervals.resampled(above, _RESAMPLES, 0)
  under = intervals.resampled(below, _RESAMPLES, 0 if paired else 1)
  with np.errstate(divide="ignore", invalid="ignore"):  # All stand still.
    number = float(above.mean() / below.mean())
    interval = intervals.percentiles(over / under) if num > 1 else None
  return _Figure(number, interval, num, f"{how}; {_BOOTSTRAP}")
