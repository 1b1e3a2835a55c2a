"""Whether what is seen happens when it is heard.

A frozen expert (experts.py) says it of any clips. In the world of the sprites a
bounce is a tone and a small object sounds high: there the oracle reads both
back from the pixels. Of clips at 8 frames a second a frame is 125 ms: this is
not a measure of the lips of a speaker.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses

import numpy as np
from scipy import optimize
from scipy import stats

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax import experts
from vidgan_jax.data import sound
from vidgan_jax.data import sprites
from vidgan_jax.evals import objects
from vidgan_jax.measures import intervals

_JUMP = 0.4  # of the usual speed: a change that no law but a bounce makes
_LISTED = 20  # clips out of step
_RESAMPLES = 1000  # of the clips, for an interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """Draws clips of held-out sounds and looks when things bounce.

  Yields, over `num` clips:
    sync/av_iou: of the onsets of a clip's sound and the events of its picture,
      matched one to one within a frame, the share that has a partner, hits /
      (onsets + events - hits); the mean over clips that have any (AV-Align of
      Yariv et al. 2024, with one partner each). An event is a change of
      velocity that the laws of motion do not make;
    sync/av_iou_shuffled: the same with the sound of the next clip, the floor;
    sync/av_iou_real: the same of real clips, the ceiling of this measure;
    sync/gain: av_iou less av_iou_shuffled of the same clips;
    sync/pitch_size: rank correlation of the objects' radius with 1 / pitch, of
      clips of one object.
  With an expert also, of clips of any data (Chung and Zisserman 2016, section
  4.1), d_k the mean distance of a clip's frames and the sounds k frames later,
  k from -8 to 8, or up to half of a short clip:
    sync/offset: the k of the least d_k, in the mean over clips: above 0 what is
      heard comes late;
    sync/confidence: median of d_k less their minimum, the mean over clips;
    sync/in_step: the share of clips whose own least d_k is d_0.
  These of a generator also as NAME_real. The run of an expert is judged on the
  real clips alone, and the clips that are out of step are listed.

  Attributes:
    expert: workdir of a run of configs/align.py or a .safetensors file of its
      weights, not one that the generator was trained with; '': none, or the run
      that is evaluated is one itself.
    num: clips; about 40 take a second on one core.
    seed: of the noise.
  """

  expert: str = ""
  num: int = 128
  seed: int = 0

  def run(self, sampler, reference) -> Iterator[tuple[str, evals.Value]]:
    """Yields the values.

    Raises:
      UserError: the clips are not of sprites and there is no expert, or it does
        not fit.
    """
    expert, note = experts.judge(self.expert, sampler)
    if expert is not None:
      yield from self._offsets(expert, note, sampler, reference)
    if reference.world is not None and experts.of(sampler) is None:
      yield from self._bounces(sampler, reference)
    elif expert is None:
      raise errors.UserError(
        "evals.sync knows the sounds of the world of the sprites alone: set "
        "config.data.name='sprites', or evals.sync.expert to a run of configs/"
        "align.py, or take it out of evals."
      )

  def _offsets(self, expert, note, sampler, reference) -> Iterator[tuple]:
    """See `Evaluator`."""
    if not expert.reads("sync"):
      raise errors.UserError(
        f"evals.sync: the expert {expert.source} has learnt of texts, not of "
        "sounds: name one of configs/align.py:of=sound."
      )
    examples = reference.clips.prepared(range(min(self.num, len(reference))))
    given, sets = experts.shown(sampler, examples, self.seed)
    how = f"mean over clips; bootstrap, {_RESAMPLES} resamples"
    for suffix, (video, times) in sets.items():
      gaps = distances(expert.pairs(video, given, times)["sync"])
      reach, best = gaps.shape[1] // 2, gaps.argmin(1)
      common = evals.Measurement(
        protocol={"shifts": 2 * reach + 1, "expert": expert.digest},
        num=len(gaps),
        note=note,
      )
      better = "" if suffix else "higher"
      sure = np.median(gaps, 1) - gaps.min(1)
      right = int((best == reach).sum())
      offset = common.value(
        gaps.mean(0).argmin() - reach,
        None,
        "",
        unit="frames",
        reason="it is one of few whole numbers",
      )
      interval = intervals.bootstrap(sure, _RESAMPLES, 0)
      confidence = common.value(sure.mean(), interval, better, how)
      interval = intervals.wilson(right, len(best))
      in_step = common.value(
        right / len(best), interval, better, "share of clips; Wilson"
      )
      yield f"sync/offset{suffix}", offset
      yield f"sync/confidence{suffix}", confidence
      yield f"sync/in_step{suffix}", in_step
    if experts.of(sampler) is not None:
      gap = float(np.median(np.diff(times)))
      yield "Out of step", _out_of_step(best - reach, sure, gap)

  def _bounces(self, sampler, reference) -> Iterator[tuple[str, evals.Value]]:
    """Yields the values of the world of the sprites."""
    world = sprites.World(**reference.world)
    source = sprites.make("test", size=self.num, **reference.world)
    scenes = [source.scene(i) for i in range(self.num)]
    waves = [sprites.audio(world, scene) for scene in scenes]
    times = np.asarray(sampler.times, np.float64)
    rows = [sound.rows(wave, times, 1 / world.fps) for wave in waves]
    given = sampler.ask(self.num, self.seed, sound=np.stack(rows))
    shown = objects.inspect(sampler.clips(given, self.seed), world)
    heard = [sound.onsets(wave) for wave in waves]
    last = times[-1] + 0.5 / world.fps
    heard = [onsets[onsets < last] for onsets in heard]
    real = reference.once(
      ("sync", self.num, len(times)),
      lambda: objects.inspect_source(source, len(times)),
    )
    seen = [events(finding, world) for finding in shown]
    known = [events(finding, world) for finding in real]
    tolerance = 1 / world.fps
    own = np.array([iou(*x, tolerance) for x in zip(heard, seen)])
    turned = heard[1:] + heard[:1]
    others = np.array([iou(*x, tolerance) for x in zip(turned, seen)])
    truth = np.array([iou(*x, tolerance) for x in zip(heard, known)])
    common = evals.Measurement(
      protocol={"tolerance": tolerance}, num=len(scenes)
    )
    how = f"mean over clips; bootstrap, {_RESAMPLES} resamples"
    for name, values, better in (
      ("av_iou", own, "higher"),
      ("av_iou_shuffled", others, ""),
      ("av_iou_real", truth, ""),
      ("gain", own - others, "higher"),
    ):
      interval = intervals.bootstrap(values, _RESAMPLES, 0)
      number = intervals.mean(values)
      yield f"sync/{name}", common.value(number, interval, better, how)
    yield "sync/pitch_size", self._pitch(shown, scenes, world)

  def _pitch(self, findings, scenes, world) -> evals.Value:
    pairs = [
      (finding.radii[0], sprites.pitch(world, scene, 0))
      for finding, scene in zip(findings, scenes)
      if finding.count == len(scene.radius) == 1
    ]
    if len(pairs) < 8:
      return evals.missing("not computed: too few clips of one object")
    radii, pitches = np.array(pairs).T
    number = stats.spearmanr(radii, 1 / pitches).statistic
    # Fisher's z of a rank correlation (Bonett and Wright 2000).
    half = intervals.Z * np.sqrt((1 + number**2 / 2) / max(len(pairs) - 3, 1))
    middle = np.arctanh(np.clip(number, 1e-12 - 1, 1 - 1e-12))
    interval = float(np.tanh(middle - half)), float(np.tanh(middle + half))
    common = evals.Measurement(num=len(pairs))
    how = "Spearman's rank correlation; Fisher's z"
    return common.value(float(number), interval, "higher", how)


def distances(pairs: np.ndarray) -> np.ndarray:
  """How far frames are from what is heard some frames later.

  Args:
    pairs: (N, T, 2, n) unit vectors of frames and of their sounds.

  Returns:
    (N, 2 K + 1) mean Euclidean distances d_k, k from -K to K, of the frames
    whose partner is within the clip: at least half, so that K = min(8, T // 2).
  """
  length = pairs.shape[1]
  reach = min(8, length // 2)
  gaps = []
  for k in range(-reach, reach + 1):
    frames = pairs[:, max(-k, 0) : length - max(k, 0), 0]
    sounds = pairs[:, max(k, 0) : length - max(-k, 0), 1]
    gaps.append(np.linalg.norm(frames - sounds, axis=-1).mean(1))
  return np.stack(gaps, 1)


def _out_of_step(
  offset: np.ndarray, sure: np.ndarray, gap: float
) -> evals.Exhibit:
  """A list of the clips whose sound is not in step, the surest first."""
  order = [i for i in np.argsort(-sure) if offset[i]]
  lines = [
    f"  clip {i:5d}: sound {abs(offset[i])} frames ({abs(offset[i]) * gap:.3f} "
    f"s) {'late' if offset[i] > 0 else 'early'}, confidence {sure[i]:.3f}"
    for i in order[:_LISTED]
  ]
  head = f"{len(order)} of {len(offset)} clips are out of step"
  head += f"; the {_LISTED} surest:" if len(order) > _LISTED else ":"
  return evals.Exhibit(text="\n".join([head, *lines]) if order else "")


def events(finding: objects.Finding, world: sprites.World) -> np.ndarray:
  """When objects change their velocity as no law but a bounce does: seconds.

  Of the ways v_t from frame t to t + 1 the change is v_t - v_(t-1) - g, g the
  gravity where things fall. A bounce between two frames is seen in the changes
  at both: what is seen at neighbouring frames is one event, at their mean
  weighted by the change.
  """
  when = []
  for i in range(finding.count):
    way = finding.velocities[:, i]
    change = np.diff(way, axis=0)
    if finding.motion == "gravity":
      change = change - [0, world.gravity * world.resolution / world.fps**2]
    size = np.nan_to_num(np.hypot(*change.T))
    usual = np.nanmedian(np.hypot(*way.T)) if np.isfinite(way).any() else 0.0
    marked = size > max(_JUMP * usual, 0.5)
    for start in np.flatnonzero(marked & ~np.append(False, marked[:-1])):
      end = start + 1
      while end < min(start + 2, len(marked)) and marked[end]:
        end += 1
      at = np.arange(start, end) + 1  # change k is at frame k + 1
      when.append(np.average(at, weights=size[start:end]) / world.fps)
  return np.sort(np.array(when))


def iou(
  heard: Sequence[float], seen: Sequence[float], tolerance: float
) -> float:
  """Share of all events that have a partner; NaN where there is none at all."""
  total = len(heard) + len(seen)
  if not total:
    return float("nan")
  gap = np.abs(np.subtract.outer(np.asarray(heard), np.asarray(seen)))
  near = gap <= tolerance + 1e-9
  hits = near[optimize.linear_sum_assignment(near, maximize=True)].sum()
  return float(hits / (total - hits))
