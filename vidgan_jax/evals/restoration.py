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
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import functools

import jax
import numpy as np

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax.evals import distribution
from vidgan_jax.evals import perceptual
from vidgan_jax.measures import fidelity
from vidgan_jax.measures import texture
from vidgan_jax.models import bases

# Name -> heading, decimals, (fake, target, weight) -> figure of one clip.
MEASURES = {
  "psnr": ("PSNR dB", 2, fidelity.psnr),
  "ssim": ("SSIM", 4, fidelity.ssim),
  "temporal": ("temporal", 2, fidelity.temporal_error),
  "psnr_y": ("PSNR-Y dB", 2, fidelity.psnr_y),
  "chroma_error": ("chroma", 2, fidelity.chroma_error),
  "psnr_chroma": ("chroma dB", 2, fidelity.psnr_chroma),
  "temporal_chroma": ("its temporal", 2, fidelity.temporal_chroma),
  "lpips": ("LPIPS", 4, perceptual.lpips),
}
ALWAYS = ("psnr", "ssim", "temporal")
AHEAD = "psnr_ahead"  # psnr_1 of the first frame to come, psnr_2, ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
  """How a figure tells whether a model is better than the best other answer.

  Attributes:
    sign: 1 if more is better, -1 if less is.
    prefix: before 'gain', 'gain_low', 'gain_high' and 'best'.
    text: before the name of that answer.
    unit: of the gain.
  """

  sign: int = 1
  prefix: str = ""
  text: str = "gain over"
  unit: str = "dB"


