"""Whether a clip shows what was asked for in words, as the oracle sees it.

In the world of the sprites every word can be checked: the oracle reads number,
shape, colour and law of motion back from the pixels. Each share stands between
a floor, the same clips judged by the text of another clip, and a ceiling, real
clips judged by their own.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses

import numpy as np
from scipy import optimize

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax.data import sprites
from vidgan_jax.evals import objects
from vidgan_jax.measures import intervals

_RESAMPLES = 1000  # of the captions, for an interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """Asks for the captions of held-out clips and judges what comes.

  Yields shares of the clips, of what differs within the world:
    agreement/number: the number of objects, and nothing else is shown;
    agreement/shape: their shape;
    agreement/colour: their colours, by name, one to one;
    agreement/colour_near: the same, a neighbour on the circle of hues allowed;
    agreement/motion: the law that they follow;
    agreement/all: all of these, colours as in colour_near.
  Each of them also as NAME_floor and NAME_ceiling, see above, and of a world
  that holds pairs of colour and shape back, as held_NAME for such pairs alone.
    agreement/edits: one word of a plain caption is changed, the noise is kept:
      share of the edits after which what was named has changed to it and
      nothing else has; the place within a pixel unless the motion was named;
    agreement/spread: how far apart the first places of clips of one caption
      are, over that of real clips; 1 where the text leaves them free.

  Attributes:
    num: clips of each kind; about 40 take a second on one core.
    seed: of the noise.
  """

  num: int = 128
  seed: int = 0

  def run(self, sampler, reference) -> Iterator[tuple[str, evals.Value]]:
    """Yields the values.

    Raises:
      UserError: the clips are not of sprites, or no text is read.
    """
    if reference.world is None or getattr(sampler, "text", None) is None:
      raise errors.UserError(
        "evals.agreement asks a generator for what texts say, in the world of "
        "the sprites: it needs config.data.name='sprites' and a run that was "
        "trained with config.data.text. Take it out of evals otherwise."
      )
    world = sprites.World(**reference.world)
    splits = {"test": ""} | ({"held": "held_"} if world.hold else {})
    for split, prefix in splits.items():
      source = sprites.make(split, size=self.num, **reference.world)
      scenes = [source.scene(i) for i in range(self.num)]
      texts = source.captions(range(self.num))
      shown = objects.inspect(self._clips(sampler, texts), world)
      real = reference.once(
        ("agreement", split, self.num, len(sampler.times)),
        lambda source=source: objects.inspect_source(
          source, len(sampler.times)
        ),
      )
      sets = {
        "": _judge(shown, scenes, world),
        "_floor": _judge(shown, scenes[1:] + scenes[:1], world),
        "_ceiling": _judge(real, scenes, world),
      }
      for suffix, judged in sets.items():
        for name, right in judged.items():
          better = "" if suffix else "higher"
          yield f"agreement/{prefix}{name}{suffix}", self._share(right, better)
      if split == "test":
        yield "agreement/edits", self._edits(sampler, scenes, world)
        yield "agreement/spread", self._spread(sampler, texts, real, world)

  def _clips(self, sampler, texts: Sequence[str], index=None) -> np.ndarray:
    given = sampler.ask(len(texts), self.seed, text=list(texts))
    if index is not None:
      given["index"] = np.asarray(index)
    return sampler.clips(given, self.seed)

  def _share(self, right: Sequence[bool], better: str) -> evals.Value:
    interval = intervals.wilson(sum(right), len(right))
    common = evals.Measurement(num=len(right))
    how = "share of clips; Wilson"
    return common.value(float(np.mean(right)), interval, better, how)

  def _edits(self, sampler, scenes, world) -> evals.Value:
    """See `Evaluator`; each clip with an edit of one kind, in turn."""
    pairs = [_edit(scene, i, world) for i, scene in enumerate(scenes)]
    if pairs[0] is None:
      return evals.missing("not computed: this world has one sentence alone")
    before, after = (
      objects.inspect(
        self._clips(
          sampler, [sprites.caption(world, pair[k]) for pair in pairs]
        ),
        world,
      )
      for k in (0, 1)
    )
    right = []
    for a, b, (scene, edited, name) in zip(before, after, pairs):
      good = all(
        judge["all"][0]
        for judge in (_judge([a], [scene], world), _judge([b], [edited], world))
      )
      if good and name != "motion":
        gap = np.abs(a.positions[:, :, None] - b.positions[:, None])
        good = np.nanmedian(gap.max(-1).min(-1)) <= 1
      right.append(bool(good))
    return self._share(right, "higher")

  def _spread(self, sampler, texts, real, world) -> evals.Value:
    """See `Evaluator`: 8 clips of each of up to 16 captions."""
    texts = texts[: min(16, max(1, self.num // 8))]
    clips = self._clips(sampler, [text for text in texts for _ in range(8)])
    shown = objects.inspect(clips, world)
    groups = [_places(shown[i : i + 8]) for i in range(0, len(shown), 8)]
    within = np.array([g.std(0).mean() for g in groups if len(g) > 3])
    whole = _places(real)
    if not len(within) or len(whole) < 4:
      return evals.missing("not computed: too few clips show an object")
    ratio = within / whole.std(0).mean()
    interval = intervals.bootstrap(ratio, _RESAMPLES, 0)
    common = evals.Measurement(num=len(shown))
    how = f"mean over captions; bootstrap, {_RESAMPLES} resamples"
    return common.value(float(ratio.mean()), interval, "higher", how)


def _places(findings: Sequence[objects.Finding]) -> np.ndarray:
  """The first known place of each clip's first object: (n, 2) pixels."""
  places = []
  for finding in findings:
    if finding.count:
      path = finding.positions[:, 0]
      places.append(path[np.isfinite(path).all(-1)][0])
  return np.array(places).reshape(-1, 2)


