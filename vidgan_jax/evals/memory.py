"""`memory`: how unlike generated clips are, and what they learnt by heart.

Diversity in the space of a random network's features, beside that of real
clips; latent recall, the share of real clips that the generator reaches, found
among many of its clips and not, as in Webster et al. 2019, by optimising the
latents; the nearest training clip of every generated one, in that space and by
perceptual hashes, against how near held-out clips come (`copies`); clips that
begin as one training clip and end as another; and a picture of the closest
pairs.
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
class Evaluator:
  """Needs the clips of training, for near copies.

  Class attributes:
    needs_train: the caller must set `reference.train`.
    least: clips that it needs, held out and of training.

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
  least: ClassVar[int] = 2
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
    num = {"generated": len(fake["features"]), "real": len(real["features"])}
    note = distribution.short(self.num, *num.values())
    if trained is not None:
      num["train"] = len(trained["features"])
    common = distribution.measurement(
      sampler, reference, num, note, seed=self.seed
    )
    yield "memory/diversity", _diversity(common, fake["features"])
    yield "memory/diversity_real", _diversity(common, real["features"])
    recall = self._recall(common, fake["features"], real["features"])
    yield "memory/latent_recall", recall
    yield "memory/identity_drift", self._drift(common, fake, real, trained)
    for space, nearest in _NEAREST.items():
      names = [
        f"memory/{name}_{space}"
        for name in ("near_copies", "near_copies_held_out", "nearer")
      ]
      if trained is None:
        yield from ((name, evals.missing(_NO_TRAINING)) for name in names)
        continue
      distance, index = nearest(fake[space], trained[space])
      held_out, _ = nearest(real[space], trained[space])
      values, threshold = self._copies(common, space, distance, held_out)
      yield from zip(names, values)
      if space == "features":
        closest = np.argsort(distance, kind="stable")[: self.pairs]
        yield (
          "Nearest training clips",
          evals.Exhibit(
            clips=np.stack([frames[i] for i in closest]),
            beside=lambda i=index[closest]: _shown(reference.train, i),
            scores=distance[closest],
            captions=("generated", "nearest in training"),
            note=_note(distance[closest], threshold),
          ),
        )

  def _recall(self, common, fake, real) -> evals.Value:
    """The share of real clips that a generated one comes near to."""
    if len(real) < 2:
      return evals.missing("not computed: needs two real clips")
    reach = np.quantile(
      neighbours.spacing(real), 1 - self.share, method="inverted_cdf"
    )
    how = (
      f"share of real clips as near to a generated one as {1 - self.share:.0%} "
      "of them are to another real one"
    )
    facts = {"threshold": float(reach), "network": _network()}
    near = neighbours.nearest(real, fake)[0] <= reach
    return _share(common, near, "higher", how, **facts)

  def _drift(self, common, fake, real, trained) -> evals.Value:
    """The share of clips whose nearest training clip changes within them."""
    if trained is None:
      return evals.missing(_NO_TRAINING)
    drift, held_out = (
      copies.drifts(clips["hashes"], trained["hashes"])
      for clips in (fake, real)
    )
    # A distance that was seen: at most this share of real clips is above it.
    usual = np.quantile(held_out, 1 - self.share, method="inverted_cdf")
    return _share(
      common,
      drift > usual,
      "lower",
      f"share of clips of which the nearest training clip changes more than in "
      f"{1 - self.share:.0%} of held-out ones",
      note=f"of held-out clips {np.mean(held_out > usual):.1%}",
      threshold=float(usual),
      space="hashes",
    )

  def _copies(self, common, space, distance, held_out):
    """What one space says of copies: three values, and its threshold."""
    try:
      threshold = copies.threshold(distance, held_out, self.share)
    except ValueError as error:
      return [evals.missing(f"not computed: {error}")] * 3, None
    facts = {"threshold": threshold, "space": space}
    below = [x < threshold for x in (distance, held_out)]
    values = [
      _share(common, below[0], "lower", "share below threshold", **facts),
      _share(common, below[1], "", "the same, held-out clips", **facts),
      _nearer(common, distance, held_out, **facts),
    ]
    return values, threshold

  def _of_real(self, reference, num) -> dict[str, np.ndarray]:
    """Features (N, D) and hashes (N, 4, 64) of real clips, computed once."""
    # Of so many clips the rows of all are kept.
    num = min(num, len(reference), distribution.KEEP)
    clips = lambda: distribution.real_clips(reference, num, self.batch)
    hashes = lambda: np.concatenate([*map(copies.hashes, clips())])
    network = frd_random.network()
    rows = distribution.real(reference, network, num, self.batch).rows
    return {
      "features": rows,
      "hashes": reference.once(("hashes", num), hashes),
    }

  def _of_generated(self, sampler):
    """The same of generated clips, in one pass, and some frames of each."""
    hashes, frames = [], []

    def seen():
      for video in distribution.generated_clips(
        sampler, self.seed, self.num, self.batch
      ):
        hashes.append(copies.hashes(video))
        frames.extend(map(_frames, video))
        yield video

    net = frd_random.network()
    rows = list(features.stream(net.apply, net.params, seen(), self.batch))
    looks = {
      "features": np.concatenate(rows),
      "hashes": np.concatenate(hashes),
    }
    return looks, frames


def _network() -> str:
  """The name of the space of features."""
  return frd_random.network().card["network"]


def _diversity(common, rows) -> evals.Value:
  """How far apart the clips of one set are; best like the real ones."""
  if len(rows) < 2:
    return evals.missing("not computed: needs two clips")
  interval, how = None, "mean distance"
  if len(rows) == 2:
    number = neighbours.diversity(rows)
  else:
    estimate = neighbours.diversity_estimate(rows)
    number, interval = estimate.value, (estimate.low, estimate.high)
    how += "; jackknife"
  return common.value(number, interval, "", how, network=_network())


def _share(common, hits, better, estimator, **facts) -> evals.Value:
  """The share of clips for which `hits`, (N,) bool, is true."""
  interval = intervals.wilson(int(hits.sum()), len(hits))
  how = f"{estimator}; Wilson"
  return common.value(hits.mean(), interval, better, how, **facts)


def _nearer(common, distance, held_out, **facts) -> evals.Value:
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
  number = copies.nearer(distance, held_out)
  return common.value(number, interval, "", how, **facts)


def _note(distances, threshold) -> str:
  """What is said above the closest pairs."""
  note = f"Distances: {_network()}."
  if threshold is not None:
    count = int((distances < threshold).sum())
    note += f" Near copies, below {threshold:.4g}: {count} of {len(distances)}."
  return note


def _shown(train, indices) -> np.ndarray:
  """Frames of the training clips of these numbers."""
  return np.stack([_frames(train.read([int(i)])[0]["video"]) for i in indices])


def _frames(clip: np.ndarray) -> np.ndarray:
  """At most eight frames, to look at."""
  return clip[:: max(1, len(clip) // 8)][:8].copy()
