"""Distances of sets of features beside plain formulas, SciPy, known truth."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from scipy import linalg
from scipy import spatial
from scipy import stats

from vidgan_jax.measures import classes
from vidgan_jax.measures import frechet
from vidgan_jax.measures import intervals
from vidgan_jax.measures import kernels
from vidgan_jax.measures import neighbours
from vidgan_jax.measures import points


def draw(seed, num, size, shift=0.0, scale=1.0):
  rng = np.random.default_rng(seed)
  return shift + scale * rng.standard_normal((num, size))


def gaussian(mean, cov, num=100):
  mean, cov = np.asarray(mean, float), np.asarray(cov, float)
  return frechet.Moments(num=num, mean=mean, scatter=cov * (num - 1))


def random_gaussian(seed, size=12):
  root = draw(seed, size, size)
  return gaussian(draw(seed + 99, 1, size)[0], root @ root.T / size)


# -------------------------------------------------------------------- moments


def test_moments_are_numpys():
  x = draw(0, 700, 5, 100)  # More than one chunk, far from zero.
  got = frechet.moments([x.astype(np.float32)])
  x = x.astype(np.float32).astype(float)
  assert got.num == 700
  np.testing.assert_allclose(got.mean, x.mean(0), rtol=1e-12)
  np.testing.assert_allclose(got.cov, np.cov(x.T), rtol=1e-10, atol=1e-12)
  assert got.cov.dtype == got.mean.dtype == np.float64


def test_a_stream_is_the_whole():
  x = draw(1, 1300, 4, 3)
  whole = frechet.grouped([x], 3)
  for size in (1, 7, 512, 1300):
    cuts = range(0, 1300, size)
    parts = frechet.grouped((x[i : i + size] for i in cuts), 3)
    for one, two in zip(parts, whole):  # To the last bit.
      np.testing.assert_array_equal(one.scatter, two.scatter)
      np.testing.assert_array_equal(one.mean, two.mean)


def test_merging():
  x = draw(2, 400, 6, 1000)
  whole = frechet.moments([x])
  for parts in ([1, 399], [7, 13, 380], [100] * 4):
    cuts = np.split(x, np.cumsum(parts)[:-1])
    single = lambda rows: frechet.Moments(
      num=len(rows),
      mean=rows.mean(0),
      scatter=(rows - rows.mean(0)).T @ (rows - rows.mean(0)),
    )
    got = frechet.merged(map(single, cuts))
    assert got.num == 400
    np.testing.assert_allclose(got.mean, whole.mean, rtol=1e-10)
    np.testing.assert_allclose(got.cov, whole.cov, rtol=1e-10, atol=1e-10)
  groups = frechet.grouped([x], 16)
  assert [part.num for part in groups] == [25] * 16
  got = frechet.merged(groups)
  np.testing.assert_allclose(got.scatter, whole.scatter, rtol=1e-10, atol=1e-8)


def test_parts_do_not_follow_a_period():
  """Labels that come in turn are in every part."""
  labels = (np.arange(640) % 4)[:, None]
  for part in intervals.split(labels, 16):
    assert set(part[:, 0]) == {0, 1, 2, 3}
  for part in frechet.grouped([labels], 16):
    assert part.cov[0, 0] > 0.5


def test_memory_does_not_grow(monkeypatch):
  monkeypatch.setattr(points, "_PAIRS", 2**18)
  tracemalloc.start()
  try:
    peaks = []
    for num in (60, 300):
      tracemalloc.reset_peak()
      frechet.grouped((draw(i, 32, 16) for i in range(num)), 4)
      peaks.append(tracemalloc.get_traced_memory()[1])
    assert peaks[1] < 1.2 * peaks[0]
    x = draw(0, 3000, 4)
    tracemalloc.reset_peak()
    neighbours.nearest(x, x)
    assert tracemalloc.get_traced_memory()[1] < 3000 * 3000 * 8 / 3
  finally:
    tracemalloc.stop()


def test_bad_features():
  x = draw(0, 40, 3)
  bad = x.copy()
  bad[7, 1] = np.nan
  for function in (
    lambda f: frechet.moments([x, f]),
    lambda f: kernels.mmd(f, x),
    lambda f: neighbours.shares(x, f),
    lambda f: classes.inception_score(f),
    lambda f: neighbours.nearest(f, x),
  ):
    with pytest.raises(ValueError, match="1 of 40 clips are not finite"):
      function(bad)
    with pytest.raises(ValueError, match=r"\(N, D\)"):
      function(x[0])
  for function in (
    lambda f: frechet.distance(frechet.moments([f]), frechet.moments([x])),
    lambda f: kernels.jedi(f, x),
    lambda f: neighbours.shares(f, x),
  ):
    with pytest.raises(ValueError, match="same network"):
      function(x[:, :2])
  for few in ([], [x[:1]]):
    with pytest.raises(ValueError, match="at least 2 clips"):
      frechet.moments(few)
  with pytest.raises(ValueError, match="at least 16 clips"):
    frechet.grouped([x[:15]], 16)
  with pytest.raises(ValueError, match="16 parts"):
    intervals.split(x[:15])


# -------------------------------------------------------------------- Frechet


def test_distance_of_gaussians_with_common_axes():
  """|m_a - m_b|^2 + sum (sqrt(a_i) - sqrt(b_i))^2, in any basis."""
  rng = np.random.default_rng(0)
  basis, _ = np.linalg.qr(rng.standard_normal((6, 6)))
  a, b = rng.uniform(0, 4, (2, 6))
  a[0] = b[1] = 0  # Directions without any spread.
  m, n = rng.standard_normal((2, 6))
  turned = lambda mean, var: gaussian(mean, basis * var @ basis.T)
  want = ((m - n) ** 2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
  got = frechet.distance(turned(m, a), turned(n, b))
  np.testing.assert_allclose(got, want, rtol=1e-10)


def test_distance_is_that_of_the_matrix_root():
  for seed in range(4):
    a, b = random_gaussian(seed), random_gaussian(seed + 10)
    mean = ((a.mean - b.mean) ** 2).sum() + np.trace(a.cov + b.cov)
    want = mean - 2 * np.trace(linalg.sqrtm(a.cov @ b.cov)).real
    np.testing.assert_allclose(frechet.distance(a, b), want, rtol=1e-9)
    root = linalg.sqrtm(a.cov).real
    values = np.linalg.eigvalsh(root @ b.cov @ root)
    want = mean - 2 * np.sqrt(values).sum()
    np.testing.assert_allclose(frechet.distance(a, b), want, rtol=1e-10)
    np.testing.assert_allclose(
      frechet.distance(b, a), frechet.distance(a, b), rtol=1e-10
    )
    assert 0 <= frechet.distance(a, a) < 1e-13 * np.trace(a.cov)


def test_fewer_clips_than_features():
  """tr (A B)^1/2 is the nuclear norm of the clips' inner products."""
  x, y = draw(0, 30, 80), draw(1, 25, 80, 0.5, 2)
  a, b = frechet.moments([x]), frechet.moments([y])
  inner = (x - x.mean(0)) @ (y - y.mean(0)).T / np.sqrt(29 * 24)
  want = ((a.mean - b.mean) ** 2).sum() + np.trace(a.cov + b.cov)
  want -= 2 * np.linalg.svd(inner, compute_uv=False).sum()
  np.testing.assert_allclose(frechet.distance(a, b), want, rtol=1e-12)
  assert frechet.distance(a, a) < 1e-12 * np.trace(a.cov)


