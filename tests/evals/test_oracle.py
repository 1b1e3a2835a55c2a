import math

import numpy as np
import pytest
from scipy import ndimage

from vidgan_jax import evals
from vidgan_jax.data import sprites
from vidgan_jax.evals import objects
from vidgan_jax.evals import oracle

NUM = 40


def _real(num=NUM, split="test", **options):
  source = sprites.make(split, frames=8, supervision="truth", **options)
  examples = source.read(range(num))
  return source, np.stack([e["video"] for e in examples]), examples


def _corrupt(clips, noise=0.0, blur=0.0):
  clips = ndimage.gaussian_filter(clips.astype(float), (0, 0, blur, blur, 0))
  clips = clips + np.random.default_rng(0).normal(0, noise, clips.shape)
  return clips.round().clip(0, 255).astype(np.uint8)


def _accuracy(findings, examples):
  """Shares of clips with the right number, explained, and the right class."""
  count = np.mean(
    [
      f.count == e["count"] and f.explained >= objects.EXPLAINED
      for f, e in zip(findings, examples)
    ]
  )
  label = np.mean([f.label == e["label"] for f, e in zip(findings, examples)])
  return count, label


@pytest.mark.parametrize(
  "options",
  [
    dict(resolution=32),
    dict(resolution=24),
    dict(resolution=24, texture="flat", shading=False, background="plain"),
  ],
)
def test_reads_real_clips(options):
  source, clips, examples = _real(**options)
  findings = objects.inspect(clips, source.world)
  count, label = _accuracy(findings, examples)
  assert count >= 0.97
  assert label >= 0.97
  for finding, example in zip(findings, examples):
    if finding.count != example["count"]:
      continue
    true = example["positions"][:, None, : finding.count]
    gap = np.linalg.norm(finding.positions[:, :, None] - true, axis=-1)
    gap = gap.min(-1)
    assert np.nanmedian(gap) < 0.1
    assert np.isfinite(gap).mean() >= 0.5
    assert 0.5 <= finding.confidence <= 1
  assert np.mean([f.law < 0.2 for f in findings]) >= 0.9
  assert np.median([f.law for f in findings]) < 0.05
  truth = np.nanmean(
    [
      np.hypot(*np.moveaxis(np.diff(e["positions"], axis=0), -1, 0))
      .ravel()
      .tolist()
      for e in examples
    ]
  )
  speed = np.mean([f.speed for f in findings])
  assert abs(speed / truth - 1) < 0.05


@pytest.mark.parametrize(
  "options",
  [
    dict(resolution=32, rotation=True, shapes=sprites.SHAPES),
    dict(resolution=32, shake=1.5, shapes=("A", "T", "L", "H")),
    dict(resolution=24, label="shape_motion", objects=1),
    dict(resolution=32, objects=(1, 3), radius=(0.08, 0.12)),
  ],
)
def test_reads_other_worlds(options):
  source, clips, examples = _real(24, **options)
  count, label = _accuracy(objects.inspect(clips, source.world), examples)
  assert count >= 0.9
  assert label >= 0.9


@pytest.mark.parametrize("size", [24, 32])
def test_forgives_noise_and_slight_blur(size):
  source, clips, examples = _real(resolution=size)
  clips = _corrupt(clips, noise=8, blur=0.5)
  count, label = _accuracy(objects.inspect(clips, source.world), examples)
  assert count >= 0.9
  assert label >= 0.9


