"""`restoration`: a model beside the classical answers, on the same clips.

For tasks that have a right answer: PSNR, SSIM, sliced Wasserstein distance of
Laplacian patches (texture), and the error of what moves (flicker), of the
model, of the base that it starts from and of every baseline of the task; and
the gain over the *best* of these, with its 95 % bootstrap interval over clips.
"""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import functools

import jax
import numpy as np

from vidgan_jax.evals import fidelity
from vidgan_jax.models import bases


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
  """What was measured of one way to answer.

  Attributes:
    psnr: (N,) dB, one a clip; NaN where nothing counts.
    ssim: (N,).
    temporal: (N,) levels of 8 bits.
    swd: of all clips together.
  """

  psnr: np.ndarray
  ssim: np.ndarray
  temporal: np.ndarray
  swd: float

  def means(self) -> dict[str, float]:
    """Name -> mean over the clips."""
    return {
      "psnr": _mean(self.psnr),
      "ssim": _mean(self.ssim),
      "swd": self.swd,
      "temporal": _mean(self.temporal),
    }


@dataclasses.dataclass(kw_only=True)
class Evaluator:
  """Measures on the first clips of the held-out split.

  The classical answers are measured once; they do not change.

  Attributes:
    num: clips, at most.
    seed: of the model's noise, of the patches and of the bootstrap.
    bootstrap: resamples for the interval.
    batch: clips at a time.
    text: the table, after `run`.
  """

  num: int = 60
  seed: int = 0
  bootstrap: int = 1000
  batch: int = 8

  def __post_init__(self):
    self.text = ""
    self._pairs = None
    self._classical: dict[str, Figures] = {}

  def run(self, model, source) -> Iterator[tuple[str, float]]:
    """Yields the figures; `source` has `pairs` and `task` (`EvalClips`)."""
    if self._pairs is None:
      self._pairs = source.pairs(range(min(self.num, len(source))))
      if not self._pairs:
        raise ValueError("There are no held-out clips to measure on.")
    generator = model.generator
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
            self._measure(name, one)
            for one in getattr(answer, "strengths", [answer])
          ),
          key=lambda figures: _mean(figures.psnr),
        )
    apply = functools.partial(model.apply, seed=self.seed)
    mine = self._measure("the model", apply)

    for name, value in mine.means().items():
      yield f"restoration/{name}", value
    others = {n: f for n, f in self._classical.items() if n in answers}
    gain = None
    if others:
      best = max(others, key=lambda n: _mean(others[n].psnr))
      gain = mine.psnr - others[best].psnr
      low, high = interval(gain, self.bootstrap, self.seed)
      yield "restoration/gain", _mean(gain)
      yield "restoration/gain_low", low
      yield "restoration/gain_high", high
      yield "restoration/best", _mean(others[best].psnr)
    for other, figures in others.items():
      for name, value in figures.means().items():
        yield f"restoration/{name}/{other}", value

    names = {n: f"base ({base})" if n == "base" else n for n in others}
    self.text = _table(
      {"model": mine} | {names[n]: f for n, f in others.items()}
    )
    if gain is not None:
      self.text += (
        f"\n  gain over {names[best]}: {_mean(gain):+.2f} dB"
        f" [{low:+.2f}, {high:+.2f}], 95 % of {self.bootstrap} resamples of"
        f" {np.isfinite(gain).sum()} clips"
      )

  def _measure(self, name: str, answer: Callable) -> Figures:
    """Figures of `answer`: (given, times) -> video, on all pairs."""
    psnr, ssim, temporal, fakes, targets = [], [], [], [], []
    for start in range(0, len(self._pairs), self.batch):
      pairs = self._pairs[start : start + self.batch]
      # The last batch is filled up, so that a model compiles once.
      full = pairs + pairs[-1:] * (self.batch - len(pairs))
      given = jax.tree.map(lambda *x: np.stack(x), *[p["given"] for p in full])
      times = np.stack([p["times"] for p in full]).astype(np.float32)
      videos = np.asarray(answer(given, times), np.float32)
      for i, (pair, video) in enumerate(zip(pairs, videos)):
        target, weight = np.asarray(pair["target"]), pair.get("weight")
        if video.shape != target.shape:
          raise ValueError(
            f"{name} made a clip of shape {video.shape} for a target of "
            f"{target.shape}: scale and frames must be the task's."
          )
        video = video.clip(-1, 1)
        psnr.append(fidelity.psnr(video, target, weight))
        ssim.append(fidelity.ssim(video, target, weight))
        temporal.append(fidelity.temporal_error(video, target, weight))
        patches = functools.partial(
          fidelity.descriptors, weight=weight, seed=self.seed + start + i
        )
        fakes.append(patches(video))
        targets.append(patches(target))
    join = lambda clips: [np.concatenate(level) for level in zip(*clips)]
    return Figures(
      psnr=np.array(psnr),
      ssim=np.array(ssim),
      temporal=np.array(temporal),
      swd=fidelity.sliced_wasserstein(join(fakes), join(targets), self.seed),
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
  wide = max(map(len, rows))
  lines = [f"  {'':<{wide}}   PSNR dB     SSIM  SWD x1e3  temporal"]
  for name, figures in rows.items():
    m = figures.means()
    lines.append(
      f"  {name:<{wide}}  {m['psnr']:8.2f} {m['ssim']:8.4f}"
      f"  {m['swd']:8.1f}  {m['temporal']:8.2f}"
    )
  return "\n".join(lines)
