"""Objectives: the papers' formulas in float64, and what follows from them.

Each is a function of one head's logits; train/adversarial.py loops over heads.
"""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax.losses import minimax
from vidgan_jax.losses import nonsaturating
from vidgan_jax.losses import relativistic
from vidgan_jax.losses import wasserstein


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


# name -> (D's loss, G's loss) of one pair of logits, written with D itself
# where the paper is.
FORMULAS = {
  "minimax": (
    lambda r, f: -(np.log(sigmoid(r)) + np.log(1 - sigmoid(f))),
    lambda r, f: np.log(1 - sigmoid(f)),
  ),
  "nonsaturating": (
    lambda r, f: -(np.log(sigmoid(r)) + np.log(1 - sigmoid(f))),
    lambda r, f: -np.log(sigmoid(f)),
  ),
  "hinge": (
    lambda r, f: np.maximum(0, 1 - r) + np.maximum(0, 1 + f),
    lambda r, f: -f,
  ),
  "least_squares": (
    lambda r, f: (r - 1) ** 2 / 2 + f**2 / 2,
    lambda r, f: (f - 1) ** 2 / 2,
  ),
  "wasserstein": (lambda r, f: f - r, lambda r, f: -f),
  "relativistic": (
    lambda r, f: np.log(1 + np.exp(-(r - f))),
    lambda r, f: np.log(1 + np.exp(-(f - r))),
  ),
}
OBJECTIVES = sorted(FORMULAS)


def module(name):
  return importlib.import_module(f"vidgan_jax.losses.{name}")


def random_pair(shape=(6,), seed=0):
  rng = np.random.default_rng(seed)
  return [jnp.float32(2 * rng.normal(size=shape)) for _ in range(2)]


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("shape", [(6,), (6, 5)])
def test_formula(name, shape):
  real, fake = random_pair(shape)
  r, f = np.asarray(real, np.float64), np.asarray(fake, np.float64)
  for loss, formula in zip(
    (module(name).d_loss, module(name).g_loss), FORMULAS[name]
  ):
    got = loss(real, fake)
    assert got.dtype == jnp.float32 and got.shape == ()
    np.testing.assert_allclose(got, np.mean(formula(r, f)), rtol=1e-5)
    np.testing.assert_allclose(jax.jit(loss)(real, fake), got, rtol=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_follow_finite_differences(name):
  real, fake = random_pair(seed=1)
  for side, loss, formula in zip(
    "dg", (module(name).d_loss, module(name).g_loss), FORMULAS[name]
  ):
    by_real, by_fake = jax.grad(loss, (0, 1))(real, fake)
    r, f = (np.asarray(x, np.float64) for x in (real, fake))
    h = 1e-6
    slope = (formula(r + h, f) - formula(r - h, f)) / (2 * h) / len(r)
    np.testing.assert_allclose(by_real, slope, rtol=1e-4, atol=1e-6)
    slope = (formula(r, f + h) - formula(r, f - h)) / (2 * h) / len(r)
    np.testing.assert_allclose(by_fake, slope, rtol=1e-4, atol=1e-6)
    # D wants the real above the fake; G wants its own up.
    if side == "d" and name != "least_squares":
      assert np.all(by_real <= 0) and np.all(by_fake >= 0)
    if side == "g" and name != "least_squares":
      assert np.all(by_fake <= 0)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("size", [100.0, 1e4])
def test_finite_at_extreme_logits(name, size):
  one, other = jnp.array([size, -size]), jnp.array([-size, size])
  for loss in (module(name).d_loss, module(name).g_loss):
    value, grads = jax.value_and_grad(loss, (0, 1))(one, other)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_minimax_value_at_the_optimum():
  # G has won: D = 1/2 everywhere, V = -2 log 2, and D is at rest.
  even = jnp.zeros(8)
  np.testing.assert_allclose(
    minimax.d_loss(even, even), 2 * np.log(2), rtol=1e-6
  )
  grad = jax.grad(lambda x: minimax.d_loss(x, x))(jnp.zeros(8))
  np.testing.assert_allclose(grad, 0, atol=1e-7)


@pytest.mark.parametrize("name", ["minimax", "nonsaturating", "least_squares"])
def test_best_discriminator(name):
  """D* = p / (p + q) on a space of three points (Goodfellow et al. 2014)."""
  p, q = np.array([1, 3, 4]), np.array([4, 3, 1])  # Counts out of eight.
  best = p / (p + q)
  logits = best if name == "least_squares" else np.log(best / (1 - best))

  def loss(table):
    return module(name).d_loss(
      jnp.repeat(table, p, total_repeat_length=8),
      jnp.repeat(table, q, total_repeat_length=8),
    )

  grad = jax.grad(loss)
  np.testing.assert_allclose(grad(jnp.float32(logits)), 0, atol=1e-6)
  assert np.abs(grad(jnp.float32(logits + 0.1))).min() > 1e-3


def test_nonsaturating_does_not_saturate():
  # Where D is sure of a fake, minimax gives G no gradient; this gives it all.
  sure = jnp.full(4, -20.0)
  slope = lambda m: 4 * jax.grad(m.g_loss, 1)(sure, sure)
  np.testing.assert_allclose(slope(nonsaturating), -1, atol=1e-6)
  np.testing.assert_allclose(slope(minimax), 0, atol=1e-6)
  assert np.all(slope(minimax) < 0)


def test_relativistic_sees_differences_only():
  real, fake = random_pair(seed=3)
  moved = jax.tree.map(lambda x: x + 7.0, (real, fake))
  for loss in (relativistic.d_loss, relativistic.g_loss):
    np.testing.assert_allclose(loss(*moved), loss(real, fake), rtol=1e-5)
  np.testing.assert_allclose(
    relativistic.d_loss(real, real), np.log(2), rtol=1e-6
  )


def test_relativistic_pairs_one_to_one():
  # Not all with all: another order is another loss.
  real, fake = jnp.array([0.0, 5.0]), jnp.array([1.0, 6.0])
  swapped = fake[::-1]
  assert relativistic.d_loss(swapped, real) != relativistic.d_loss(fake, real)


def test_wasserstein_is_the_distance_of_point_masses():
  # The best 1-Lipschitz critic of masses at 0 and at 3 is D(x) = x.
  loss = wasserstein.d_loss(jnp.full(4, 3.0), jnp.zeros(4))
  assert float(loss) == -3.0
