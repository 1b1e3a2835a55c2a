"""`restoration`: a model beside the classical answers, on the same clips.

For tasks that have a right answer: PSNR, SSIM, sliced Wasserstein distance of
Laplacian patches (texture), and the error of what moves (flicker), of the
model, of the base that it starts from and of every baseline of the task; and
the gain over the *best* of these, with its 95 % bootstrap interval over clips.
A task may ask for more (`Task.measures`): luma or colours by themselves, or,
where the frames to come are predicted, PSNR by how far ahead they are. LPIPS
joins them where its weights are installed.
"""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import functools
import math
from typing import Any

import jax
import numpy as np

from vidgan_jax import baselines
from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax.evals import distribution
from vidgan_jax.evals import paired
from vidgan_jax.evals import perceptual
from vidgan_jax.measures import fidelity
from vidgan_jax.measures import intervals
from vidgan_jax.measures import texture
from vidgan_jax.models import bases

ALWAYS = ("psnr", "ssim", "temporal")
AHEAD = "psnr_ahead"  # psnr_1 of the first frame to come, psnr_2, ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
  """How a figure says whether a model is better than the best other answer.

  Attributes:
    prefix: before 'gain' and 'best'.
    text: before the name of that answer.
  """

  prefix: str = ""
  text: str = "gain over"


