"""`layout`: whether clips show the label maps that they were made of.

A small network (nets/segmenter.py) learns from real training frames what is
seen at each pixel, and is asked about the generated ones. What it says of real
held-out frames is the most that can be expected. Of the map itself, painted
with the mean colour of each class, it should say little. In the world of the
sprites the oracle is asked as well.
"""

from collections.abc import Iterator
import dataclasses
from typing import Any
from typing import ClassVar

import jax
import numpy as np
from scipy import optimize

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax import pixels
from vidgan_jax.data import sprites
from vidgan_jax.evals import distribution
from vidgan_jax.evals import objects
from vidgan_jax.measures import intervals
from vidgan_jax.nets import segmenter

_RESAMPLES = 1000  # of the clips, for an interval
_MOST = 2048  # training frames that are learnt from
_DRAWS, _CLIPS = 8, 16  # noises of each clip, and clips, for `diversity`
_SEEN = 8  # pixels that a thing must have in a frame for its colour


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """Makes clips of held-out label maps and looks what is where.

  Yields, over `num` clips:
    layout/miou: intersection over union of what the network sees with the map,
      the mean over the classes that the maps have, of all pixels together;
    layout/accuracy: share of the pixels at which it sees what the map says.
  Both also of real clips (`_ceiling`), of the maps painted with the mean colour
  of each class (`_palette`), and of the same clips judged by the map of the
  next one (`_floor`). What is unknown in a map does not count.
    layout/drift: how far the mean colour of a thing goes from its mean over
      the clip, root mean square, levels of 255; layout/drift_real.
  Of a generator with noise:
    layout/diversity: deviation of the mean colours of things over 8 noises of
      one map, over that of real clips; 1 where the map leaves them as free.
  Of sprites, as the oracle sees them (evals/objects.py):
    layout/class: share of the clips that show the class of the map;
    layout/number: share that show as many objects, and nothing else; both also
      of real clips (`_ceiling`);
    layout/centres: median distance of an object from where it is in the real
      clip, pixels.

  Class attributes:
    needs_train: training clips teach the network.
    least: held-out clips that it needs.

  Attributes:
    num: clips, at most.
    steps: of learning; 300 take two minutes of two cores at 128 x 96 pixels.
    seed: of the noise and of all that is learnt.
    batch: clips at a time.
  """

  needs_train: ClassVar[bool] = True
  least: ClassVar[int] = 2
  num: int = 64
  steps: int = 300
  seed: int = 0
  batch: int = 8

  def run(self, sampler, reference) -> Iterator[tuple[str, evals.Value]]:
    """Yields the values.

    Raises:
      UserError: there are no maps, or nothing that makes clips of them.
    """
    clips = reference.read(range(min(self.num, len(reference))))
    if "layout" not in clips[0] or reference.train is None:
      raise errors.UserError(
        "evals.layout asks a run for clips of the label maps of held-out ones: "
        "prepare the videos with --maps, or take sprites with "
        "config.data.options.supervision=('layout',); or take it out of evals."
      )
    real = np.stack([clip["video"] for clip in clips])
    things = np.stack([clip["layout"] for clip in clips])
    maps = np.stack([_classes(clip, reference.world) for clip in clips])
    given = [
      clip["given"] for clip in reference.clips.prepared(range(len(clips)))
    ]
    given = jax.tree.map(lambda *x: np.stack(x), *given)
    times = np.stack([clip["times"] for clip in clips]).astype(np.float32)
    shown = self._draw(sampler, given, times, self.seed)
    key = ("layout", len(clips), self.steps, self.seed)
    see, paint, tables = reference.once(
      key, lambda: self._learn(reference, real, maps)
    )
    common = distribution.measurement(
      sampler,
      reference,
      len(clips),
      network=segmenter.VERSION,
      steps=self.steps,
    )
    seen = see(shown)
    tables = {
      "": _tables(seen, maps, len(paint)),
      "_floor": _tables(seen, np.roll(maps, 1, 0), len(paint)),
    } | tables
    for suffix, table in tables.items():
      for name, figure in (("miou", _miou), ("accuracy", _accuracy)):
        better = "" if suffix else "higher"
        yield (
          f"layout/{name}{suffix}",
          self._shares(common, table, figure, better),
        )
    for suffix, video in (("", shown), ("_real", real)):
      how = f"mean over clips; bootstrap, {_RESAMPLES} resamples"
      drift = np.array([_drift(*pair) for pair in zip(video, things)])
      yield (
        f"layout/drift{suffix}",
        common.value(
          intervals.mean(drift),
          intervals.bootstrap(drift, _RESAMPLES, 0),
          "" if suffix else "lower",
          how,
          unit="levels",
        ),
      )
    if sampler.generator.noise_spec(0.0):
      yield (
        "layout/diversity",
        self._diversity(common, sampler, (given, times, maps, things), real),
      )
    if reference.world is not None:
      world = sprites.World(**reference.world)
      found = reference.once(
        (*key, "objects"), lambda: objects.inspect(real, world)
      )
      findings = objects.inspect(shown, world)
      yield from _right(common, findings, clips, "")
      yield from _right(common, found, clips, "_ceiling")
      yield "layout/centres", _centres(common, findings, found)

  def _draw(self, sampler, given, times, seed) -> np.ndarray:
    """(N, T, H, W, 3) uint8: clips of what is given, `batch` at a time."""
    parts, count = [], len(times)
    for start in range(0, count, self.batch):
      # The last part is filled up, so that the model compiles once.
      index = np.minimum(np.arange(start, start + self.batch), count - 1)
      part = jax.tree.map(lambda x, i=index: x[i], given)
      # Another seed each: the noise of a clip goes by its place in the part.
      video = sampler.apply(part, times[index], seed + 1000 * start)
      parts.append(pixels.to_bytes(video[: count - start]))
    return np.concatenate(parts)

  def _learn(self, reference, real, maps):
    """The network, mean colours (K, 3), and tables of what needs no model."""
    train = reference.train
    steps = real.shape[1]
    wanted = min(len(train), max(1, _MOST // steps))
    chosen = np.unique(np.linspace(0, len(train) - 1, wanted).astype(int))
    examples = train.read(chosen)
    frames = np.concatenate([x["video"] for x in examples])
    ids = np.concatenate([_classes(x, reference.world) for x in examples])
    known = np.concatenate([x[x != segmenter.UNKNOWN] for x in (ids, maps)])
    if not len(known):
      raise errors.UserError("evals.layout: all of the label maps is unknown.")
    classes = int(known.max()) + 1
    learnt = segmenter.learn(
      frames, ids, classes, steps=self.steps, seed=self.seed
    )

    def see(video):
      flat = learnt(video.reshape(-1, *video.shape[2:]))
      return flat.reshape(video.shape[:-1])

    paint = np.zeros((classes, 3))
    for number in range(classes):
      if (ids == number).any():
        paint[number] = frames[ids == number].mean(0)
    painted = np.rint(paint).astype(np.uint8)[np.minimum(maps, classes - 1)]
    return (
      see,
      paint,
      {
        "_ceiling": _tables(see(real), maps, classes),
        "_palette": _tables(see(painted), maps, classes),
      },
    )

  def _shares(self, common, tables, figure, better) -> evals.Value:
    """A figure of the sum of tables (N, K, K); bootstrap over clips."""
    rng = np.random.default_rng(0)
    flat = tables.reshape(len(tables), -1).astype(float)
    drawn = rng.multinomial(
      len(flat), np.full(len(flat), 1 / len(flat)), _RESAMPLES
    )
    sums = (drawn @ flat).reshape(-1, *tables.shape[1:])
    interval = intervals.percentiles(np.array([figure(x) for x in sums]))
    how = f"of all pixels; bootstrap over clips, {_RESAMPLES} resamples"
    return common.value(figure(tables.sum(0)), interval, better, how)

  def _diversity(self, common, sampler, asked, real) -> evals.Value:
    """See `Evaluator`."""
    given, times, maps, things = asked
    colours = _colours(real, things, maps)
    free = {
      number: np.linalg.norm(np.std(rows, 0))
      for number, rows in colours.items()
      if len(rows) > 1
    }
    few = lambda x: x[:_CLIPS]
    part = jax.tree.map(few, given)
    drawn = [
      self._draw(sampler, part, few(times), self.seed + 1 + i)
      for i in range(_DRAWS)
    ]
    ratios = []
    for i in range(len(drawn[0])):
      own = _colours(
        np.stack([video[i] for video in drawn]),
        np.repeat(things[i : i + 1], _DRAWS, 0),
        np.repeat(maps[i : i + 1], _DRAWS, 0),
      )
      pairs = [
        (np.linalg.norm(np.std(rows, 0)), free[number])
        for number, rows in own.items()
        if number in free
      ]
      above, below = np.sum(pairs, 0) if pairs else (0.0, 0.0)
      ratios.append(above / below if below > 0 else np.nan)
    ratios = np.array(ratios)
    if not np.isfinite(ratios).any():
      return evals.missing("not computed: colours do not vary in real clips")
    return common.value(
      intervals.mean(ratios),
      intervals.bootstrap(ratios, _RESAMPLES, 0),
      "higher",
      f"mean over clips; bootstrap, {_RESAMPLES} resamples",
      draws=_DRAWS,
    )


def _classes(clip: dict[str, Any], world: Any) -> np.ndarray:
  """(T, H, W) uint8: the class at each pixel; of sprites 0 is the ground."""
  if world is None:
    return clip["layout"]
  return np.where(clip["layout"] > 0, 1 + int(clip["label"]), 0).astype(
    np.uint8
  )


def _tables(seen: np.ndarray, maps: np.ndarray, classes: int) -> np.ndarray:
  """(N, K, K) pixels of each clip by what the map says and what is seen."""
  tables = []
  for ids, found in zip(maps, seen):
    known = ids != segmenter.UNKNOWN
    pairs = ids[known].astype(int) * classes + found[known]
    table = np.bincount(pairs, minlength=classes**2)
    tables.append(table.reshape(classes, classes))
  return np.stack(tables)


def _miou(table: np.ndarray) -> float:
  """Mean over the classes of the maps of |A and B| / |A or B|."""
  right, said, shown = np.diagonal(table), table.sum(1), table.sum(0)
  there = said > 0
  if not there.any():
    return float("nan")
  return float((right / np.maximum(said + shown - right, 1))[there].mean())


def _accuracy(table: np.ndarray) -> float:
  """Share of the pixels that are right."""
  return float(np.trace(table) / max(table.sum(), 1))


def _drift(video: np.ndarray, things: np.ndarray) -> float:
  """Root mean square way of the mean colour of a clip's things, levels."""
  ways = []
  for number in np.unique(things[things != segmenter.UNKNOWN]):
    masks = things == number
    frames = [f[m].mean(0) for f, m in zip(video, masks) if m.sum() >= _SEEN]
    if len(frames) > 1:
      ways.append(np.mean(np.square(frames - np.mean(frames, 0))))
  return float(np.sqrt(np.mean(ways))) if ways else float("nan")


def _colours(
  video: np.ndarray, things: np.ndarray, maps: np.ndarray
) -> dict[int, list[np.ndarray]]:
  """Mean colours (3,) of the things of clips, by their class."""
  colours: dict[int, list[np.ndarray]] = {}
  for clip, own, ids in zip(video, things, maps):
    for number in np.unique(own[own != segmenter.UNKNOWN]):
      mask = own == number
      if mask.sum() >= _SEEN:
        colours.setdefault(int(ids[mask][0]), []).append(clip[mask].mean(0))
  return colours


def _right(
  common: evals.Measurement, findings: list, clips: list, suffix: str
) -> Iterator[tuple[str, evals.Value]]:
  """Shares of clips of sprites that show the class and the number of a map."""
  named, counted = [], []
  for finding, clip in zip(findings, clips):
    number = len(np.setdiff1d(clip["layout"], [0, segmenter.UNKNOWN]))
    named.append(finding.label == int(clip["label"]))
    counted.append(
      finding.count == number and finding.explained >= objects.EXPLAINED
    )
  for name, right in (("class", named), ("number", counted)):
    interval = intervals.wilson(sum(right), len(right))
    better, how = "" if suffix else "higher", "share of clips; Wilson"
    value = common.value(np.mean(right), interval, better, how)
    yield f"layout/{name}{suffix}", value


def _centres(
  common: evals.Measurement, findings: list, found: list
) -> evals.Value:
  """How far objects are from where they are in the real clips."""
  gaps = np.array(
    [_gap(a.positions, b.positions) for a, b in zip(findings, found)]
  )
  gaps = gaps[np.isfinite(gaps)]
  if not len(gaps):
    return evals.missing("not computed: no clip shows an object")
  drawn = intervals.resampled(gaps, _RESAMPLES, 0, np.median)
  return common.value(
    float(np.median(gaps)),
    intervals.percentiles(drawn),
    "lower",
    f"median over clips; bootstrap, {_RESAMPLES} resamples",
    unit="pixels",
  )


def _gap(shown: np.ndarray, real: np.ndarray) -> float:
  """Median distance of paths (T, n, 2) from (T, m, 2), one to one, or NaN."""
  gap = np.linalg.norm(shown[:, :, None] - real[:, None], axis=-1)  # (T, n, m)
  known = np.isfinite(gap)
  cost = np.where(known, gap, 0).sum(0) / np.maximum(known.sum(0), 1)
  cost = np.where(known.any(0), cost, 1e6)
  rows, columns = optimize.linear_sum_assignment(cost)
  pairs = gap[:, rows, columns]
  pairs = pairs[np.isfinite(pairs)]
  return float(np.median(pairs)) if len(pairs) else float("nan")
