"""`memory`: how unlike generated clips are, and what they learnt by heart.

Diversity in the space of a random network's features, beside that of real
clips; latent recall, the share of real clips that the generator reaches, found
among many of its clips and not, as in Webster et al. 2019, by optimising the
latents; the nearest training clip of every generated one, in that space and by
perceptual hashes, against how near held-out clips come (`memorisation`); and a
picture of the closest pairs.
"""

from collections.abc import Iterator
import dataclasses
from typing import Any
from typing import ClassVar

import numpy as np

from vidgan_jax import evals
from vidgan_jax.evals import distribution
from vidgan_jax.evals import features
from vidgan_jax.evals import frd_random
from vidgan_jax.evals import memorisation
from vidgan_jax.measures import intervals
from vidgan_jax.measures import neighbours
from vidgan_jax.reports import evaluation

_NO_TRAINING = "not computed: needs the training clips (--train DIR)"


@dataclasses.dataclass(kw_only=True)
class Evaluator:
  """Needs `source.train`, the clips of training, for near copies.

  Class attributes:
    needs_train: who runs it gives the source its `train`.

  Attributes:
    num: generated and held-out clips, at most.
    train: clips of training, at most.
    share: of held-out clips that may count as copies, and of real clips that
      may be out of each other's reach: sets the thresholds.
    pairs: closest pairs to show.
    seed: of the generated clips.
    batch: clips at a time.
    closest: after `run`, the closest pairs for the report; None without
      training clips.
  """

  needs_train: ClassVar[bool] = True
  num: int = 256
  train: int = 10_000
  share: float = 0.05
  pairs: int = 8
  seed: int = 1
  batch: int = 32
  closest: Any = dataclasses.field(default=None, init=False, repr=False)

  def run(self, model, source) -> Iterator[tuple[str, evals.Value]]:
    """Yields diversity, recall, rates of near copies, how near clips come."""
    train = getattr(source, "train", None)
    real = self._once(source, self.num)
    trained = None if train is None else self._once(train, self.train)
    keep: list[np.ndarray] = []
    clips = distribution.generated_clips(model, self.seed, self.num, self.batch)
    fake = self._look(clips, keep)
    num = {"generated": len(fake[0]), "real": len(real[0])}
    note = distribution.short(self.num, *num.values())
    if trained is not None:
      num["train"] = len(trained[0])

    def value(number, estimator, ends=(None, None), **facts):
      facts = distribution.card(
        source, model, seed=self.seed, estimator=estimator, num=num, **facts
      )
      none = "no interval: too few clips" * (ends[0] is None)
      text = "; ".join(filter(None, (note, none)))
      return evals.Value(float(number), *ends, num, facts, text)

    def share(near, estimator, **facts):
      ends = intervals.wilson(int(near.sum()), len(near))
      return value(near.mean(), f"{estimator}; Wilson", ends, **facts)

    space = frd_random.network().card["network"]
    for name, (rows, _) in (("", fake), ("_real", real)):
      if len(rows) < 2:
        one = evals.missing("not computed: needs two clips")
      elif len(rows) == 2:
        one = value(neighbours.diversity(rows), "mean distance", network=space)
      else:
        found = neighbours.diversity_estimate(rows)
        ends, how = (found.low, found.high), "mean distance; jackknife"
        one = value(found.value, how, ends, network=space)
      yield f"memory/diversity{name}", one
    if len(real[0]) > 1:
      reach = np.quantile(
        neighbours.spacing(real[0]), 1 - self.share, method="inverted_cdf"
      )
      found = share(
        neighbours.nearest(real[0], fake[0])[0] <= reach,
        "share of real clips as near to a generated one as "
        f"{1 - self.share:.0%} of them are to another real one",
        threshold=float(reach),
        network=space,
      )
    else:
      found = evals.missing("not computed: needs two real clips")
    yield "memory/latent_recall", found
    self.closest = None
    for name, i, nearest in (
      ("features", 0, neighbours.nearest),
      ("hashes", 1, memorisation.nearest_hash),
    ):
      names = [
        f"memory/{what}_{name}"
        for what in ("near_copies", "near_copies_held_out", "nearer")
      ]
      reason = _NO_TRAINING if trained is None else ""
      if not reason:
        distance, index = nearest(fake[i], trained[i])
        held_out, _ = nearest(real[i], trained[i])
        try:
          found = memorisation.near_copies(distance, held_out, self.share)
        except ValueError as error:
          reason = f"not computed: {error}"
        if name == "features":
          order = np.argsort(distance, kind="stable")[: self.pairs]
          self.closest = evaluation.Pairs(
            generated=np.stack([keep[i] for i in order]),
            training=np.stack([_some(train, index[i]) for i in order]),
            distances=distance[order],
            space=space,
            threshold=None if reason else found.threshold,
          )
      if reason:
        yield from ((one, evals.missing(reason)) for one in names)
        continue
      facts = {"threshold": found.threshold, "space": name}
      near, text = distance < found.threshold, "share below threshold"
      yield names[0], share(near, text, **facts)
      near, text = held_out < found.threshold, "the same, held-out clips"
      yield names[1], share(near, text, **facts)
      parts = min(16, len(distance), len(held_out))
      ends, text = (None, None), "P(nearer than held-out)"
      if parts > 2:
        around = intervals.jackknife(
          lambda a, b: memorisation.nearer(
            np.concatenate(a), np.concatenate(b)
          ),
          intervals.split(distance, parts),
          intervals.split(held_out, parts),
        )
        ends = max(around.low, 0.0), min(around.high, 1.0)
        text += f"; jackknife over {parts} parts of either set"
      yield names[2], value(found.nearer, text, ends, **facts)

  def _once(self, source, num):
    """Features (N, D) and hashes (N, 4, 64) of real clips, kept."""
    num = min(num, len(source), distribution.KEEP)  # The rows of all are there.
    clips = lambda: distribution.real_clips(source, num, self.batch)
    hashes = lambda: np.concatenate([*map(memorisation.hashes, clips())])
    network = frd_random.network()
    rows = distribution.real(source, network, num, self.batch).rows
    return rows, distribution.once(source, ("hashes", num), hashes)

  def _look(self, videos, keep):
    """The same of generated clips, one pass, and their frames into `keep`."""
    hashes = []

    def seen():
      for video in videos:
        hashes.append(memorisation.hashes(video))
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