def _nothing(name, size):
  """Clips (16, 8, H, W, 3) that show no object of the world."""
  rng = np.random.default_rng(0)
  shape = (16, 8, size, size, 3)
  if name == "noise":
    return rng.integers(0, 256, shape)
  if name == "constant":
    return np.broadcast_to(rng.integers(0, 256, (16, 1, 1, 1, 3)), shape)
  if name == "smooth noise":
    wild = ndimage.gaussian_filter(rng.normal(0, 1, shape), (0, 1, 3, 3, 0))
    return 90 + wild / wild.std() * 60
  if name == "checkerboard artefacts":
    tile = np.indices((size, size)).sum(0) % 2
    wild = ndimage.gaussian_filter(rng.normal(0, 1, shape), (0, 1, 3, 3, 0))
    return 90 + wild / wild.std() * 40 + 40 * tile[..., None]
  clips = np.empty(shape)
  clips[:] = rng.integers(10, 80, (16, 1, 1, 1, 3))
  grid = np.arange(size) + 0.5
  for clip in clips:
    colour = rng.uniform(0, 1, 3)
    colour[rng.integers(3)] = 1
    place, way = rng.uniform(size / 4, 3 * size / 4, 2), rng.uniform(-1, 1, 2)
    tall, wide = rng.choice([2, 3, 4, size // 2], 2, replace=False)
    for t, frame in enumerate(clip):
      x, y = place + way * (t - 4)
      if name == "patches":
        row, column = int(max(y - tall / 2, 0)), int(max(x - wide / 2, 0))
        frame[row : row + tall, column : column + wide] = 255 * colour
      else:
        sigma = {"small blob": 2, "blob": 3, "large blob": 4}[name]
        far = (grid - x) ** 2 + (grid[:, None] - y) ** 2
        light = np.exp(-far / (2 * sigma**2))[..., None]
        frame += light * (250 * colour - frame)
  return clips


@pytest.mark.parametrize(
  "name",
  [
    "noise",
    "constant",
    "smooth noise",
    "checkerboard artefacts",
    "patches",
    "small blob",
    "blob",
    "large blob",
  ],
)
@pytest.mark.parametrize("size", [24, 32])
def test_finds_nothing_where_nothing_is(name, size):
  world = sprites.World(resolution=size)
  clips = np.asarray(_nothing(name, size)).clip(0, 255).astype(np.uint8)
  findings = objects.inspect(clips, world)
  assert np.mean([f.count > 0 for f in findings]) <= 0.05
  for finding in findings:
    assert (finding.count > 0) == (finding.label >= 0)
    assert finding.count or math.isnan(finding.speed)


@pytest.mark.parametrize("size", [24, 32])
def test_heavy_blur_is_no_object(size):
  source, clips, _ = _real(24, resolution=size)
  findings = objects.inspect(_corrupt(clips, blur=2), source.world)
  assert np.mean([f.count > 0 for f in findings]) <= 0.05
  assert np.nanmedian([f.edge for f in findings]) > objects.EDGE


def test_class_is_the_shape_not_the_colour():
  source, clips, examples = _real(24)
  findings = objects.inspect(clips[..., [1, 2, 0]], source.world)
  assert _accuracy(findings, examples)[1] >= 0.95


def test_motion_is_judged_by_the_law():
  source, clips, _ = _real(24, objects=1)
  real = objects.inspect(clips, source.world)
  order = np.random.default_rng(0).permutation(8)
  mixed = objects.inspect(clips[:, order], source.world)
  back = objects.inspect(clips[:, ::-1], source.world)
  still = objects.inspect(np.repeat(clips[:, :1], 8, 1), source.world)
  law = lambda found: np.nanmean([f.law for f in found])
  assert law(real) < 0.3
  assert law(back) < 0.3  # elastic bounces have no direction of time
  assert law(mixed) > 5 * law(real)
  assert max(f.speed for f in still) < 1e-3
  assert np.mean([f.count == 1 for f in still]) >= 0.95


def test_law_rejects_straight_paths_where_things_fall():
  source, clips, _ = _real(16, objects=1, motion="straight")
  paths = np.stack(
    [
      f.positions[:, 0]
      for f in objects.inspect(clips, source.world)
      if f.count == 1
    ]
  ).astype(float)
  radii = np.full(len(paths), 5.0)
  straight = objects._laws(paths, radii, source.options)[0]
  falling = objects._laws(paths, radii, sprites.World(motion="gravity"))[0]
  assert np.median(falling) > 5 * np.median(straight)


def test_too_many_objects_are_counted():
  _, clips, examples = _real(16, objects=3, radius=(0.1, 0.12))
  world = sprites.World(objects=(1, 2), radius=(0.1, 0.12))
  found = objects.inspect(clips, world)
  assert np.mean([f.count == 3 for f in found]) >= 0.75


def test_bad_clips_are_named():
  world = sprites.World()
  for clips in (
    np.zeros((2, 8, 24, 24, 3), np.uint8),
    np.zeros((2, 8, 32, 32, 3), np.float32),
    np.zeros((2, 1, 32, 32, 3), np.uint8),
  ):
    with pytest.raises(ValueError, match="needs \\(N, T, 32, 32, 3\\) uint8"):
      objects.inspect(clips, world)


class _Model:
  """Plays given clips."""

  def __init__(self, clips, labels=None):
    self._clips, self._labels = clips, labels

  def ask(self, num, seed):
    del seed
    labels = {} if self._labels is None else {"label": self._labels[:num]}
    return labels | {"index": np.arange(num)}

  def clips(self, given, seed):
    del seed
    return self._clips[given["index"]]


def _numbers(results):
  """Numbers by name; all but counts have an interval and say its clips."""
  numbers = {}
  for name, value in results:
    numbers[name] = float(value)
    counted = name.endswith("_clips")
    assert (value.low is None) == (counted or math.isnan(float(value))), name
    if value.low is not None:
      assert value.low <= float(value) <= value.high, name
      assert value.num > 1 and value.protocol["estimator"], name
  return numbers


def test_evaluator_of_a_perfect_model():
  _, clips, examples = _real(32, split="train")
  labels = np.array([e["label"] for e in examples])
  source = sprites.make("test", frames=8, size=64)
  evaluator = oracle.Evaluator(num=32)
  source = evals.Reference(clips=source, world=source.world)
  run = lambda *model: _numbers(evaluator.run(_Model(*model), source))
  values = run(clips, labels)
  assert values["oracle/generated_clips"] == values["oracle/real_clips"] == 32
  for name in (
    "count_accuracy",
    "class_accuracy",
    "real_count_accuracy",
    "real_class_accuracy",
  ):
    assert values[f"oracle/{name}"] >= 0.96, name
  assert abs(values["oracle/speed_ratio"] - 1) < 0.25
  assert values["oracle/law_error"] < 0.3
  assert values["oracle/real_position_error"] < 0.1
  assert values["oracle/edge_width"] < 1.2
  # Wrong labels, and no labels.
  wrong = run(clips, (labels + 1) % 4)
  assert wrong["oracle/class_accuracy"] <= 0.04
  assert wrong["oracle/count_accuracy"] == values["oracle/count_accuracy"]
  free = run(clips)
  assert set(wrong) - set(free) == {"oracle/class_accuracy"}


def test_more_clips_make_narrower_intervals():
  rng = np.random.default_rng(0)
  for figure in (
    lambda n: oracle._median(rng.normal(3, 1, n)),
    lambda n: oracle._share(rng.random(n) < 0.5),
    lambda n: oracle._ratio(rng.normal(3, 1, n), rng.normal(3, 1, n), ""),
  ):
    few, many = (np.diff(figure(n).interval)[0] for n in (40, 4000))
    assert 5 < few / many < 20  # sqrt(100) is 10.
  sums, counts = rng.random(50) + 9, np.full(50, 3.0)
  exact = oracle._ratio(3 * counts, counts, "", paired=True)
  assert exact.interval == (3, 3)
  low, high = oracle._ratio(sums, counts, "", paired=True).interval
  assert 3 < low < high < 10 / 3


class _Cut:
  """A source of the middle frames, perhaps mirrored; it brings no truth."""

  def __init__(self, source, step=1):
    self._source, self._step = source, step

  def __len__(self):
    return len(self._source)

  def read(self, indices):
    return [
      {"video": e["video"][2:6, :, :: self._step], "label": e["label"]}
      for e in self._source.read(indices)
    ]


def test_evaluator_finds_the_truth_of_cut_clips():
  source = sprites.make("test", frames=8, size=16)
  clips = np.stack([e["video"][:4] for e in source.read(range(16))])

  def run(clips_of):
    real = evals.Reference(clips=clips_of, world=source.world)
    return _numbers(oracle.Evaluator(num=16).run(_Model(clips), real))

  whole, mirrored = run(_Cut(source)), run(_Cut(source, -1))
  assert whole["oracle/real_count_accuracy"] >= 0.9
  assert whole["oracle/real_position_error"] < 0.1
  assert "oracle/real_count_accuracy" not in mirrored
  assert "oracle/real_position_error" not in mirrored
  assert "oracle/real_class_accuracy" in mirrored


def test_evaluator_of_a_useless_model():
  clips = np.random.default_rng(0).integers(0, 256, (8, 8, 32, 32, 3))
  source, _, _ = _real(1, size=8)
  values = _numbers(
    oracle.Evaluator(num=8).run(
      _Model(clips.astype(np.uint8), np.zeros(8, np.int32)),
      evals.Reference(clips=source, world=source.world),
    )
  )
  assert values["oracle/count_accuracy"] == 0
  assert values["oracle/class_accuracy"] == 0
  assert values["oracle/found"] == 0
  assert math.isnan(values["oracle/speed_ratio"])
  assert math.isnan(values["oracle/law_error"])
  assert values["oracle/real_class_accuracy"] == 1


def test_evaluator_names_its_needs():
  with pytest.raises(ValueError, match="evals.oracle.num"):
    oracle.Evaluator(num=0)
  with pytest.raises(ValueError, match="needs the data set sprites"):
    list(oracle.Evaluator().run(_Model(None), evals.Reference(clips=[])))