JUDGES = {
  "psnr": Judge(),
  "chroma_error": Judge(prefix="chroma_", text="chroma error below that of"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
  """What was measured of one way to answer.

  Attributes:
    clips: name -> (N,), one a clip; NaN where nothing counts.
    swd: of all clips together; None where it was not measured.
  """

  clips: dict[str, np.ndarray]
  swd: float | None = None

  def mean(self, name: str) -> float:
    """Over the clips; NaN where nothing counts in any."""
    return intervals.mean(self.clips[name])

  def means(self) -> dict[str, float | None]:
    """Name -> mean over the clips."""
    return {name: self.mean(name) for name in self.clips} | {"swd": self.swd}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Questions:
  """The examples, which every way to answer is asked.

  Attributes:
    examples: as the task prepares them.
    measures: name -> what is measured of an answer.
    seed: of the patches.
    batch: examples at a time.
  """

  examples: list[dict]
  measures: dict[str, paired.Metric]
  seed: int
  batch: int

  def classical(self, name: str, answer: Callable) -> Figures:
    """Figures at the best strength of an answer: a straw man proves nothing."""
    tuned = isinstance(answer, baselines.Baseline)
    return max(
      (
        self.measure(name, strength)
        for strength in (answer.strengths if tuned else [answer])
      ),
      key=lambda figures: figures.mean("psnr"),
    )

  def measure(
    self,
    name: str,
    answer: Callable,
    with_texture: bool = True,
  ) -> Figures:
    """Figures of `answer`: (given, times) -> video, on all examples."""
    clips, fakes, targets = {n: [] for n in self.measures}, [], []
    for start in range(0, len(self.examples), self.batch):
      part = self.examples[start : start + self.batch]
      for i, (example, video) in enumerate(zip(part, self._ask(answer, part))):
        target, weight = np.asarray(example["target"]), example.get("weight")
        if video.shape != target.shape:
          raise errors.UserError(
            f"{name} made a clip of shape {video.shape} for a target of "
            f"{target.shape}: scale and frames must be the task's."
          )
        for key, measure in self.measures.items():
          clips[key].append(measure.function(video, target, weight))
        if with_texture:
          patches = functools.partial(
            texture.descriptors, weight=weight, seed=self.seed + start + i
          )
          fakes.append(patches(video))
          targets.append(patches(target))
    clips = {n: np.array(x) for n, x in clips.items()}
    if not with_texture:
      return Figures(clips=clips)
    join = lambda clips: [np.concatenate(level) for level in zip(*clips)]
    swd = texture.sliced_wasserstein(join(fakes), join(targets), self.seed)
    return Figures(clips=clips, swd=swd)

  def _ask(self, answer: Callable, examples: list[dict]) -> np.ndarray:
    """The answers to at most `batch` examples, in [-1, 1]."""
    # The last batch is filled up, so that a model compiles once.
    full = examples + examples[-1:] * (self.batch - len(examples))
    given = jax.tree.map(lambda *x: np.stack(x), *[e["given"] for e in full])
    times = np.stack([e["times"] for e in full]).astype(np.float32)
    videos = np.asarray(answer(given, times), np.float32)
    return videos[: len(examples)].clip(-1, 1)

  def best(self, model: Figures, draws: list[Callable]) -> Figures:
    """Of each clip the figures of the draw whose PSNR is the best."""
    psnrs = {n: m for n, m in self.measures.items() if n.startswith("psnr")}
    psnr = dataclasses.replace(self, measures=psnrs)
    drawn = [
      model,
      *(psnr.measure("the model", draw, with_texture=False) for draw in draws),
    ]
    chosen = np.argmax([f.clips["psnr"] for f in drawn], 0)
    clip = np.arange(len(chosen))
    return Figures(
      clips={
        n: np.stack([f.clips[n] for f in drawn])[chosen, clip] for n in psnrs
      }
    )

  def exhibit(
    self, answers: list[Callable], model: Figures, text: str
  ) -> evals.Exhibit:
    """Answers side by side with the target, of the best and worst clips."""
    psnr = model.clips["psnr"]
    order = np.argsort(-psnr, kind="stable")
    order = order[np.isfinite(psnr[order])]
    half = self.batch // 2
    chosen = [*order[:half], *order[half:][-half:]] if half else order[:1]
    if not len(chosen):
      return evals.Exhibit(text=text)

    def clips():
      """(n, T, H, W of all, 3) uint8."""
      part = [self.examples[i] for i in chosen]
      videos = [self._ask(answer, part) for answer in answers]
      videos.append(np.stack([example["target"] for example in part]))
      videos = np.concatenate(videos, 3) * 127.5 + 127.5
      return np.rint(videos).astype(np.uint8)

    return evals.Exhibit(
      clips=clips,
      scores=psnr[chosen],
      score="PSNR, dB",
      better="higher",
      text=text,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """Measures on the first clips of the held-out split.

  The classical answers are measured once; they do not change.

  Attributes:
    num: clips, at most.
    seed: of the model's noise, of the patches and of the bootstrap.
    bootstrap: resamples for the interval.
    num_samples: answers drawn of a model with noise. The first is *the* model;
      of several, also the figures of each clip's best by PSNR are given, with
      `_best_of_N` behind their names (Denton and Fergus 2018).
    batch: clips at a time.
  """

  num: int = 60
  seed: int = 0
  bootstrap: int = 1000
  num_samples: int = 1
  batch: int = 8

  def run(self, sampler, reference) -> Iterator[tuple[str, Any]]:
    """Yields the figures, and pictures of the best and of the worst clips."""
    examples = self._examples(reference)
    generator = sampler.generator
    if self.num_samples > 1 and not generator.noise_spec(0.0):
      raise errors.UserError(
        f"num_samples is {self.num_samples}, but this generator takes no noise "
        "and has one answer: set it to 1, or train with "
        "config.model.generator.noise_dim=16, say."
      )
    measures = _measures(reference.task.footage.measures, examples[0])
    questions = _Questions(
      examples=examples, measures=measures, seed=self.seed, batch=self.batch
    )
    base = getattr(generator, "base", None)
    answers = dict(reference.task.baselines)
    scale = getattr(generator, "scale", 1)
    if base is not None:
      answers = {"base": functools.partial(_base, base, scale)} | answers
    others = {
      name: reference.once(
        ("restoration", name, base, scale, tuple(measures), self),
        lambda n=name, a=answer: questions.classical(n, a),
      )
      for name, answer in answers.items()
    }
    labels = {n: f"base ({base})" if n == "base" else n for n in others}
    draws = [
      functools.partial(sampler.apply, seed=self.seed + i)
      for i in range(self.num_samples)
    ]
    model = questions.measure("the model", draws[0])
    rows = {"model": model} | {labels[n]: f for n, f in others.items()}
    tables = [f"restoration, step {sampler.step}:", _table(rows)]
    common = distribution.measurement(
      sampler,
      reference,
      len(examples),
      seed=self.seed,
      estimator="mean over clips, each classical answer at its best strength",
    )
    values = self._values(common, model, measures)
    notes = []
    for name, judge in JUDGES.items():
      if others and name in measures:
        more, note = self._gain(common, name, judge, model, others, labels)
        values |= more
        notes.append(note)
    if self.num_samples > 1:
      label = f"best of {self.num_samples}"
      best = questions.best(model, draws[1:])
      suffix = "_" + label.replace(" ", "_")
      more = self._values(common, best, measures)
      values |= {name + suffix: value for name, value in more.items()}
      notes.append(
        f"  {label} samples of each clip: {best.mean('psnr'):.2f} dB"
      )
      rows = {"model": model, label: best} | rows
    for name, figures in others.items():
      more = self._values(common, figures, measures)
      values |= {f"{n}/{name}": value for n, value in more.items()}
    for name, value in values.items():
      yield f"restoration/{name}", value
    ahead = [n for n in measures if n not in paired.ANSWERS]
    if ahead:
      tables.append(_table_ahead(rows, ahead))
    shown = [answers["base"]] if base is not None else []
    yield (
      "Base, model and target",
      questions.exhibit(
        [*shown, draws[0]], model, "\n".join([*tables, *notes])
      ),
    )

  def _examples(self, reference) -> list[dict]:
    """The clips as the task prepares them."""
    if reference.task is None or reference.task.footage is None:
      raise errors.UserError(
        "restoration measures a run of a task on given clips, as denoise: give "
        "its WORKDIR. Videos that are aligned are compared by --paired."
      )
    num = min(self.num, len(reference))
    examples = reference.once(
      ("restoration", num), lambda: reference.clips.prepared(range(num))
    )
    if not examples:
      raise errors.UserError("There are no held-out clips to measure on.")
    return examples

  def _values(self, common, figures, measures) -> dict[str, evals.Value]:
    """The means of some figures, with their intervals."""
    values = {
      name: self._value(common, numbers, measures[name])
      for name, numbers in figures.clips.items()
    }
    if figures.swd is not None:
      small = "not computed: nothing counts, or pictures are below 16 pixels"
      values["swd"] = dataclasses.replace(common, num=None).value(
        figures.swd,
        None,
        "lower",
        note=small * math.isnan(figures.swd),
        reason="one figure of all clips",
      )
    return values

  def _value(self, common, numbers, measure, better=None) -> evals.Value:
    """The mean of one number a clip, with its interval over clips."""
    numbers, interval = numbers[np.isfinite(numbers)], None
    if len(numbers) > 1:
      interval = intervals.bootstrap(numbers, self.bootstrap, self.seed)
    return dataclasses.replace(common, num=len(numbers)).value(
      intervals.mean(numbers),
      interval,
      measure.better if better is None else better,
      unit=measure.unit,
    )

  def _gain(self, common, name, judge, model, others, labels):
    """How much better than the best other answer the model is, in words too."""
    measure = paired.ANSWERS[name]
    sign = 1 if measure.better == "higher" else -1
    best = max(others, key=lambda n: sign * others[n].mean(name))
    theirs = others[best].clips[name]
    gains = sign * (model.clips[name] - theirs)
    gain = self._value(common, gains, measure, "higher")
    # The verdict is whether the model is better: of pairs, so more exact than
    # two intervals side by side.
    alike = gain.low is not None and gain.low <= 0 <= gain.high
    verdict = f": {evals.NOT_APART}" * alike
    gain = dataclasses.replace(gain, note=f"over {best}{verdict}")
    values = {
      f"{judge.prefix}gain": gain,
      f"{judge.prefix}best": self._value(common, theirs, measure, ""),
    }
    note = f"  {judge.text} {labels[best]}: {gain.value:+.2f} {measure.unit}"
    if gain.low is not None:
      note += (
        f" [{gain.low:+.2f}, {gain.high:+.2f}], 95 % of {self.bootstrap} "
        f"resamples of {gain.num} clips{verdict}"
      )
    return values, note


def _measures(
  asked: tuple[str, ...], example: dict
) -> dict[str, paired.Metric]:
  """What is measured of every task, and what this one asks for beside it."""
  names = [*ALWAYS, *(n for n in asked if n != AHEAD)]
  if perceptual.measurable(example["target"].shape[1:3]):
    names.append("lpips")
  measures = {n: paired.ANSWERS[n] for n in names}
  if AHEAD in asked:
    given = np.asarray(example["weight"]).min((1, 2, 3)) == 0
    first = len(given) - given[::-1].argmax()
    for frame in range(first, len(given)):
      ahead = str(frame - first + 1)
      measures[f"psnr_{ahead}"] = dataclasses.replace(
        paired.ANSWERS["psnr"],
        function=functools.partial(_psnr_of, frame),
        heading=ahead,
      )
  return measures


def _psnr_of(frame, fake, target, weight):
  """PSNR of one frame."""
  only = slice(frame, frame + 1)
  return fidelity.psnr(fake[only], target[only], weight[only])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _base(name, scale, given, times):
  return bases.BASES[name](given, times, scale)


def _table(rows: dict[str, Figures]) -> str:
  """One row a way to answer."""
  names = [n for n in paired.ANSWERS if n in rows["model"].clips]
  head = [paired.ANSWERS[n].heading for n in names] + ["SWD x1e3"]
  digits = [paired.ANSWERS[n].digits for n in names] + [1]
  means = [figures.means() for figures in rows.values()]
  table = [[row[n] for n in [*names, "swd"]] for row in means]
  return _layout("", head, digits, list(rows), table)


def _table_ahead(rows: dict[str, Figures], names: list[str]) -> str:
  """PSNR of the first frame to come, of the second, ..."""
  head = [n.removeprefix("psnr_") for n in names]
  table = [[f.mean(n) for n in names] for f in rows.values()]
  title = "PSNR dB, frames ahead"
  return _layout(title, head, [2] * len(head), list(rows), table)


def _layout(title, head, digits, names, table) -> str:
  """Lines of a table under its headings."""
  wide = max(map(len, [title, *names]))
  widths = [max(len(h), 7) for h in head]
  cells = "".join(f"  {h:>{w}}" for h, w in zip(head, widths))
  lines = [f"  {title:<{wide}}{cells}"]
  for name, row in zip(names, table):
    cells = "".join(f"  {x:{w}.{d}f}" for x, w, d in zip(row, widths, digits))
    lines.append(f"  {name:<{wide}}{cells}")
  return "\n".join(lines)
