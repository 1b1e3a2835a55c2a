"""Two sets of clips, held against each other by one network's features.

`compare` is all that an evaluator of such a distance needs: one pass over the
features of each set gives every figure of that network. Moments are streamed,
and rows are kept for kernels, neighbours and intervals, at most `KEEP` of them,
so memory does not grow with the number of clips. What real clips gave is kept
as long as they are, and on disk under a name that says all it depends on. With
several processes each computes its share, and all get the whole.
"""

import abc
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import functools
import io
import logging
import math
import pathlib
from typing import Any
from typing import ClassVar

import flax.linen as nn
import jax
from jax.experimental import multihost_utils
import numpy as np

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax.evals import features
from vidgan_jax.measures import frechet
from vidgan_jax.measures import kernels
from vidgan_jax.measures import neighbours
from vidgan_jax.nets import store as weights
from vidgan_jax.store import digest
from vidgan_jax.store import files

KEEP = 10_000  # rows for kernels, neighbours and intervals
PARTS = 16  # of a set, for the intervals of neighbours
LEAST = 6  # clips that have a fifth neighbour
VERSION = 2  # of what is on disk


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


@functools.cache
def through(
  net: Any, network: nn.Module, protocol: str, output: str
) -> Callable[[Any, jax.Array], jax.Array]:
  """Clips through a network: `Network.apply`, the same for equal arguments.

  Args:
    net: module of nets/, for its `preprocess`.
    network: its network.
    protocol: of `preprocess`.
    output: which of the network's.
  """

  def apply(params, video):
    video = net.preprocess(video, protocol)
    return network.apply({"params": params}, video)[output]

  return apply


