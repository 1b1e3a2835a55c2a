"""`memory`: how unlike generated clips are, and what they learnt by heart.

Diversity in the space of a random network's features, beside that of real
clips; latent recall, the share of real clips that the generator reaches, found
among many of its clips and not, as in Webster et al. 2019, by optimising the
latents; the nearest training clip of every generated one, in that space and by
perceptual hashes, against how near held-out clips come (`copies`); and a
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
from vidgan_jax.measures import copies
from vidgan_jax.measures import intervals
from vidgan_jax.measures import neighbours

_NO_TRAINING = "not computed: needs the training clips (--train DIR)"
_NEAREST = {"features": neighbours.nearest, "hashes": copies.nearest_hash}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Looks:
  """How clips look, in each of the two spaces.

  Attributes:
    features: (N, D).
    hashes: (N, 4, 64) bool.
  """

  features: np.ndarray
  hashes: np.ndarray

  def __len__(self) -> int:
    return len(self.features)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """Needs the clips of training, for near copies.

  Class attributes:
    needs_train: the caller must set `reference.train`.

  Attributes:
    num: generated and held-out clips, at most.
    train: clips of training, at most.
    share: of held-out clips that may count as copies, and of real clips that
      may be out of each other's reach: sets the thresholds.
    pairs: closest pairs to show.
    seed: of the generated clips.
    batch: clips at a time.
  """

  needs_train: ClassVar[bool] = True
  num: int = 256
  train: int = 10_000
  share: float = 0.05
  pairs: int = 8
  seed: int = 1
  batch: int = 32

  def run(self, sampler, reference) -> Iterator[tuple[str, Any]]:
    """Yields diversity, recall, rates of near copies, how near clips come."""
    real = self._of_real(reference, self.num)
    trained = None
    if reference.train is not None:
      trained = self._of_real(reference.train, self.train)
    fake, frames = self._of_generated(sampler)
    num = {"generated": len(fake), "real": len(real)}
    note = distribution.short(self.num, *num.values())
    if trained is not None:
      num["train"] = len(trained)
    common = distribution.measurement(
      sampler, reference, num, note, seed=self.seed
    )
    yield "memory/diversity", _diversity(common, fake)
    yield "memory/diversity_real", _diversity(common, real)
    yield "memory/latent_recall", self._recall(common, fake, real)
    for space in _NEAREST:
      names = [
        f"memory/{name}_{space}"
        for name in ("near_copies", "near_copies_held_out", "nearer")
      ]
      if trained is None:
        yield from ((name, evals.missing(_NO_TRAINING)) for name in names)
        continue
      looks = (getattr(x, space) for x in (fake, real, trained))
      values, exhibit = self._copies(
        common, space, *looks, frames, reference.train
      )
      yield from zip(names, values)
      if space == "features":
        yield "Nearest training clips", exhibit

  def _recall(self, common, fake: _Looks, real: _Looks) -> evals.Value:
    """The share of real clips that a generated one comes near to."""
    if len(real) < 2:
      return evals.missing("not computed: needs two real clips")
    reach = np.quantile(
      neighbours.spacing(real.features), 1 - self.share, method="inverted_cdf"
    )
    distances, _ = neighbours.nearest(real.features, fake.features)
    return _share(
      common,
      distances <= reach,
      "share of real clips as near to a generated one as "
      f"{1 - self.share:.0%} of them are to another real one",
      better="higher",
      threshold=float(reach),
      network=_network(),
    )

  def _copies(self, common, space, fake, held_out, trained, frames, train):
    """What one space says of copies: three values, and the closest pairs."""
    distance, index = _NEAREST[space](fake, trained)
    others, _ = _NEAREST[space](held_out, trained)
    threshold = None
    try:
      near = copies.near_copies(distance, others, self.share)
    except ValueError as error:
      values = [evals.missing(f"not computed: {error}")] * 3
    else:
      threshold = near.threshold
      facts = {"threshold": threshold, "space": space}
      values = [
        _share(
          common,
          distance < threshold,
          "share below threshold",
          better="lower",
          **facts,
        ),
        _share(
          common,
          others < threshold,
          "the same, held-out clips",
          better="",
          **facts,
        ),
        _nearer(common, near.nearer, distance, others, **facts),
      ]
    closest = np.argsort(distance, kind="stable")[: self.pairs]
    note = f"Distances: {_network()}."
    if threshold is not None:
      count = int((distance[closest] < threshold).sum())
      note += f" Near copies, below {threshold:.4g}: {count} of {len(closest)}."
    exhibit = evals.Exhibit(
      clips=np.stack([frames[i] for i in closest]),
      beside=lambda: np.stack(
        [_frames(train.read([int(index[i])])[0]["video"]) for i in closest]
      ),
      scores=distance[closest],
      captions=("generated", "nearest in training"),
      note=note,
    )
    return values, exhibit

  def _of_real(self, reference, num) -> _Looks:
    """Of real clips; computed once."""
    # Of so many clips the rows of all are kept.
    num = min(num, len(reference), distribution.KEEP)
    clips = lambda: distribution.real_clips(reference, num, self.batch)
    hashes = lambda: np.concatenate([*map(copies.hashes, clips())])
    network = frd_random.network()
    rows = distribution.real(reference, network, num, self.batch).rows
    return _Looks(features=rows, hashes=reference.once(("hashes", num), hashes))

  def _of_generated(self, sampler) -> tuple[_Looks, list[np.ndarray]]:
    """Of generated clips in one pass, and some frames of each."""
    hashes, frames = [], []
    clips = distribution.generated_clips(
      sampler, self.seed, self.num, self.batch
    )

    def seen():
      for video in clips:
        hashes.append(copies.hashes(video))
        frames.extend(map(_frames, video))
        yield video

    network = frd_random.network()
    rows = list(
      features.stream(network.apply, network.params, seen(), self.batch)
    )
    looks = _Looks(features=np.concatenate(rows), hashes=np.concatenate(hashes))
    return looks, frames


def _network() -> str:
  """The name of the space of features."""
  return frd_random.network().card["network"]


def _diversity(common, looks: _Looks) -> evals.Value:
  """How far apart the clips of one set are."""
  rows, interval, how = looks.features, None, "mean distance"
  if len(rows) < 2:
    return evals.missing("not computed: needs two clips")
  if len(rows) == 2:
    number = neighbours.diversity(rows)
  else:
    estimate = neighbours.diversity_estimate(rows)
    number, interval = estimate.value, (estimate.low, estimate.high)
    how += "; jackknife"
  return common.value(
    number, interval, unit="", better="", estimator=how, network=_network()
  )


def _share(common, hits, estimator, better, **facts) -> evals.Value:
  """The share of clips for which `hits`, (N,) bool, is true."""
  return common.value(
    hits.mean(),
    intervals.wilson(int(hits.sum()), len(hits)),
    unit="",
    better=better,
    estimator=f"{estimator}; Wilson",
    **facts,
  )


def _nearer(common, number, distance, held_out, **facts) -> evals.Value:
  """How probably a generated clip is nearer to training than a held-out one."""
  parts = min(16, len(distance), len(held_out))
  interval, how = None, "P(nearer than held-out)"
  if parts > 2:
    estimate = intervals.jackknife(
      lambda a, b: copies.nearer(np.concatenate(a), np.concatenate(b)),
      intervals.split(distance, parts),
      intervals.split(held_out, parts),
    )
    interval = max(estimate.low, 0.0), min(estimate.high, 1.0)
    how += f"; jackknife over {parts} parts of either set"
  # One half without memory; below it clips lie beside the data.
  return common.value(
    number, interval, unit="", better="", estimator=how, **facts
  )


def _frames(clip: np.ndarray) -> np.ndarray:
  """At most eight frames, to look at."""
  return clip[:: max(1, len(clip) // 8)][:8].copy()