def test_stills():
  dark, light = (frechet.moments([np.full((5, 3), v)]) for v in (0.0, 1.0))
  assert frechet.distance(dark, light) == pytest.approx(3)


def _frechet(fake, real):
  return frechet.distance(frechet.merged(fake), frechet.merged(real))


def test_what_finite_samples_cost():
  """C / N; both corrections are right in the mean of repetitions."""
  truth, size, found = 0.3, 12, []
  for i in range(24):
    rows = []
    for num in (64, 128):
      fake, real = draw((i, num, 0), num, size), draw((i, num, 1), num, size)
      fake += np.sqrt(truth / size)
      parts = frechet.grouped([fake]), frechet.grouped([real])
      value = intervals.jackknife(_frechet, *parts)
      better = frechet.extrapolated(*parts)
      rows.append([value.value, value.value - value.bias, better])
    found.append(rows)
  mean = np.mean(found, 0) - truth
  error = np.std(found, 0) / np.sqrt(24)
  assert (mean[:, 0] > 10 * error[:, 0]).all()
  assert 1.6 < mean[0, 0] / mean[1, 0] < 2.5  # Half as many, twice as much.
  assert (abs(mean[:, 1:]) < 4 * error[:, 1:]).all()
  assert (abs(mean[:, 1:]) < 0.25 * mean[:, :1]).all()
  few = frechet.grouped([fake], 4)
  with pytest.raises(ValueError, match="at least 8"):
    frechet.extrapolated(few, few)


