"""Strengths and agreement beside other ways to compute them."""

import itertools
import math

import numpy as np
import pytest

from vidgan_jax.measures import votes


def likelihood(strengths, wins):
  odds = strengths[:, None] - strengths
  return -(wins * np.log1p(np.exp(-odds))).sum()


def minorize(wins, steps=20_000):
  """Hunter 2004, equation 3: the fixed point that goes uphill."""
  p = np.ones(len(wins))
  met = wins + wins.T
  for _ in range(steps):
    p = wins.sum(1) / (met / (p[:, None] + p)).sum(1)
    p /= np.exp(np.log(p).mean())
  return np.log(p)


def curvature(strengths, wins, h=1e-3):
  """Minus the second derivatives of the likelihood, by differences."""
  size, eye = len(strengths), np.eye(len(strengths)) * h
  f = lambda d: likelihood(strengths + d, wins)
  return -np.array(
    [
      [
        (
          f(eye[i] + eye[j])
          - f(eye[i] - eye[j])
          - f(eye[j] - eye[i])
          + f(-eye[i] - eye[j])
        )
        / (4 * h * h)
        for j in range(size)
      ]
      for i in range(size)
    ]
  )


@pytest.mark.parametrize("case", range(4))
def test_bradley_terry_against_another_algorithm(case):
  rng = np.random.default_rng(case)
  size = (2, 3, 5, 8)[case]
  wins = (
    rng.integers(0, 30, (size, size)) + rng.integers(0, 2, (size, size)) / 2
  )
  wins[rng.random((size, size)) < 0.2] = 0  # Some never met, or never won.
  wins[np.arange(size), (np.arange(size) + 1) % size] += 1  # Connected.
  np.fill_diagonal(wins, 0)
  strengths, errors = votes.bradley_terry(wins)
  np.testing.assert_allclose(strengths, minorize(wins), atol=1e-7)
  assert abs(strengths.sum()) < 1e-12
  for _ in range(20):  # Nothing near is likelier.
    other = strengths + 0.1 * rng.standard_normal(size)
    assert likelihood(other, wins) < likelihood(strengths, wins)
  covariance = np.linalg.pinv(curvature(strengths, wins), rcond=1e-6)
  np.testing.assert_allclose(errors**2, np.diag(covariance), rtol=1e-4)


def test_bradley_terry_of_two_is_the_log_odds():
  strengths, errors = votes.bradley_terry(np.array([[0, 30.0], [10, 0]]))
  assert strengths[0] - strengths[1] == pytest.approx(math.log(3))
  # The variance of log odds is 1/30 + 1/10; each strength is half of them.
  assert errors[0] == pytest.approx(math.sqrt(1 / 30 + 1 / 10) / 2)


def test_bradley_terry_intervals_hold_the_truth_as_often_as_they_say():
  rng = np.random.default_rng(0)
  truth = np.array([0.9, 0.2, -0.3, -0.8])
  p = 1 / (1 + np.exp(truth - truth[:, None]))
  inside = []
  for _ in range(300):
    wins = np.triu(rng.binomial(60, p), 1).astype(float)
    wins += np.tril(60 - wins.T, -1)
    strengths, errors = votes.bradley_terry(wins)
    inside.append(np.abs(strengths - truth) < 1.959964 * errors)
  assert 0.93 < np.mean(inside) < 0.97


@pytest.mark.parametrize(
  "wins, words",
  [
    (np.zeros((2, 2)), r"\[1\] have no vote that connects"),
    ([[0, 5, 0], [5, 0, 0], [0, 0, 0]], r"\[2\] have no vote"),
    ([[0, 5], [0, 0]], r"\[0\] have never lost"),
    ([[0, 3, 4], [0, 0, 2], [0, 3, 0]], r"\[0\] have never lost"),
  ],
)
def test_votes_that_rank_nothing(wins, words):
  with pytest.raises(votes.NoRankingError, match=words):
    votes.bradley_terry(np.array(wins, float))


def test_krippendorff_against_its_definition():
  rng = np.random.default_rng(0)
  units = [
    (rng.integers(0, 3, rng.integers(1, 6)) / 2).tolist() for _ in range(40)
  ]
  pairable = [u for u in units if len(u) > 1]
  observed = [
    (a - b) ** 2 / (len(u) - 1)
    for u in pairable
    for a, b in itertools.permutations(u, 2)
  ]
  values = [x for u in pairable for x in u]
  expected = [(a - b) ** 2 for a, b in itertools.permutations(values, 2)]
  n = len(values)
  alpha = 1 - (sum(observed) / n) / (sum(expected) / (n * (n - 1)))
  assert votes.krippendorff(units) == pytest.approx(alpha, abs=1e-12)
  assert votes.krippendorff([[1, 1], [0, 0, 0], [0.5, 0.5]]) == 1
  assert votes.krippendorff([[1, 0], [0, 1]]) < 0
  assert votes.krippendorff([[1, 1], [1, 1]]) is None
  assert votes.krippendorff([[1], [0]]) is None
  noise = rng.integers(0, 2, (4000, 3)).astype(float)
  assert abs(votes.krippendorff(noise.tolist())) < 0.03
