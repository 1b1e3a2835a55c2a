"""Whether a clip is told, by its text or its sound, from others: R@1 of 64.

A frozen expert (experts.py) compares clips with conditions. Of a generator it
measures the clips that it draws, of the run of an expert the real ones: how
good a judge it is.
"""

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

import numpy as np

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax import experts
from vidgan_jax.data import sprites
from vidgan_jax.measures import intervals

SIZE = 64  # Conditions that a clip is compared with, all different.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """Asks for the conditions of held-out clips; which is each clip's own?

  Yields shares of the clips:
    retrieval/r1: of 64 different conditions their own is the nearest;
    retrieval/r1_real: the same of the real clips, where a generator is judged;
    retrieval/r1_floor: of clips that show anything.
  Of an expert of texts in the world of the sprites, whose real clips are
  judged, also
    retrieval/shape, colour, motion: what it shows is the nearest of plain
      captions that differ in this word alone (Radford et al. 2021, section 3.1:
      reading without training).
  Captions of sprites are different here if what they mean is.

  Attributes:
    expert: workdir of a run of configs/align.py or a .safetensors file of its
      weights, not one that the generator was trained with; '': the run that is
      evaluated is an expert itself.
    num: clips.
    seed: of the noise.
  """

  expert: str = ""
  num: int = 256
  seed: int = 0

  def run(self, sampler, reference) -> Iterator[tuple[str, evals.Value]]:
    """Yields the values.

    Raises:
      UserError: there is no expert, or it reads something else.
    """
    expert, note = experts.judge(self.expert, sampler)
    if expert is None:
      raise errors.UserError(
        "evals.retrieval needs a judge: set evals.retrieval.expert to the "
        "workdir of a run of configs/align.py, or take it out of evals."
      )
    groups = _groups(reference, expert, self.num)
    size = len(groups[0])
    if size < 2:
      yield (
        "retrieval/r1",
        evals.missing("not computed: all clips have one condition"),
      )
      return
    examples = reference.clips.prepared(np.concatenate(groups))
    given, sets = experts.shown(sampler, examples, self.seed)
    common = evals.Measurement(
      protocol={"conditions": size, "expert": expert.digest},
      num=len(examples),
      note=note,
    )
    for suffix, (video, times) in sets.items():
      pairs, right = expert.pairs(video, given, times), []
      for start in range(0, len(video), size):
        group = {name: x[start : start + size] for name, x in pairs.items()}
        right += list(_own_is_nearest(group))
      better = "" if suffix else "higher"
      yield f"retrieval/r1{suffix}", _share(right, common, better)
    texts = reference.world is not None and expert.reads("match")
    if texts and experts.of(sampler) is not None:
      scenes = [*map(_scenes(reference), np.concatenate(groups))]
      world = sprites.World(**reference.world)
      yield from self._words(expert, sets[""], scenes, world, common)
    reason = f"it is 1 / {size}"
    yield "retrieval/r1_floor", common.value(1 / size, None, "", reason=reason)

  def _words(
    self, expert, real, scenes, world, common
  ) -> Iterator[tuple[str, evals.Value]]:
    """See `Evaluator`: a word of a plain caption among others of its kind."""
    video, times = real
    for name, others in _other_words(world).items():
      texts = [
        [sprites.caption(world, other) for other in (scene, *others(scene))]
        for scene in scenes
      ]
      width = len(texts[0])
      tokens = np.stack(
        [expert.network.text.tokens(text) for row in texts for text in row]
      )
      # What a text says does not depend on the clip: one small frame of each.
      blank = np.zeros((len(tokens), 1, 4, 4, 3), np.float32)
      told = expert.pairs(blank, {"text": tokens}, blank[:, :, 0, 0, 0])
      told = told["match"][:, 1].reshape(len(scenes), width, -1)
      own = {"text": tokens[::width]}
      shown = expert.pairs(video, own, times)["match"][:, 0]
      scores = np.einsum("in,ikn->ik", shown, told)
      right = scores[:, 0] > scores[:, 1:].max(1)
      yield f"retrieval/{name}", _share(right, common, "higher", words=width)


def _share(right: Sequence[bool], common, better: str, **facts) -> evals.Value:
  interval = intervals.wilson(int(np.sum(right)), len(right))
  how = "share of clips; Wilson"
  return common.value(float(np.mean(right)), interval, better, how, **facts)


def _own_is_nearest(pairs: Mapping[str, np.ndarray]) -> np.ndarray:
  """(N,) bool: which clips are nearer to their own condition than to others.

  Args:
    pairs: unit vectors (N, ..., 2, n); the cosines of all kinds and of all
      frames are added up.
  """
  total = 0.0
  for pair in pairs.values():
    a, b = (pair[..., i, :].reshape(len(pair), -1) for i in (0, 1))
    total = total + a @ b.T
  own = np.diagonal(total)
  others = np.where(np.eye(len(total), dtype=bool), -np.inf, total)
  return own > others.max(1)


def _groups(
  reference: evals.Reference, expert: experts.Expert, num: int
) -> list[np.ndarray]:
  """Numbers of held-out clips, `SIZE` of different conditions in each group.

  Where there are not as many different ones, one group of all.
  """
  groups, group, seen = [], [], set()
  told = _told(reference, expert)
  for i in range(len(reference)):
    if (key := told(i)) in seen:
      continue
    seen.add(key)
    group.append(i)
    if len(group) == SIZE:
      groups.append(np.array(group))
      group, seen = [], set()
      if len(groups) * SIZE >= num:
        break
  return groups or [np.array(group)]


def _scenes(reference: evals.Reference) -> Callable[[int], sprites.Scene]:
  """Number of a held-out clip -> its `sprites.Scene`."""
  size = len(reference)
  return sprites.make("test", size=size, **reference.world).scene


def _told(
  reference: evals.Reference, expert: experts.Expert
) -> Callable[[int], Hashable]:
  """Number of a held-out clip -> what it is told, in short."""
  if reference.world is not None and expert.reads("match"):
    world, scenes = sprites.World(**reference.world), _scenes(reference)
    return lambda i: sprites.caption(world, scenes(i))

  def told(i):
    given = reference.clips.prepared([i])[0]["given"]
    return tuple(x.tobytes() for k, x in sorted(given.items()) if k != "video")

  return told


def _other_words(
  world: sprites.World,
) -> dict[str, Callable[[sprites.Scene], list[sprites.Scene]]]:
  """What varies -> (scene -> the scenes with another one of these)."""
  change = lambda scene, **fields: dataclasses.replace(scene, **fields)
  hues = np.arange(len(sprites.HUES)) / len(sprites.HUES)
  others = {
    "shape": lambda scene: [
      change(scene, shape=x) for x in world.shapes if x != scene.shape
    ],
    "colour": lambda scene: [
      change(scene, hue=np.full_like(scene.hue, x))
      for x in hues
      if sprites.hue_name(x) != sprites.hue_name(scene.hue[0])
    ],
    "motion": lambda scene: [
      change(scene, motion=x) for x in sprites.MOTIONS if x != scene.motion
    ],
  }
  varies = {
    "shape": len(world.shapes) > 1,
    "colour": world.palette == "random",
    "motion": world.motion == "mixed",
  }
  return {name: others[name] for name in others if varies[name]}