# ------------------------------------------------------------------ intervals


def test_jackknife_of_means():
  """Of a difference of means it is Student's interval, without bias."""
  x, y = draw(0, 20, 1), draw(1, 30, 1, 2)
  mean = lambda parts: np.concatenate(parts).mean()
  got = intervals.jackknife(
    lambda a, b: mean(a) - mean(b),
    intervals.split(x, 20),
    intervals.split(y, 30),
  )
  error = np.sqrt(x.var(ddof=1) / 20 + y.var(ddof=1) / 30)
  margin = stats.t.ppf(0.975, 19) * error
  assert got.value == pytest.approx(x.mean() - y.mean())
  assert got.high - got.value == pytest.approx(margin)
  assert got.value - got.low == pytest.approx(margin)
  assert got.bias == pytest.approx(0, abs=1e-12)


def test_jackknife_takes_the_bias_of_a_variance():
  x, y = draw(0, 16, 1), draw(1, 16, 1)
  got = intervals.jackknife(
    lambda a, b: np.var(np.concatenate(a)), *map(intervals.split, (x, y))
  )
  assert got.value - got.bias == pytest.approx(x.var(ddof=1))
  with pytest.raises(ValueError, match="3 parts"):
    intervals.jackknife(lambda a, b: 0.0, [x, x], [y, y])


def test_jackknife_of_several_numbers():
  x, y = draw(0, 20, 2), draw(1, 30, 2)
  mean = lambda parts: np.concatenate(parts).mean(0)
  parts = intervals.split(x, 4), intervals.split(y, 5)
  both = lambda a, b: mean(a) - mean(b)
  got = intervals.jackknife(both, *parts)
  one = intervals.jackknife(lambda a, b: both(a, b)[1], *parts)
  assert (got.low[1], got.high[1]) == pytest.approx((one.low, one.high))
  assert got.value[1] == one.value and len(got.value) == 2


def influence(x, y):
  rows = x[:, None], y[:, None]
  moments = (frechet.moments([z]) for z in (x, y))
  return frechet.estimate(*moments, *rows)


def test_frechet_interval_leaves_out_single_clips():
  """To first order; it is their jackknife, which costs N distances."""
  mix = draw(2, 6, 6)
  for shift in (0.3, 3.0):
    x, y = draw(0, 150, 6, shift) @ mix, draw(1, 200, 6)
    got = influence(x, y)
    want = intervals.jackknife(
      _frechet,
      *(frechet.grouped([z[i] for i in np.arange(len(z))[:, None]], len(z))
        for z in (x, y)),
    )  # fmt: skip
    assert got.value == pytest.approx(want.value, rel=1e-9)
    assert got.high - got.low == pytest.approx(want.high - want.low, rel=0.06)


def test_intervals_take_frames_of_a_clip_together():
  """Each frame four times is no more data: the intervals stay as they are."""
  x, y = draw(0, 60, 3, 0.5), draw(1, 70, 3)
  once, twice = influence(x, y), [np.repeat(z, 4, 0) for z in (x, y)]
  moments = [frechet.moments([z]) for z in twice]
  rows = [z.reshape(-1, 4, 3) for z in twice]
  got = frechet.estimate(*moments, *rows)
  assert got.high - got.low == pytest.approx(once.high - once.low, rel=0.05)
  width = lambda e: e.high - e.low
  got = kernels.mmd(*twice, each=4, unbiased=False)
  want = kernels.mmd(x, y, unbiased=False)
  assert width(got) == pytest.approx(width(want)) and got.value == (
    pytest.approx(want.value)
  )
  assert width(kernels.mmd(*twice)) < 0.6 * width(want)