def trained(name: str, apply: Callable, features: str, input: str) -> Network:
  """A network of nets/ with its public weights.

  Args:
    name: of `weights.names()`.
    apply: as in `Network`.
    features: which they are, in words.
    input: how clips are brought to it, in words.

  Raises:
    weights.Missing: they are not there.
  """
  params, sha256 = weights.load(name)
  facts = {"features": features, "weights": sha256, "input": input}
  return Network(apply=apply, params=params, card={"network": name} | facts)


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
      raise errors.UserError(
        f"The clips have {video.shape[1]} frames, and {self.span} are needed "
        f"({self.frames}, each {self.stride}th): give longer clips (of a run: "
        "config.data.eval_ops), or ask for fewer frames."
      )
    return video[:, : self.span : self.stride]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
  """What is known of one set of clips.

  Attributes:
    moments: of its rows.
    rows: (n, D) float32, those of a clip one after the other: of all clips, or
      of as many at random as have `KEEP`.
    num: clips.
    shape: (T, H, W) of a clip.
  """

  moments: frechet.Moments
  rows: np.ndarray
  num: int
  shape: tuple[int, ...]

  @property
  def each(self) -> int:
    """Rows of a clip: 1, or its frames."""
    return self.moments.num // self.num

  @functools.cached_property
  def normal(self) -> dict[str, str]:
    """What precision and the others are of real clips, half against half."""
    clips = _by_clip(self)
    order = np.random.default_rng(0).permutation(len(clips))
    halves = np.array_split(order, 2)
    if min(map(len, halves)) < LEAST:
      return {}
    width = self.rows.shape[1]
    numbers = neighbours.shares(
      *(clips[half].reshape(-1, width) for half in halves)
    )
    how = f"of {len(halves[0])} and {len(halves[1])} clips"
    return {
      name: f"real against real {number:.3g} {how}"
      for name, number in numbers._asdict().items()
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison(evals.Measurement):
  """Generated and real clips, seen by one network.

  Attributes:
    fake: of generated clips.
    real: of real ones.
  """

  fake: Sample
  real: Sample

  @property
  def kept(self) -> str:
    """What to say of a figure of the rows, where not all were kept."""
    kept = [(len(s.rows), s.moments.num) for s in (self.fake, self.real)]
    if all(n == of for n, of in kept):
      return ""
    (a, m), (b, n) = kept
    return f"of {a} of the {m} generated rows and {b} of the {n} real ones"


# ---------------------------------------------------------------------- clips


def real_clips(
  reference: Any, num: int, batch: int, cut: Cut = Cut(), first: int = 0
) -> Iterator[np.ndarray]:
  """Yields the clips `first` to `num` of a reference, `batch` at a time."""
  for start in range(first, num, batch):
    examples = reference.read(range(start, min(start + batch, num)))
    shapes = {np.shape(example["video"]) for example in examples}
    if len(shapes) > 1:
      raise errors.UserError(
        f"Real clips have the shapes {sorted(shapes)}: they must be alike. Cut "
        "and resize them (of a run: config.data.eval_ops)."
      )
    yield cut(np.stack([example["video"] for example in examples]))


def generated_clips(
  sampler: Any,
  seed: int,
  num: int,
  batch: int,
  cut: Cut = Cut(),
  first: int = 0,
) -> Iterator[np.ndarray]:
  """Yields the clips `first` to `num` of a sampler, or of clips in files."""
  if isinstance(sampler, evals.Reference):
    num = min(num, len(sampler))
    yield from real_clips(sampler, num, batch, cut, first)
    return
  given = {name: x[first:] for name, x in sampler.ask(num, seed).items()}
  for video in sampler.stream(given, seed, batch=batch, frames=cut.span):
    yield cut(video)


def length(reference: evals.Reference, frames: int, stride: int = 1) -> str:
  """How long clips are, as papers write it: '16f', '128f_subsample8f'.

  Papers count the frames before every k-th is taken; clips of files may be of
  every k-th frame already.
  """
  stride *= (reference.card or {}).get("stride", 1)
  return f"{frames * stride}f" + f"_subsample{stride}f" * (stride > 1)


def measurement(
  sampler: Any,
  reference: evals.Reference | None,
  num: Any = None,
  note: str = "",
  **facts: Any,
) -> evals.Measurement:
  """What the values of one evaluation have in common.

  Args:
    sampler: what was measured.
    reference: what it was compared with, if with anything.
    num: clips of each, see `evals.Value`; the protocol has it too.
    note: see `evals.Value`.
    **facts: how it was measured.
  """
  cards = {
    "real": reference and reference.card,
    "generated": sampler.card,
  }
  return evals.Measurement(
    protocol=cards | facts | {"num": num}, num=num, note=note
  )


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


def compare(
  sampler: Any,
  reference: evals.Reference,
  network: Network,
  *,
  num: int,
  seed: int,
  batch: int = 32,
  cut: Cut = Cut(),
  num_real: int | None = None,
) -> Comparison:
  """Generated and real clips, seen by one network.

  Args:
    sampler: a `sampler.Sampler`, or clips of files.
    reference: real clips. Where it has a `cache`, what is known of them is kept
      there.
    network: gives the features.
    num: generated clips, and real ones unless `num_real` is given, at most.
    seed: of the generated clips.
    batch: clips at a time; it changes no figure.
    cut: which frames count.
    num_real: real clips, at most.

  Raises:
    ValueError: the sets differ in size: a distance would be that of sizes.
  """
  asked = num if num_real is None else num_real
  known = real(reference, network, asked, batch, cut)
  fake = generated(sampler, network, num, seed, batch, cut)
  if fake.shape != known.shape:
    raise errors.UserError(
      f"Generated clips have (T, H, W) = {fake.shape}, real ones "
      f"{known.shape}: bring both to one size and length, with --size and "
      "--frames."
    )
  common = measurement(
    sampler,
    reference,
    {"generated": fake.num, "real": known.num},
    short(num, fake.num, known.num, asked),
    **network.card,
    frames=cut.frames,
    stride=cut.stride,
    size=list(fake.shape),
    seed=seed,
  )
  return Comparison(fake=fake, real=known, **vars(common))


def real(
  reference: evals.Reference,
  network: Network,
  num: int,
  batch: int = 32,
  cut: Cut = Cut(),
) -> Sample:
  """Features of real clips, from disk if they are there."""
  num = min(num, len(reference))
  settings = {
    "version": VERSION,
    "network": dict(network.card),
    "cut": [cut.frames, cut.stride],
    "num": num,
    "keep": KEEP,
  }

  def make():
    path, features_of_real = None, None
    if reference.cache is not None:
      name = digest.of(settings | {"data": reference.fingerprint})
      path = pathlib.Path(reference.cache) / f"{name[:32]}.npz"
      features_of_real = _load(path)
    if all(_gathered(b"there" if features_of_real else b"")):
      return features_of_real  # On the disk of each process.
    clips = lambda first, last: real_clips(reference, last, batch, cut, first)
    features_of_real = _shared(clips, network, num, batch)
    if path is not None and jax.process_index() == 0:
      try:
        _save(path, features_of_real)
      except OSError as error:
        logging.getLogger(__name__).warning(
          "Features of real clips are not kept, and computed again next time: "
          "%s",
          error,
        )
    return features_of_real

  return reference.once(digest.of(settings), make)


def generated(
  sampler: Any,
  network: Network,
  num: int,
  seed: int,
  batch: int = 32,
  cut: Cut = Cut(),
) -> Sample:
  """Features of generated clips."""
  if isinstance(sampler, evals.Reference):
    num = min(num, len(sampler))
  clips = lambda first, last: generated_clips(
    sampler, seed, last, batch, cut, first
  )
  return _shared(clips, network, num, batch)


def sample(
  videos: Iterable[np.ndarray],
  network: Network,
  num: int,
  batch: int = 32,
  first: int = 0,
) -> Sample:
  """Features of clips as they come, on all devices of this process.

  Args:
    videos: (n, T, H, W, 3) uint8, n as it comes.
    network: gives the features.
    num: clips of the whole set; these may be a part of it.
    batch: clips for one call; it changes no result.
    first: number of the first clip in the whole set.
  """
  devices, mesh = jax.local_devices(), None
  if len(devices) > 1:
    mesh = jax.sharding.Mesh(np.array(devices), ("data",))
    batch = -(-batch // len(devices)) * len(devices)
  kept, seen, shape, keep = [], first, None, None

  def checked():
    nonlocal shape
    for video in videos:
      shape = shape or video.shape[1:]
      if video.shape[1:] != shape:
        raise errors.UserError(
          f"A clip is {video.shape[1:]}, the first was {shape}: the clips of a "
          "set must be alike."
        )
      yield video

  def rows():
    nonlocal seen, keep
    for block in features.stream(
      network.apply, network.params, checked(), batch, mesh
    ):
      if keep is None:
        most = max(1, KEEP // (block.shape[1] if block.ndim == 3 else 1))
        keep = np.ones(num, bool)
        keep[np.random.default_rng(0).permutation(num)[most:]] = False
      chosen = block[keep[seen : seen + len(block)]]
      seen += len(block)
      kept.append(chosen.reshape(-1, block.shape[-1]))
      yield block.reshape(-1, block.shape[-1])

  return Sample(
    moments=frechet.moments(rows()),
    rows=np.concatenate(kept),
    num=seen - first,
    shape=tuple(shape[:-1]),
  )


# ------------------------------------------------------------------ processes


def _shared(
  clips: Callable[[int, int], Iterable[np.ndarray]],
  network: Network,
  num: int,
  batch: int,
) -> Sample:
  """Features of `num` clips, `clips(first, last)`, a share a process."""
  processes, i = jax.process_count(), jax.process_index()
  if num < 2 * processes:  # Moments want two clips.
    return sample(clips(0, num), network, num, batch)
  cuts = [num * j // processes for j in range(processes + 1)]
  part = sample(clips(cuts[i], cuts[i + 1]), network, num, batch, cuts[i])
  if processes == 1:
    return part
  parts = [_unpacked(data) for data in _gathered(_packed(part))]
  return Sample(
    moments=frechet.merged(part.moments for part in parts),
    rows=np.concatenate([part.rows for part in parts]),
    num=num,
    shape=part.shape,
  )


def _gathered(data: bytes) -> list[bytes]:
  """Those of all processes: numbers of 64 bits would come back with 32."""
  if jax.process_count() == 1:
    return [data]
  gather = multihost_utils.process_allgather
  lengths = gather(np.array(len(data), np.int32))
  padded = np.zeros(lengths.max(), np.uint8)
  padded[: len(data)] = np.frombuffer(data, np.uint8)
  return [bytes(row[:n]) for row, n in zip(gather(padded), lengths)]


def _packed(sample: Sample) -> bytes:
  file = io.BytesIO()
  np.savez(
    file,
    rows_seen=sample.moments.num,
    mean=sample.moments.mean,
    scatter=sample.moments.scatter,
    rows=sample.rows,
    num=sample.num,
    shape=sample.shape,
  )
  return file.getvalue()


def _unpacked(data: bytes) -> Sample:
  with np.load(io.BytesIO(data), allow_pickle=False) as file:
    return Sample(
      moments=frechet.Moments(
        num=int(file["rows_seen"]), mean=file["mean"], scatter=file["scatter"]
      ),
      rows=file["rows"],
      num=int(file["num"]),
      shape=tuple(map(int, file["shape"])),
    )


def _save(path: pathlib.Path, sample: Sample) -> None:
  files.write_bytes(path, _packed(sample))


def _load(path: pathlib.Path) -> Sample | None:
  """None where there is nothing, or nothing whole: it is made again."""
  try:
    return _unpacked(path.read_bytes())
  except Exception:  # A damaged archive can fail in any way.
    return None


# ------------------------------------------------------------------ evaluators


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distance(abc.ABC):
  """What evaluators have in common that compare features of one network.

  One of them says its `network` and its `names`, and where there is more to
  say than `figures` does, its own `figures`. Where `frames`, `stride` or `real`
  is an option, it is a field there.

  Class attributes:
    least: real clips that it needs; two have a covariance.

  Attributes:
    num: generated clips, and at most as many real ones unless `real` says more.
    seed: of the generated clips.
    batch: clips at a time; it changes no value.
    frames: of a clip; None: all.
    stride: from one frame to the next.
    real: real clips, at most.
  """

  least: ClassVar[int] = 2
  frames: ClassVar[int | None] = None
  stride: ClassVar[int] = 1
  real: ClassVar[int | None] = None
  num: int = 2048
  seed: int = 1
  batch: int = 32

  @abc.abstractmethod
  def network(self, reference: evals.Reference) -> Network:
    """The network, or `weights.Missing`."""

  @abc.abstractmethod
  def names(self, num: int, reference: evals.Reference) -> dict[str, str]:
    """Figure -> its name, of `num` generated clips, see `names`."""

  def with_length(self, name: str, reference: evals.Reference) -> str:
    """The name, with the length of the clips behind if it is not 16 frames."""
    clip = length(reference, self.frames, self.stride)
    return name if clip == "16f" else f"{name}_{clip}"

  def figures(
    self, comparison: Comparison, names: Mapping[str, str]
  ) -> Iterator[tuple[str, evals.Value]]:
    """Yields the values."""
    return figures(comparison, names)

  def compare(self, sampler: Any, reference: evals.Reference) -> Comparison:
    """Generated and real clips, seen by the network."""
    return compare(
      sampler,
      reference,
      self.network(reference),
      num=self.num,
      num_real=self.real,
      seed=self.seed,
      batch=self.batch,
      cut=Cut(frames=self.frames, stride=self.stride),
    )

  def run(self, sampler, reference) -> Iterator[tuple[str, evals.Value]]:
    """Yields the figures, or why there are none."""
    try:
      comparison = self.compare(sampler, reference)
    except weights.Missing as error:
      name, *_ = self.names(self.num, reference).values()
      yield name, evals.missing(error)
      return
    names = self.names(comparison.fake.num, reference)
    yield from self.figures(comparison, names)


# -------------------------------------------------------------------- figures


def names(frechet: str, kernel: str, suffix: str) -> dict[str, str]:
  """What `figures` computes -> the name that it gets."""
  return {"frechet": frechet, "kernel": kernel} | {
    name: f"{name}_{suffix}" for name in neighbours.Shares._fields
  }


def figures(
  comparison: Comparison, names: Mapping[str, str]
) -> Iterator[tuple[str, evals.Value]]:
  """Yields the figures of two samples.

  Args:
    comparison: from `compare`.
    names: what to compute, see `names`.
  """
  fake, real = comparison.fake, comparison.real
  if "frechet" in names:
    estimator = "Frechet, unbiased covariances, float64"
    few = min(fake.moments.num, real.moments.num) <= fake.rows.shape[1]
    note = "fewer clips than features: the covariances are singular" * few
    interval = None
    if min(fake.num, real.num) < 3:
      number = frechet.distance(fake.moments, real.moments)
    else:
      estimate = frechet.estimate(
        fake.moments, real.moments, _by_clip(fake), _by_clip(real)
      )
      estimator += "; infinitesimal jackknife over clips"
      number = estimate.value
      interval = max(estimate.low, 0.0), estimate.high
    value = comparison.value(number, interval, "lower", estimator, note=note)
    yield names["frechet"], value
  if "kernel" in names:
    if min(fake.num, real.num) < 3:
      reason = "not computed: needs 3 clips of each"
      yield names["kernel"], evals.missing(reason)
    else:
      estimate = kernels.mmd(fake.rows, real.rows, each=fake.each)
      value = comparison.value(
        estimate.value,
        (estimate.low, estimate.high),
        "lower",
        "MMD^2, (x.y/D + 1)^3, unbiased; jackknife over clips",
        note=comparison.kept,
      )
      yield names["kernel"], value
  if set(neighbours.Shares._fields) & set(names):
    yield from _neighbours(comparison, names)


def _by_clip(sample: Sample) -> np.ndarray:
  """(num, each, D): the rows of each clip that is kept."""
  return sample.rows.reshape(-1, sample.each, sample.rows.shape[1])


def _neighbours(comparison, names):
  """Precision, recall, density and coverage."""
  x, y = comparison.fake.rows, comparison.real.rows
  fields = neighbours.Shares._fields
  fewest, parts = min(len(x), len(y)), min(PARTS, len(x), len(y))
  if fewest < LEAST:
    reason = f"not computed: needs {LEAST} clips of each"
    yield from ((names[field], evals.missing(reason)) for field in fields)
    return
  estimator = "balls of the 3rd (density, coverage: 5th) neighbour"
  if fewest - -(-fewest // parts) >= LEAST:
    estimate = neighbours.estimate(x, y, parts)
    low = np.maximum(estimate.low, 0)
    high = np.minimum(estimate.high, [1, 1, math.inf, 1])
    numbers, intervals = estimate.value, zip(low, high)
    estimator += f"; jackknife over {parts} parts of either set"
  else:
    numbers, intervals = neighbours.shares(x, y), [None] * len(fields)
  normal = comparison.real.normal
  for field, number, interval in zip(fields, numbers, intervals):
    # The density of two alike sets is 1, and it can be more.
    better = "" if field == "density" else "higher"
    how = f"{field}, {estimator}"
    note = "; ".join(filter(None, (comparison.kept, normal.get(field))))
    yield (
      names[field],
      comparison.value(number, interval, better, how, note=note),
    )
