"""Objectives: the papers' formulas in float64, and what follows from them."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax.losses import minimax
from vidgan_jax.losses import nonsaturating
from vidgan_jax.losses import relativistic
from vidgan_jax.losses import wasserstein
from vidgan_jax.models import layers


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


def scores(*logits):
  return layers.Scores(tuple(logits), tuple(() for _ in logits))


def random_pair(dtype=np.float32, seed=0):
  """Two heads: one logit a clip, and five."""
  rng = np.random.default_rng(seed)
  draw = lambda: scores(
    jnp.asarray(2 * rng.normal(size=(6,)), dtype),
    jnp.asarray(2 * rng.normal(size=(6, 5)), dtype),
  )
  return draw(), draw()


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_formula(name, dtype):
  real, fake = random_pair(dtype)
  wide = lambda s: [np.asarray(x, np.float64) for x in s.logits]
  for loss, formula in zip(
    (module(name).d_loss, module(name).g_loss), FORMULAS[name]
  ):
    heads = [np.mean(formula(r, f)) for r, f in zip(wide(real), wide(fake))]
    got = loss(real, fake)
    assert got.dtype == jnp.float32 and got.shape == ()
    # Tight for bfloat16 logits also: they are cast before anything else.
    np.testing.assert_allclose(got, np.mean(heads), rtol=1e-5)
    np.testing.assert_allclose(jax.jit(loss)(real, fake), got, rtol=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_follow_finite_differences(name):
  real, fake = random_pair(seed=1)
  for side, loss, formula in zip(
    "dg", (module(name).d_loss, module(name).g_loss), FORMULAS[name]
  ):
    by_real, by_fake = jax.grad(
      lambda r, f, loss=loss: loss(scores(r), scores(f)), (0, 1)
    )(real.logits[0], fake.logits[0])
    r, f = (np.asarray(x.logits[0], np.float64) for x in (real, fake))
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
  one, other = (
    scores(jnp.array([size, -size])),
    scores(jnp.array([-size, size])),
  )
  for loss in (module(name).d_loss, module(name).g_loss):
    value, grads = jax.value_and_grad(loss, (0, 1))(one, other)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_heads_weigh_the_same(name):
  # A head of many logits counts no more than a head of one.
  real, fake = random_pair(seed=2)
  for loss in (module(name).d_loss, module(name).g_loss):
    both = loss(real, fake)
    alone = [
      loss(scores(r), scores(f)) for r, f in zip(real.logits, fake.logits)
    ]
    np.testing.assert_allclose(both, np.mean(alone), rtol=1e-5)
    assert abs(alone[0] - alone[1]) > 1e-3


def test_minimax_value_at_the_optimum():
  # G has won: D = 1/2 everywhere, V = -2 log 2, and D is at rest.
  even = scores(jnp.zeros(8))
  np.testing.assert_allclose(
    minimax.d_loss(even, even), 2 * np.log(2), rtol=1e-6
  )
  grad = jax.grad(lambda x: minimax.d_loss(scores(x), scores(x)))(jnp.zeros(8))
  np.testing.assert_allclose(grad, 0, atol=1e-7)


@pytest.mark.parametrize("name", ["minimax", "nonsaturating", "least_squares"])
def test_best_discriminator(name):
  """D* = p / (p + q) on a space of three points (Goodfellow et al. 2014)."""
  p, q = np.array([1, 3, 4]), np.array([4, 3, 1])  # Counts out of eight.
  best = p / (p + q)
  logits = best if name == "least_squares" else np.log(best / (1 - best))

  def loss(table):
    return module(name).d_loss(
      scores(jnp.repeat(table, p, total_repeat_length=8)),
      scores(jnp.repeat(table, q, total_repeat_length=8)),
    )

  grad = jax.grad(loss)
  np.testing.assert_allclose(grad(jnp.float32(logits)), 0, atol=1e-6)
  assert np.abs(grad(jnp.float32(logits + 0.1))).min() > 1e-3


def test_nonsaturating_does_not_saturate():
  # Where D is sure of a fake, minimax gives G no gradient; this gives it all.
  sure = scores(jnp.full(4, -20.0))
  slope = lambda m: 4 * jax.grad(m.g_loss, 1)(sure, sure).logits[0]
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
  real, fake = scores(jnp.zeros((3, 2))), scores(jnp.zeros((3, 1)))
  with pytest.raises(ValueError, match=r"\(3, 2\) and \(3, 1\)"):
    relativistic.d_loss(real, fake)
  # Not all with all: another order is another loss.
  real, fake = scores(jnp.array([0.0, 5.0])), scores(jnp.array([1.0, 6.0]))
  swapped = scores(fake.logits[0][::-1])
  assert relativistic.d_loss(swapped, real) != relativistic.d_loss(fake, real)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_number_of_heads_must_agree(name):
  real, _ = random_pair()
  with pytest.raises(ValueError):
    module(name).d_loss(real, scores(real.logits[0]))


def test_wasserstein_is_the_distance_of_point_masses():
  # The best 1-Lipschitz critic of masses at 0 and at 3 is D(x) = x.
  loss = wasserstein.d_loss(scores(jnp.full(4, 3.0)), scores(jnp.zeros(4)))
  assert float(loss) == -3.0