@pytest.mark.parametrize(
  "score, votes", [(0, 1), (1, 1), (3, 10), (5.5, 7), (81, 263), (999, 1000)]
)
def test_wilson_is_the_set_of_rates_that_the_test_does_not_reject(score, votes):
  z, rate = 1.959963984540054, score / votes
  far = lambda p: abs(rate - p) - z * math.sqrt(p * (1 - p) / votes)

  def edge(inside, outside):  # Bisection.
    for _ in range(200):
      middle = (inside + outside) / 2
      inside, outside = (
        (middle, outside) if far(middle) <= 0 else (inside, middle)
      )
    return inside

  low, high = intervals.wilson(score, votes)
  assert low == pytest.approx(edge(rate, 0.0), abs=1e-12)
  assert high == pytest.approx(edge(rate, 1.0), abs=1e-12)


@pytest.mark.parametrize(
  "score, votes, low, high",  # Newcombe 1998, table I, method 3.
  [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0000, 0.1611),
    (1, 29, 0.0061, 0.1718),
  ],
)
def test_wilson_as_published(score, votes, low, high):
  np.testing.assert_allclose(
    intervals.wilson(score, votes), (low, high), atol=5e-5
  )


@pytest.mark.parametrize(
  "name, widest",
  [("frechet", 1.6), ("jedi", 1.6), ("mmd", 1.6), ("neighbours", 2.1)],
)
def test_intervals_cover(name, widest):
  """19 of 20 have the mean of all repetitions; too many, if anything."""

  def shares(x, y):
    return intervals.jackknife(
      lambda a, b: np.array(
        neighbours.shares(np.concatenate(a), np.concatenate(b))
      ),
      *map(intervals.split, (x, y)),
    )

  estimate = {
    "frechet": influence,
    "jedi": kernels.jedi,
    "mmd": kernels.mmd,
    "neighbours": shares,
  }[name]
  found = [
    estimate(draw(2 * i, 96, 3, 0.4, 1.2), draw(2 * i + 1, 128, 3))
    for i in range(120)
  ]
  values = np.array([e.value for e in found])
  mean = values.mean(0)
  inside = [(e.low <= mean) & (mean <= e.high) for e in found]
  assert np.min(np.mean(inside, 0)) > 0.87
  width = np.mean([e.high - e.low for e in found], 0)
  width = width / (2 * 1.96 * values.std(0))
  assert np.min(width) > 0.85 and np.max(width) < widest


# -------------------------------------------------------------------- kernels


def kernel_sums(x, y, degree, offset, unbiased):
  """Every pair by itself."""
  k = lambda a, b: (a @ b / len(a) + offset) ** degree
  pairs = lambda z: [
    k(a, b)
    for (i, a), (j, b) in itertools.product(enumerate(z), repeat=2)
    if i != j or not unbiased
  ]
  across = [k(a, b) for a, b in itertools.product(x, y)]
  return np.mean(pairs(x)) + np.mean(pairs(y)) - 2 * np.mean(across)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("degree, offset", [(3, 1.0), (2, 0.0)])
def test_kernel_distance(degree, offset, unbiased, monkeypatch):
  x, y = draw(0, 13, 4, 0.5), draw(1, 9, 4)
  options = dict(degree=degree, offset=offset, unbiased=unbiased)
  direct = lambda a, b: kernel_sums(a, b, **options)
  monkeypatch.setattr(points, "_PAIRS", 20)  # Rows in several blocks.
  got = kernels.mmd(x, y, **options)
  assert got.value == pytest.approx(direct(x, y), rel=1e-11)
  # The interval is the jackknife of single clips.
  want = intervals.jackknife(
    lambda a, b: direct(np.concatenate(a), np.concatenate(b)),
    intervals.split(x, 13),
    intervals.split(y, 9),
  )
  assert got.low == pytest.approx(want.low, rel=1e-9)
  assert got.high == pytest.approx(want.high, rel=1e-9)
  assert got.bias == pytest.approx(want.bias, rel=1e-6, abs=1e-10)
  if unbiased:
    assert got.bias == pytest.approx(0, abs=1e-10)