def _judge(
  findings: Sequence[objects.Finding],
  scenes: Sequence[sprites.Scene],
  world: sprites.World,
) -> dict[str, list[bool]]:
  """What of each scene its finding shows: name -> one a clip."""
  judged: dict[str, list[bool]] = {}

  def add(name, right):
    judged.setdefault(name, []).append(bool(right))

  for finding, scene in zip(findings, scenes):
    number = (
      finding.count == len(scene.radius)
      and finding.explained >= objects.EXPLAINED
    )
    right = [number]
    add("number", number)
    if len(world.shapes) > 1:
      right.append(finding.shape == scene.shape)
      add("shape", right[-1])
    if world.palette == "random":
      far = _colour_gap(finding.colours, scene.hue)
      right.append(far <= 1)
      add("colour", far == 0)
      add("colour_near", far <= 1)
    if world.motion == "mixed":
      right.append(finding.motion == scene.motion)
      add("motion", right[-1])
    add("all", all(right))
  return judged


def _colour_gap(colours: np.ndarray, hues: np.ndarray) -> float:
  """Largest distance of colours (n, 3) from hues, in names on the circle."""
  if len(colours) != len(hues):
    return np.inf
  place = sprites.HUES.index
  seen = np.array([place(sprites.colour_name(colour)) for colour in colours])
  wanted = np.array([place(sprites.hue_name(hue)) for hue in hues])
  way = np.abs(seen[:, None] - wanted)
  way = np.minimum(way, len(sprites.HUES) - way)
  return way[optimize.linear_sum_assignment(way**2)].max()


def _edit(scene: sprites.Scene, number: int, world: sprites.World):
  """(scene, the scene with one word changed, what was changed), or None."""
  kinds = [
    name
    for name, varies in (
      ("colour", world.palette == "random"),
      ("shape", len(world.shapes) > 1),
      ("motion", world.motion == "mixed"),
    )
    if varies
  ]
  if not kinds:
    return None
  name = kinds[number % len(kinds)]
  if name == "colour":
    change = {"hue": (scene.hue + 1 / 3) % 1}
  elif name == "shape":
    shapes = world.shapes
    after = shapes[(shapes.index(scene.shape) + 1) % len(shapes)]
    change = {"shape": after}
  else:
    [after] = set(sprites.MOTIONS) - {scene.motion}
    change = {"motion": after}
  return scene, dataclasses.replace(scene, **change), name
