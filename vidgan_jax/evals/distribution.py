"""Two sets of clips, held against each other by one network's features.

One pass over the features of each set gives every figure of that network:
moments are streamed, and rows are kept for kernels and neighbours, at most
`KEEP` of them, so memory does not grow with the number of clips. What real
clips gave is kept on disk under a name that says all it depends on.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import math
import os
import pathlib
from typing import Any

import jax
import numpy as np
from scipy import stats

from vidgan_jax import evals
from vidgan_jax import sharding
from vidgan_jax.evals import features
from vidgan_jax.evals import statistics

KEEP = 10_000  # rows for kernels and neighbours
PARTS = 16  # of a sample, for intervals
VERSION = 1  # of what is on disk


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
  """A frozen network that turns clips into features.

  Attributes:
    apply: (params, (B, T, H, W, 3) uint8) -> (B, D), or (B, T, D) of frames.
      The same function each time: it is compiled once.
    params: its parameters.
    card: what it is, plain JSON: name, sha256 of the weights, protocol.
  """

  apply: Callable[[Any, jax.Array], jax.Array]
  params: Any
  card: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut:
  """Which frames of a clip count.

  Attributes:
    frames: how many; None: all there are.
    stride: from one to the next.
  """

  frames: int | None = None
  stride: int = 1

  @property
  def span(self) -> int | None:
    """Frames from the first to the last."""
    return self.frames and (self.frames - 1) * self.stride + 1

  def __call__(self, video: np.ndarray) -> np.ndarray:
    """(N, T, H, W, 3) -> (N, frames, H, W, 3)."""
    if self.span and video.shape[1] < self.span:
      raise ValueError(
        f"The clips have {video.shape[1]} frames, and {self.span} are needed "
        f"({self.frames}, each {self.stride}th): give longer clips (of a run: "
        "config.data.eval_ops), or ask for fewer frames."
      )
    return video[:, : self.span : self.stride]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
  """What is known of one set of clips.

  Attributes:
    parts: moments of its rows, in parts for intervals.
    rows: (n, D) float32, all rows or `KEEP` of them at random.
    num: clips.
    shape: (T, H, W) of a clip.
  """

  parts: tuple[statistics.Moments, ...]
  rows: np.ndarray
  num: int
  shape: tuple[int, ...]

  @property
  def whole(self) -> statistics.Moments:
    """Moments of all parts together."""
    return statistics.merged(self.parts)


# ---------------------------------------------------------------------- clips


def real_clips(
  source: Any, num: int, batch: int, cut: Cut = Cut()
) -> Iterator[np.ndarray]:
  """Yields the first `num` clips of a source, some at a time."""
  for start in range(0, num, batch):
    examples = source.read(range(start, min(start + batch, num)))
    shapes = {np.shape(example["video"]) for example in examples}
    if len(shapes) > 1:
      raise ValueError(
        f"Real clips have the shapes {sorted(shapes)}: they must be alike. Cut "
        "and resize them (of a run: config.data.eval_ops)."
      )
    yield cut(np.stack([example["video"] for example in examples]))


def generated_clips(
  model: Any, seed: int, num: int, batch: int, cut: Cut = Cut()
) -> Iterator[np.ndarray]:
  """Yields clips of a model, some at a time."""
  for video in model.stream(seed, num, batch, frames=cut.span):
    yield cut(video)


def card(source: Any, model: Any, **more: Any) -> dict[str, Any]:
  """The protocol of a figure: what is compared, and how."""
  return {
    "real": getattr(source, "card", None),
    "generated": getattr(model, "card", None),
  } | more


def short(
  asked: int, fake: int, real: int, asked_real: int | None = None
) -> str:
  """A note where fewer clips are there than asked for.

  Args:
    asked: generated clips, and real ones unless `asked_real` is given.
    fake: generated clips that are there.
    real: real ones.
    asked_real: real ones that were asked for.
  """
  asked_real = asked if asked_real is None else asked_real
  notes = [
    f"{kind} clips: asked {wanted}, there are {num}"
    for kind, wanted, num in (
      ("generated", asked, fake),
      ("real", asked_real, real),
    )
    if num < wanted
  ]
  return "; ".join(notes)


# -------------------------------------------------------------------- samples


def sample(
  videos: Iterable[np.ndarray],
  network: Network,
  num: int,
  batch: int = 32,
  parts: int = PARTS,
) -> Sample:
  """Features of clips as they come.

  Args:
    videos: (n, T, H, W, 3) uint8, n as it comes.
    network: gives the features.
    num: clips that will come, at most.
    batch: clips for one call; it changes no result. All devices of this
      process share it.
    parts: of the moments; fewer where there are fewer clips.
  """
  mesh = None
  if jax.device_count() > 1 and jax.process_count() == 1:
    mesh = sharding.make_mesh()
    batch = -(-batch // mesh.size) * mesh.size
  kept, seen, shape, keep = [], 0, None, None

  def checked():
    nonlocal shape
    for video in videos:
      shape = shape or video.shape[1:]
      if video.shape[1:] != shape:
        raise ValueError(
          f"A clip is {video.shape[1:]}, the first was {shape}: the clips of a "
          "set must be alike."
        )
      yield video

  def rows():
    nonlocal seen, keep
    for block in features.stream(
      network.apply, network.params, checked(), batch, mesh
    ):
      a_clip = block.shape[1] if block.ndim == 3 else 1
      block = block.reshape(-1, block.shape[-1])
      if keep is None:
        total = num * a_clip
        rng = np.random.default_rng(0)
        keep = np.ones(total, bool)
        if total > KEEP:
          keep[rng.permutation(total)[KEEP:]] = False
        kept.append(a_clip)
      start = seen * a_clip
      kept.append(block[keep[start : start + len(block)]])
      seen += len(block) // a_clip
      yield block

  found = statistics.grouped(rows(), max(1, min(parts, num)))
  return Sample(
    parts=tuple(found),
    rows=np.concatenate(kept[1:]),
    num=seen,
    shape=tuple(shape[:-1]),
  )


def real(
  source: Any,
  network: Network,
  num: int,
  batch: int = 32,
  parts: int = PARTS,
  cut: Cut = Cut(),
) -> Sample:
  """Features of real clips, from disk if they are there.

  A source with `cache`, a folder, and `fingerprint`, a text that changes with
  any of its clips, has them kept.
  """
  num = min(num, len(source))
  folder = getattr(source, "cache", None)
  path = None
  if folder is not None:
    name = statistics.digest(
      {
        "version": VERSION,
        "data": source.fingerprint,
        "network": dict(network.card),
        "cut": [cut.frames, cut.stride],
        "num": num,
        "parts": parts,
        "keep": KEEP,
      }
    )
    path = pathlib.Path(folder) / f"{name[:32]}.npz"
    if (found := _load(path)) is not None:
      return found
  clips = real_clips(source, num, batch, cut)
  found = sample(clips, network, num, batch, parts)
  if path is not None:
    _save(path, found)
  return found


def generated(
  model: Any,
  network: Network,
  num: int,
  seed: int,
  batch: int = 32,
  parts: int = PARTS,
  cut: Cut = Cut(),
) -> Sample:
  """Features of generated clips."""
  clips = generated_clips(model, seed, num, batch, cut)
  return sample(clips, network, num, batch, parts)


def _save(path: pathlib.Path, found: Sample) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f".{path.name}.{os.getpid()}.part")
  with open(part, "wb") as file:
    np.savez(
      file,
      nums=[p.num for p in found.parts],
      means=[p.mean for p in found.parts],
      scatters=[p.scatter for p in found.parts],
      rows=found.rows,
      num=found.num,
      shape=found.shape,
    )
  part.replace(path)


def _load(path: pathlib.Path) -> Sample | None:
  """None where there is nothing, or nothing whole: it is made again."""
  try:
    with np.load(path, allow_pickle=False) as file:
      return Sample(
        parts=tuple(
          statistics.Moments(num=int(n), mean=mean, scatter=scatter)
          for n, mean, scatter in zip(
            file["nums"], file["means"], file["scatters"]
          )
        ),
        rows=file["rows"],
        num=int(file["num"]),
        shape=tuple(map(int, file["shape"])),
      )
  except Exception:  # A damaged archive can fail in any way.
    return None


# -------------------------------------------------------------------- figures


def same_size(fake: Sample, real: Sample) -> None:
  """Refuses clips of different sizes: a distance would be that of sizes."""
  if fake.shape != real.shape:
    raise ValueError(
      f"Generated clips have (T, H, W) = {fake.shape}, real ones {real.shape}: "
      "bring both to one size and length, with --size and --frames."
    )


def frechet(fake: Sample, real: Sample) -> tuple[float, float, float]:
  """The Frechet distance with its 95 % interval; NaN ends without parts.

  The jackknife of `statistics`, to first order: leaving out part g changes the
  covariance A by A_g - A and the distance by

    2 (m - n) . (m_g - m) + tr (I - T) (A_g - A),

  with T the map that carries the one Gaussian to the other, so that the whole
  costs two distances and not one a part.
  """
  a, b = fake.whole, real.whole
  groups = min(len(fake.parts), len(real.parts))
  if groups < 3:
    return statistics.frechet(a, b), math.nan, math.nan
  root_a, inverse_a = _root(a.cov)
  root_b, inverse_b = _root(b.cov)
  u, singular, v = np.linalg.svd(root_a.T @ root_b, full_matrices=False)
  middle = u @ v  # (rank of A, rank of B)
  gap = a.mean - b.mean
  value = gap @ gap + np.trace(a.cov) + np.trace(b.cov) - 2 * singular.sum()
  value = max(float(value), 0.0)
  variance = 0.0
  for one, parts, slope, way in (
    (a, fake.parts, 2 * gap, root_b @ middle.T @ inverse_a),
    (b, real.parts, -2 * gap, root_a @ middle @ inverse_b),
  ):
    rest = np.eye(len(way)) - way.T
    spread = lambda x, rest=rest: np.sum(rest * x)  # tr (I - T) X
    changes = []
    for part in parts:
      left = one.num - part.num
      mean = (one.num * one.mean - part.num * part.mean) / left
      apart = mean - part.mean
      scatter = (
        spread(one.scatter)
        - spread(part.scatter)
        - left * part.num / one.num * (apart @ rest @ apart)
      )
      changes.append(
        slope @ (mean - one.mean) + scatter / (left - 1) - spread(one.cov)
      )
    variance += (len(parts) - 1) * np.var(changes)
  margin = stats.t.ppf(0.975, groups - 1) * math.sqrt(variance)
  return value, max(value - margin, 0.0), value + margin


def _root(cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """R with R R^T = cov, and its pseudo-inverse."""
  values, vectors = np.linalg.eigh(cov)
  there = values > values[-1] * len(values) * np.finfo(np.float64).eps
  root, vectors = np.sqrt(values[there]), vectors[:, there]
  return vectors * root, (vectors / root).T


def figures(
  fake: Sample,
  real: Sample,
  names: Mapping[str, str],
  protocol: Mapping[str, Any],
  note: str = "",
) -> Iterator[tuple[str, evals.Value]]:
  """Yields the figures of two samples.

  Args:
    fake: of generated clips.
    real: of real ones.
    names: what to compute -> the name it gets: 'frechet', 'kernel',
      'precision', 'recall', 'density', 'coverage'.
    protocol: of all of them.
    note: likewise.
  """
  same_size(fake, real)
  num = {"generated": fake.num, "real": real.num}
  size = {"size": list(fake.shape), "num": num}

  def value(which, estimator, number, low=math.nan, high=math.nan, why=""):
    ends = (low, high) if math.isfinite(low) else (None, None)
    facts = {**protocol, **size, "estimator": estimator}
    text = "; ".join(part for part in (note, why) if part)
    found = evals.Value(float(number), *ends, num, facts, text)
    return names[which], found

  if "frechet" in names:
    yield value(
      "frechet",
      "Frechet, unbiased covariances, float64",
      *frechet(fake, real),
      why=""
      if min(fake.num, real.num) > fake.rows.shape[1]
      else "fewer clips than features: the covariances are singular",
    )
  x, y = fake.rows, real.rows
  if "kernel" in names:
    text = "MMD^2, (x.y/D + 1)^3, unbiased"
    if min(len(x), len(y)) < 3:
      yield (
        names["kernel"],
        evals.missing("not computed: needs 3 clips of each"),
      )
    else:
      found = statistics.mmd(x, y)
      yield value("kernel", text, found.value, found.low, found.high)
  yield from _neighbours(x, y, names, value)


def _neighbours(x, y, names, value):
  """Precision, recall, density and coverage, without intervals."""
  for function, k in (
    (statistics.precision_recall, 3),
    (statistics.density_coverage, 5),
  ):
    for i, which in enumerate(function.__name__.split("_")):
      if which not in names:
        continue
      text = f"{which}, k = {k}"
      if min(len(x), len(y)) <= k:
        yield (
          names[which],
          evals.missing(f"not computed: needs more than {k} clips of each"),
        )
      else:
        yield value(which, text, function(x, y, k)[i])