def test_names_of_kernel_distances():
  x, y = draw(0, 13, 4, 0.5), draw(1, 9, 4)
  got = kernels.jedi(x, y)
  want = 100 * kernel_sums(x, y, 2, 0, False)
  assert got.value == pytest.approx(want) and got.low < want < got.high
  # What the authors of JEDi state for their program, before the factor.
  x = np.arange(1, 10).reshape(3, 3)
  y = [[7, 6, 5], [4, 3, 2], [1, 1, 8], [0, 2, 5]]
  assert kernels.jedi(x, y).value / 100 == pytest.approx(270.7, abs=0.05)


def test_kid():
  x, y = draw(0, 40, 4, 0.5), draw(1, 50, 4)
  got = kernels.kid(x, y[:40], subsets=3, size=40)
  assert got.mean == pytest.approx(kernels.mmd(x, y[:40]).value)
  assert got.std == pytest.approx(0, abs=1e-12)
  got = kernels.kid(x, y, subsets=400, size=20)
  want = kernels.mmd(x, y).value  # Subsets have the same mean.
  assert abs(got.mean - want) < 4 * got.std / np.sqrt(400)
  assert got == kernels.kid(x, y, subsets=400, size=20)
  with pytest.raises(ValueError, match="40 generated and 50 real"):
    kernels.kid(x, y, size=41)


# ------------------------------------------------------------------ one sample


def test_inception_score():
  sure = 50 * np.eye(5)[np.arange(100) % 5]
  assert classes.inception_score(sure).mean == pytest.approx(5)
  same = np.ones((100, 5))
  assert classes.inception_score(same) == pytest.approx((1, 0))
  logits = draw(0, 103, 7, 0, 3)
  scores = []
  for i in range(4):
    part = np.exp(np.array_split(logits, 4)[i])
    p = part / part.sum(1, keepdims=True)
    scores.append(np.exp((p * np.log(p / p.mean(0))).sum(1).mean()))
  got = classes.inception_score(logits, 4)
  assert got == pytest.approx((np.mean(scores), np.std(scores)))
  large = classes.inception_score(logits + 1e4, 4)
  assert large.mean == pytest.approx(got.mean)


def test_diversity():
  x = draw(0, 50, 3, 7)
  want = spatial.distance.pdist(x).mean()
  assert neighbours.diversity(x) == pytest.approx(want)
  assert neighbours.diversity(np.repeat(x[:1], 9, 0)) == 0
  found = neighbours.diversity_estimate(x)
  assert found.value == pytest.approx(want)
  left = [neighbours.diversity(np.delete(x, i, 0)) for i in range(len(x))]
  error = np.sqrt((len(x) - 1) * np.var(left))
  margin = stats.t.ppf(0.975, len(x) - 1) * error
  assert found.high - found.value == pytest.approx(margin)


def test_intervals_of_what_is_extrapolated_and_of_splits():
  errors, widths = [], []
  for seed in range(24):
    x, y = draw(2 * seed, 160, 3), draw(2 * seed + 1, 160, 3, 0.5)
    parts = [frechet.grouped([one], 16) for one in (x, y)]
    found = frechet.extrapolated_estimate(*parts)
    assert found.value == frechet.extrapolated(*parts)
    errors.append(found.value)
    widths.append((found.high - found.low) / 2 / stats.t.ppf(0.975, 7))
  ratio = np.sqrt(np.mean(np.square(widths))) / np.std(errors, ddof=1)
  assert 0.8 < ratio < 2.5
  values = np.array([1.0, 2.0, 4.0, 5.0])
  spread = intervals.Spread(values.mean(), values.std())
  low, high = intervals.batch_means(spread, 4)
  want = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
  assert (low, high) == pytest.approx(want)


# ----------------------------------------------------------- nearest neighbours


