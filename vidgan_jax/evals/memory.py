"""`memory`: how unlike generated clips are, and what they learnt by heart.

Diversity in the space of a random network's features, beside that of real
clips; the nearest training clip of every generated one, in that space and by
perceptual hashes, against how near held-out clips come (`memorisation`); and a
picture of the closest pairs.
"""

from collections.abc import Iterator
import dataclasses
from typing import Any

import numpy as np

from vidgan_jax import evals
from vidgan_jax.evals import distribution
from vidgan_jax.evals import features
from vidgan_jax.evals import frd_random
from vidgan_jax.evals import memorisation
from vidgan_jax.evals import report
from vidgan_jax.evals import statistics

_NO_TRAINING = "not computed: needs the training clips (--train DIR)"


@dataclasses.dataclass(kw_only=True)
class Evaluator:
  """Needs `source.train`, the clips of training, for all but diversity.

  Attributes:
    num: generated and held-out clips, at most.
    train: clips of training, at most.
    share: of held-out clips that may count as copies: sets the threshold.
    pairs: closest pairs to show.
    seed: of the generated clips.
    batch: clips at a time.
    closest: after `run`, the closest pairs for the report; None without
      training clips.
  """

  num: int = 256
  train: int = 10_000
  share: float = 0.05
  pairs: int = 8
  seed: int = 1
  batch: int = 32
  closest: Any = dataclasses.field(default=None, init=False, repr=False)

  def __post_init__(self):
    self._real = self._train = None

  def run(self, model, source) -> Iterator[tuple[str, evals.Value]]:
    """Yields diversity, rates of near copies, and how near clips come."""
    train = getattr(source, "train", None)
    if self._real is None:
      num = min(self.num, len(source))
      self._real = self._look(distribution.real_clips(source, num, self.batch))
    if self._train is None and train is not None:
      num = min(self.train, len(train))
      self._train = self._look(distribution.real_clips(train, num, self.batch))
    keep: list[np.ndarray] = []
    clips = distribution.generated_clips(model, self.seed, self.num, self.batch)
    fake, real = self._look(clips, keep), self._real
    num = {"generated": len(fake[0]), "real": len(real[0])}
    note = distribution.short(self.num, *num.values())
    if self._train is not None:
      num["train"] = len(self._train[0])

    def value(number, estimator, **facts):
      facts = distribution.card(
        source, model, seed=self.seed, estimator=estimator, num=num, **facts
      )
      return evals.Value(float(number), num=num, protocol=facts, note=note)

    space = frd_random.network().card["network"]
    for name, found in (("", fake), ("_real", real)):
      yield (
        f"memory/diversity{name}",
        value(statistics.diversity(found[0]), "mean distance", network=space)
        if len(found[0]) > 1
        else evals.missing("not computed: needs two clips"),
      )
    self.closest = None
    for name, i, nearest in (
      ("features", 0, statistics.nearest),
      ("hashes", 1, memorisation.nearest_hash),
    ):
      names = [
        f"memory/{what}_{name}"
        for what in ("near_copies", "near_copies_held_out", "nearer")
      ]
      reason = _NO_TRAINING if self._train is None else ""
      if not reason:
        distance, index = nearest(fake[i], self._train[i])
        held_out, _ = nearest(real[i], self._train[i])
        try:
          found = memorisation.near_copies(distance, held_out, self.share)
        except ValueError as error:
          reason = f"not computed: {error}"
        if name == "features":
          order = np.argsort(distance, kind="stable")[: self.pairs]
          self.closest = report.Pairs(
            generated=np.stack([keep[i] for i in order]),
            training=np.stack([_some(train, index[i]) for i in order]),
            distances=distance[order],
            space=space,
            threshold=found.threshold,
          )
      if reason:
        yield from ((one, evals.missing(reason)) for one in names)
        continue
      facts = {"threshold": found.threshold, "space": name}
      yield names[0], value(found.rate, "share below threshold", **facts)
      yield names[1], value(found.expected, "the same, held-out clips", **facts)
      yield names[2], value(found.nearer, "P(nearer than held-out)", **facts)

  def _look(self, videos, keep=None):
    """Features (N, D) and hashes (N, 4, 64) of clips, one pass."""
    hashes = []

    def seen():
      for video in videos:
        hashes.append(memorisation.hashes(video))
        if keep is not None:
          keep.extend(map(_frames, video))
        yield video

    net = frd_random.network()
    rows = list(features.stream(net.apply, net.params, seen(), self.batch))
    return np.concatenate(rows), np.concatenate(hashes)


def _some(train, index) -> np.ndarray:
  return _frames(train.read([int(index)])[0]["video"])


def _frames(clip: np.ndarray) -> np.ndarray:
  """At most eight frames, to look at."""
  return clip[:: max(1, len(clip) // 8)][:8].copy()