JUDGES = {
  "psnr": Judge(),
  "chroma_error": Judge(
    sign=-1,
    prefix="chroma_",
    text="chroma error below that of",
    unit="levels",
  ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
  """What was measured of one way to answer.

  Attributes:
    clips: name -> (N,), one a clip; NaN where nothing counts.
    swd: of all clips together; NaN where it was not measured.
  """

  clips: dict[str, np.ndarray]
  swd: float = float("nan")

  def means(self) -> dict[str, float]:
    """Name -> mean over the clips."""
    return {n: _mean(x) for n, x in self.clips.items()} | {"swd": self.swd}

  def values(self, known: Callable) -> dict[str, evals.Value]:
    """The means with their intervals; `known` makes a `Value` of numbers."""
    swd = dataclasses.replace(
      known(np.array([self.swd])),
      num=None,
      note="no interval: one figure of all clips",
    )
    return {n: known(x) for n, x in self.clips.items()} | {"swd": swd}


@dataclasses.dataclass(kw_only=True)
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
    text: the table, after `run`.
    panels: (n, T, H, 3 W, 3) uint8 after `run`, at most `batch` clips of the
      highest and the lowest PSNR: base, model and target side by side.
    panel_psnr: (n,), of the model.
  """

  num: int = 60
  seed: int = 0
  bootstrap: int = 1000
  num_samples: int = 1
  batch: int = 8

  def __post_init__(self):
    self.text = ""
    self.panels = self.panel_psnr = None
    self._source = self._pairs = None
    self._classical: dict[str, Figures] = {}

  def run(self, model, source) -> Iterator[tuple[str, evals.Value]]:
    """Yields the figures; `source` is a `reference.Clips`, for its task."""
    if not hasattr(source, "prepared"):
      raise errors.UserError(
        "restoration measures a run of a task: give a WORKDIR. Videos that are "
        "aligned are compared by --paired."
      )
    if source is not self._source:
      self._source, self._classical = source, {}
      self._pairs = source.prepared(range(min(self.num, len(source))))
      if not self._pairs:
        raise errors.UserError("There are no held-out clips to measure on.")
    generator = model.generator
    if self.num_samples > 1 and not generator.noise_spec(0.0):
      raise errors.UserError(
        f"num_samples is {self.num_samples}, but this generator takes no noise "
        "and has one answer: set it to 1, or train with "
        "config.model.generator.noise_dim=16, say."
      )
    measures = _measures(source.task.measures, self._pairs[0])
    base = getattr(generator, "base", None)
    answers = dict(source.task.baselines)
    if base is not None:
      start = functools.partial(_base, base, getattr(generator, "scale", 1))
      answers = {"base": start} | answers
    for name, answer in answers.items():
      if name not in self._classical:
        # The best strength of each: a straw man proves nothing.
        self._classical[name] = max(
          (
            self._measure(name, one, measures)
            for one in getattr(answer, "strengths", [answer])
          ),
          key=lambda figures: _mean(figures.clips["psnr"]),
        )
    draw = lambda i: functools.partial(model.apply, seed=self.seed + i)
    mine = self._measure("the model", draw(0), measures)
    self._show([*([start] if base is not None else []), draw(0)], mine)
    others = {n: self._classical[n] for n in answers}
    names = {n: f"base ({base})" if n == "base" else n for n in others}
    rows = {"model": mine} | {names[n]: f for n, f in others.items()}
    protocol = distribution.card(
      source,
      model,
      seed=self.seed,
      estimator="mean over clips, each classical answer at its best strength",
      num=len(self._pairs),
    )
    known = functools.partial(self._value, protocol)
    values, notes = mine.values(known), []
    table = _table(rows)
    for name, judge in JUDGES.items():
      if others and name in measures:
        best, gain = _gain(name, judge.sign, mine, others)
        over = dataclasses.replace(known(gain), note=f"over {best}")
        values[f"{judge.prefix}gain"] = over
        values[f"{judge.prefix}best"] = known(others[best].clips[name])
        span = (
          ""
          if over.low is None
          else (
            f" [{over.low:+.2f}, {over.high:+.2f}], 95 % of {self.bootstrap}"
            f" resamples of {over.num} clips"
          )
        )
        notes.append(
          f"  {judge.text} {names[best]}: {over.value:+.2f} {judge.unit}{span}"
        )
    if self.num_samples > 1:
      label = f"best of {self.num_samples}"
      psnrs = {n: f for n, f in measures.items() if n.startswith("psnr")}
      more = [
        self._measure("the model", draw(i), psnrs, with_texture=False)
        for i in range(1, self.num_samples)
      ]
      best = _best([mine, *more], psnrs)
      suffix = "_" + label.replace(" ", "_")
      values |= {n + suffix: known(x) for n, x in best.clips.items()}
      notes.append(
        f"  {label} samples of each clip: {_mean(best.clips['psnr']):.2f} dB"
      )
      rows = {"model": mine, label: best} | rows
    for other, figures in others.items():
      values |= {f"{n}/{other}": x for n, x in figures.values(known).items()}

    ahead = [n for n in measures if n not in MEASURES]
    if ahead:
      table += "\n" + _table_ahead(rows, ahead)
    self.text = "\n".join([table, *notes])
    for name, value in values.items():
      yield f"restoration/{name}", value

  def _value(self, protocol: dict, numbers: np.ndarray) -> evals.Value:
    """The mean of one number a clip, with its interval over clips."""
    numbers = numbers[np.isfinite(numbers)]
    ends, note = (None, None), "no interval: too few clips"
    if len(numbers) > 1:
      ends, note = interval(numbers, self.bootstrap, self.seed), ""
    return evals.Value(_mean(numbers), *ends, len(numbers), protocol, note)

  def _measure(
    self,
    name: str,
    answer: Callable,
    measures: dict[str, Callable],
    with_texture: bool = True,
  ) -> Figures:
    """Figures of `answer`: (given, times) -> video, on all pairs."""
    clips, fakes, targets = {n: [] for n in measures}, [], []
    for start in range(0, len(self._pairs), self.batch):
      pairs = self._pairs[start : start + self.batch]
      for i, (pair, video) in enumerate(zip(pairs, self._ask(answer, pairs))):
        target, weight = np.asarray(pair["target"]), pair.get("weight")
        if video.shape != target.shape:
          raise errors.UserError(
            f"{name} made a clip of shape {video.shape} for a target of "
            f"{target.shape}: scale and frames must be the task's."
          )
        for key, measure in measures.items():
          clips[key].append(measure(video, target, weight))
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

  def _ask(self, answer: Callable, pairs: list[dict]) -> np.ndarray:
    """What one answers to at most `batch` pairs, in [-1, 1]."""
    # The last batch is filled up, so that a model compiles once.
    full = pairs + pairs[-1:] * (self.batch - len(pairs))
    given = jax.tree.map(lambda *x: np.stack(x), *[p["given"] for p in full])
    times = np.stack([p["times"] for p in full]).astype(np.float32)
    videos = np.asarray(answer(given, times), np.float32)
    return videos[: len(pairs)].clip(-1, 1)

  def _show(self, answers: list[Callable], mine: Figures) -> None:
    """Keeps pictures of the best and of the worst clips."""
    psnr = mine.clips["psnr"]
    order = np.argsort(-psnr, kind="stable")
    order = order[np.isfinite(psnr[order])]
    half = self.batch // 2
    chosen = [*order[:half], *order[half:][-half:]] if half else order[:1]
    if not len(chosen):
      return
    pairs = [self._pairs[i] for i in chosen]
    videos = [self._ask(answer, pairs) for answer in answers]
    videos.append(np.stack([p["target"] for p in pairs]))
    videos = np.concatenate(videos, 3) * 127.5 + 127.5
    self.panels = np.rint(videos).astype(np.uint8)
    self.panel_psnr = psnr[chosen]


def _measures(asked: tuple[str, ...], pair: dict) -> dict[str, Callable]:
  """Name -> function, of what is measured always and what the task asks for."""
  names = [*ALWAYS, *(n for n in asked if n != AHEAD)]
  if perceptual.measurable(pair["target"].shape[1:3]):
    names.append("lpips")
  found = {n: MEASURES[n][2] for n in names}
  if AHEAD in asked:
    known = np.asarray(pair["weight"]).min((1, 2, 3)) == 0
    first = len(known) - known[::-1].argmax()
    for frame in range(first, len(known)):
      found[f"psnr_{frame - first + 1}"] = functools.partial(_psnr_of, frame)
  return found


def _psnr_of(frame, fake, target, weight):
  one = slice(frame, frame + 1)
  return fidelity.psnr(fake[one], target[one], weight[one])


def _gain(
  name: str, sign: int, mine: Figures, others: dict[str, Figures]
) -> tuple[str, np.ndarray]:
  """Which other answer is the best, and how much better mine is, (N,)."""
  best = max(others, key=lambda n: sign * _mean(others[n].clips[name]))
  return best, sign * (mine.clips[name] - others[best].clips[name])


def _best(drawn: list[Figures], names: Iterable[str]) -> Figures:
  """Of each clip the figures of the sample whose PSNR is best."""
  chosen = np.argmax([f.clips["psnr"] for f in drawn], 0)
  clip = np.arange(len(chosen))
  return Figures(
    clips={
      n: np.stack([f.clips[n] for f in drawn])[chosen, clip] for n in names
    }
  )


def interval(
  values: np.ndarray, resamples: int, seed: int
) -> tuple[float, float]:
  """95 % interval of a mean by the percentile bootstrap (Efron 1979).

  Args:
    values: (N,), one a clip; NaN are left out.
    resamples: of N clips each, drawn with replacement.
    seed: of the draws.
  """
  values = values[np.isfinite(values)]
  if not len(values):
    return float("nan"), float("nan")
  rng = np.random.default_rng(seed)
  drawn = rng.integers(0, len(values), (resamples, len(values)))
  low, high = np.percentile(values[drawn].mean(1), (2.5, 97.5))
  return float(low), float(high)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _base(name, scale, given, times):
  return bases.BASES[name](given, times, scale)


def _mean(values: np.ndarray) -> float:
  values = values[np.isfinite(values)]
  return float(values.mean()) if len(values) else float("nan")


def _table(rows: dict[str, Figures]) -> str:
  """One row a way to answer."""
  names = [n for n in MEASURES if n in rows["model"].clips]
  head = [MEASURES[n][0] for n in names] + ["SWD x1e3"]
  digits = [MEASURES[n][1] for n in names] + [1]
  table = []
  for figures in rows.values():
    means = figures.means()
    table.append([means[n] for n in [*names, "swd"]])
  return _layout("", head, digits, list(rows), table)


def _table_ahead(rows: dict[str, Figures], names: list[str]) -> str:
  """PSNR of the first frame to come, of the second, ..."""
  head = [n.removeprefix("psnr_") for n in names]
  table = [[_mean(f.clips[n]) for n in names] for f in rows.values()]
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