def balls(x, y, k):
  """Which balls of y's rows (columns) the rows of x are in, by cdist."""
  own = np.sort(spatial.distance.cdist(y, y), 1)[:, k]
  return spatial.distance.cdist(x, y) <= own


@pytest.mark.parametrize("pairs", [97, 2**22])
def test_neighbours_are_scipys(pairs, monkeypatch):
  monkeypatch.setattr(points, "_PAIRS", pairs)
  fake, real = draw(0, 60, 3, 0.7), draw(1, 70, 3)
  got = neighbours.shares(fake, real)
  assert got.precision == balls(fake, real, 3).any(1).mean()
  assert got.recall == balls(real, fake, 3).any(1).mean()
  assert got.density == pytest.approx(balls(fake, real, 5).sum(1).mean() / 5)
  assert got.coverage == balls(fake, real, 5).any(0).mean()
  distance, index = neighbours.nearest(fake, real)
  table = spatial.distance.cdist(fake, real)
  np.testing.assert_array_equal(index, table.argmin(1))
  np.testing.assert_allclose(distance, table.min(1), rtol=1e-10)
  table = spatial.distance.squareform(spatial.distance.pdist(real))
  want = np.sort(table, 1)[:, 1]
  np.testing.assert_allclose(neighbours.spacing(real), want, rtol=1e-10)


@pytest.mark.parametrize("pairs", [2**22, 700])
def test_neighbours_without_each_part_are_those_of_the_rest(pairs, monkeypatch):
  monkeypatch.setattr(points, "_PAIRS", pairs)
  rng, calls, plain = np.random.default_rng(0), [], points.squared_distances

  def counted(a, b):
    calls.append(len(a))
    yield from plain(a, b)

  for num, other, groups in ((60, 45, 16), (7, 30, 7), (90, 90, 5)):
    x, y = rng.normal(0, 1, (num, 4)), rng.normal(0.2, 1.2, (other, 4))
    want = intervals.jackknife(
      lambda a, b: np.array(
        neighbours.shares(np.concatenate(a), np.concatenate(b))
      ),
      intervals.split(x, groups),
      intervals.split(y, groups),
    )
    with monkeypatch.context() as patch:
      patch.setattr(points, "squared_distances", counted)
      calls.clear()
      found = neighbours.estimate(x, y, groups)
    assert len(calls) == 3  # Within either set, and between them.
    for field in ("value", "low", "high", "bias"):
      np.testing.assert_allclose(
        getattr(found, field), getattr(want, field), rtol=1e-12, atol=1e-12
      )
  with pytest.raises(ValueError, match="at least"):
    neighbours.estimate(x, y[:6], 6)


def test_neighbours_of_known_sets():
  real = draw(0, 400, 4)
  got = neighbours.shares(real, real)
  assert (got.precision, got.recall, got.coverage) == (1, 1, 1)
  # The same distribution: the expectation of density is 1.
  same = draw(1, 400, 4)
  got = neighbours.shares(same, real)
  assert got.density == pytest.approx(1, abs=0.15) and got.coverage > 0.9
  far = real + 100
  assert neighbours.shares(far, real) == (0, 0, 0, 0)
  # A dropped mode costs recall, not precision; an outlier neither.
  modes = np.concatenate([real[:200], real[200:] + 50])
  got = neighbours.shares(same, modes)
  assert got.precision > 0.85 and got.recall < 0.6
  got = neighbours.shares(same[:200], modes)
  assert got.density > 0.7 and got.coverage < 0.55


def test_the_interval_covers():
  """95 % of the intervals hold the true mean."""
  rng = np.random.default_rng(0)
  hits = 0
  for i in range(200):
    values = rng.normal(1.0, 2.0, 40)
    low, high = intervals.bootstrap(values, 400, i)
    hits += low < 1.0 < high
    assert high - low == pytest.approx(4 * values.std() / 40**0.5, rel=0.3)
  assert 0.88 < hits / 200 < 0.98
  # Clips that are not numbers are left out.
  assert intervals.bootstrap(np.array([1, np.nan, 1]), 10, 0) == (1, 1)
