"""`two_sample`: how well a small network learns to tell the clips from real.

The classifier two-sample test of Lopez-Paz and Oquab (2017): a network learns
on half of the clips and is asked about the other half, then the halves change
places. Its size and its steps are fixed, so that it measures a distance and not
its own patience (Gulrajani et al. 2019). One network sees single frames, the
other what changes between them: the figures tell faults of the appearance from
faults of the motion. The networks are `nets/classifier.py`; nothing is needed
from elsewhere.
"""

from collections.abc import Iterator
import dataclasses
from typing import ClassVar

import numpy as np
import scipy.optimize
import scipy.special

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax.evals import distribution
from vidgan_jax.measures import copies
from vidgan_jax.measures import intervals
from vidgan_jax.nets import classifier

LEAST = 8  # clips of each: four to learn from, four to be asked about
_TRAINING = "training clips in place of generated ones"
_HALVES = "one half of the real clips in place of generated ones"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """Held-out AUC and loss, of frames and of motion, real against real beside.

  Class attributes:
    needs_train: training clips stand in for a generator in `_real`.

  Attributes:
    num: clips of each, at most. The figures depend on it: hold it fixed.
    steps: of each network, on each half.
    clips: a step, half of them generated.
    seed: of the generated clips and of everything that is learnt.
    batch: clips at a time; it changes no value.
    parts: of the clips, for intervals.
  """

  needs_train: ClassVar[bool] = True
  num: int = 256
  steps: int = 100
  clips: int = 16
  seed: int = 1
  batch: int = 32
  parts: int = 16

  def run(self, sampler, reference) -> Iterator[tuple[str, evals.Value]]:
    """Yields AUC and loss of each network, and those of real clips."""
    num = min(self.num, len(reference))
    fake = _seen(
      distribution.generated_clips(sampler, self.seed, self.num, self.batch)
    )
    key = ("two_sample", num, self.steps, self.clips, self.seed)
    real, pair, note = reference.once(key, lambda: self._real(reference, num))
    nums = {"generated": len(fake["frame"]), "real": num}
    if min(nums.values()) < LEAST:
      reason = f"not computed: needs {LEAST} clips of each"
      yield "two_sample/frame_auc", evals.missing(reason)
      return
    common = distribution.measurement(
      sampler,
      reference,
      nums,
      distribution.short(self.num, *nums.values()),
      network=classifier.VERSION,
      steps=self.steps,
      clips=self.clips,
      seed=self.seed,
    )
    for name in real:
      shapes = [x[name].shape[1:] for x in (fake, real)]
      if shapes[0] != shapes[1]:
        raise errors.UserError(
          "Generated clips have (T, H, W) = {}, real ones {}: bring both to "
          "one size and length, with --size and --frames.".format(*shapes)
        )
      rows = self._logits(name, fake[name], real[name])
      yield from self._values(common, name, "", rows, "")
      if pair is not None:
        rows = reference.once(
          (*key, name), lambda n=name: self._logits(n, *(x[n] for x in pair))
        )
        yield from self._values(common, name, "_real", rows, note)

  def _real(self, reference, num):
    """What is seen of real clips; two sets of them, and which they are."""
    real = _seen(distribution.real_clips(reference, num, self.batch))
    train = reference.train
    if train is not None and min(num, len(train)) >= LEAST:
      # Of the whole set, which may be sorted by class.
      chosen = np.linspace(0, len(train) - 1, min(num, len(train))).astype(int)
      parts = np.array_split(chosen, -(-len(chosen) // self.batch))
      clips = lambda part: np.stack([x["video"] for x in train.read(part)])
      return real, (_seen(map(clips, parts)), real), _TRAINING
    if num < 2 * LEAST:
      return real, None, ""
    halves = _halves(num, self.seed)
    pair = [{k: x[half] for k, x in real.items()} for half in halves]
    return real, pair, _HALVES

  def _logits(self, name, fake, real) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) and (M, 4): each clip judged by the network of the other half."""
    sets = fake, real
    rows = [np.empty((len(clips), 4)) for clips in sets]
    halves = [_halves(len(clips), self.seed) for clips in sets]
    for i in (0, 1):
      asked = [clips[half[i]] for clips, half in zip(sets, halves)]
      learnt = [clips[half[1 - i]] for clips, half in zip(sets, halves)]
      logits = classifier.course(
        name,
        *learnt,
        np.concatenate(asked),
        steps=self.steps,
        batch=self.clips,
        seed=2 * self.seed + i,
      ).T
      rows[0][halves[0][i]] = logits[: len(asked[0])]
      rows[1][halves[1][i]] = logits[len(asked[0]) :]
    return rows[0], rows[1]

  def _values(self, common, name, suffix, rows, note):
    """Yields AUC and loss of one network."""
    parts = min(self.parts, *map(len, rows))
    sets = [intervals.split(x, parts) for x in rows]
    for figure, (function, better, unit, how) in _FIGURES.items():
      estimate = intervals.jackknife(
        lambda a, b, f=function: f(np.concatenate(a), np.concatenate(b)), *sets
      )
      value = common.value(
        function(*rows),
        (max(estimate.low, 0.0), min(estimate.high, 1.0)),
        better,
        f"{how}; jackknife over {parts} parts of either set",
        unit=unit,
        note=note,
      )
      yield f"two_sample/{name}_{figure}{suffix}", value


def _halves(num, seed) -> list[np.ndarray]:
  """The numbers of either half, at random: labels come in turn."""
  order = np.random.default_rng(seed).permutation(num)
  return [order[::2], order[1::2]]


def _auc(fake, real) -> float:
  """How probably a generated clip seems more generated than a real one."""
  return copies.nearer(-fake[:, -1], -real[:, -1])


def _loss(fake, real) -> float:
  """Cross-entropy of the held-out clips, the mean over the course of learning.

    1/2 mean log2(1 + e^-(a x + b)) + 1/2 mean log2(1 + e^(a y + b)),

  x the logits of generated clips and y those of real ones,

  with the a in [0, 1] and the b for which it is lowest, as a network that is
  too sure of itself would else seem worse than none (Platt 1999). 1 is chance.
  The sooner the sets are told apart, the lower it is, so it still ranks sets of
  which the AUC is 1.
  """
  return float(np.mean([_entropy(*x) for x in zip(fake.T, real.T)]))


def _entropy(fake, real) -> float:
  """See `_loss`: logits (N,) and (M,) after one number of steps."""

  def bits(ab):
    a, b = ab
    x, y = -(a * fake + b), a * real + b
    right = [scipy.special.expit(v) / len(v) for v in (x, y)]
    slope = right[1] @ real - right[0] @ fake, right[1].sum() - right[0].sum()
    value = np.logaddexp(0, x).mean() + np.logaddexp(0, y).mean()
    return value / np.log(4), np.array(slope) / np.log(4)

  best = scipy.optimize.minimize(
    bits, [1e-3, 0.0], jac=True, bounds=[(0, 1), (None, None)]
  )
  return float(min(best.fun, 1.0))


# Figure -> its function, what is better, unit, how it was computed.
_FIGURES = {
  "auc": (_auc, "lower", "", "held-out AUC after the last step, two halves"),
  "loss": (
    _loss,
    "higher",
    "bit",
    "held-out cross-entropy of shrunk logits, mean after 1/8, 1/4, 1/2 and all "
    "of the steps",
  ),
}


def _seen(videos) -> dict[str, np.ndarray]:
  """What each network sees of a set of clips."""
  parts = [*map(classifier.looks, videos)]
  return {key: np.concatenate([x[key] for x in parts]) for key in parts[0]}
