"""Penalties against closed forms, and finite differences against exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax.losses import penalties

SLOPES = ("r1", "r2", "r1_fd", "r2_fd", "wgan_gp")
SHAPE = (2, 4, 4, 3)  # T H W C
SIZE = int(np.prod(SHAPE))


def make_keys(n, seed=0):
  return jax.random.split(jax.random.key(seed), n)


def clips(n, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.uniform(-1, 1, (n, *SHAPE)), jnp.float32)


def flat(x):
  return np.asarray(x, np.float64).reshape(len(x), -1)


def linear(weight):
  return lambda x: x.reshape(len(x), -1) @ weight


def smooth(seed=0, dtype=jnp.float32):
  """D(x) = v . tanh(W x), its gradient in float64, and its weights."""
  rng = np.random.default_rng(seed)
  w = rng.normal(size=(16, SIZE)) / np.sqrt(SIZE)
  v = rng.normal(size=16)

  def score(x):
    x = x.reshape(len(x), -1).astype(dtype)
    h = jnp.tanh(x @ jnp.asarray(w.T, dtype))
    return (h @ jnp.asarray(v, dtype)).astype(jnp.float32)

  def gradient(x):
    return (v * (1 - np.tanh(flat(x) @ w.T) ** 2)) @ w

  return score, gradient


@pytest.mark.parametrize("name", SLOPES)
def test_contract(name):
  score, _ = smooth()
  penalty = getattr(penalties, name)
  real, fake, keys = clips(3, 1), clips(3, 2), make_keys(3)
  got = penalty(score, real, fake, keys)
  assert got.shape == (3,) and got.dtype == jnp.float32
  compiled = jax.jit(lambda r, f, k: penalty(score, r, f, k))(real, fake, keys)
  np.testing.assert_allclose(compiled, got, rtol=2e-3)
  # A clip's value goes with the clip and its key, not with its place.
  order = jnp.array([2, 0, 1])
  moved = penalty(score, real[order], fake[order], keys[order])
  np.testing.assert_allclose(moved, got[order], rtol=2e-3)
  alone = penalty(score, real[1:2], fake[1:2], keys[1:2])
  np.testing.assert_allclose(alone, got[1:2], rtol=2e-3)


@pytest.mark.parametrize("name", SLOPES)
def test_looks_at_its_own_side(name):
  score, _ = smooth()
  penalty = getattr(penalties, name)
  real, fake, other = clips(3, 1), clips(3, 2), clips(3, 3)
  base = penalty(score, real, fake, make_keys(3))
  by_real = np.array_equal(base, penalty(score, other, fake, make_keys(3)))
  by_fake = np.array_equal(base, penalty(score, real, other, make_keys(3)))
  assert by_real == name.startswith("r2")
  assert by_fake == name.startswith("r1")


def test_linear_discriminator():
  # The gradient is the weight itself, everywhere.
  weight = jnp.asarray(np.random.default_rng(0).normal(size=SIZE), jnp.float32)
  norm = np.linalg.norm(np.asarray(weight, np.float64))
  args = (linear(weight), clips(5, 1), clips(5, 2), make_keys(5))
  np.testing.assert_allclose(penalties.r1(*args), norm**2, rtol=1e-5)
  np.testing.assert_allclose(penalties.r2(*args), norm**2, rtol=1e-5)
  np.testing.assert_allclose(
    penalties.wgan_gp(*args), (norm - 1) ** 2, rtol=1e-5
  )


def test_exact_gradients():
  score, gradient = smooth()
  real, fake = clips(4, 1), clips(4, 2)
  for name, video in (("r1", real), ("r2", fake)):
    np.testing.assert_allclose(
      getattr(penalties, name)(score, real, fake, None),
      np.sum(gradient(video) ** 2, -1),
      rtol=1e-5,
    )


def test_wgan_gp_of_a_quadratic_discriminator():
  # D = |x|^2 / 2 has the gradient x: the value tells the point it is taken at.
  score = lambda x: 0.5 * jnp.sum(jnp.square(x), (1, 2, 3, 4))
  zeros, ones = jnp.zeros((200, *SHAPE)), jnp.ones((200, *SHAPE))
  got = penalties.wgan_gp(score, ones, zeros, make_keys(200))
  # |x| = u sqrt(SIZE); u is uniform and each clip has its own. The root is
  # only determined above 1, and below that it is small.
  u = (1 + np.sqrt(got)) / np.sqrt(SIZE)
  assert np.unique(u).size > 190
  u = np.sort(u)
  assert np.abs(u - np.linspace(0, 1, 200)).max() < 0.15 and u[-1] < 1.0001
  # Both sides at one place: no draw matters.
  got = penalties.wgan_gp(score, ones, ones, make_keys(200))
  np.testing.assert_allclose(got, (np.sqrt(SIZE) - 1) ** 2, rtol=1e-5)


@pytest.mark.parametrize("name", ["r1_fd", "r2_fd"])
def test_finite_difference_of_a_quadratic_discriminator(name):
  # For D = sum(a x^2) / 2 the mean over eps is known whatever sigma is:
  # sum(a^2 x^2) + sigma^2 / 4 (2 sum(a^2) + sum(a)^2).
  rng = np.random.default_rng(3)
  a = rng.uniform(-1, 1, SHAPE)
  x = rng.uniform(-1, 1, SHAPE)
  n, sigma = 5000, 0.5
  score = lambda v: 0.5 * jnp.sum(jnp.float32(a) * jnp.square(v), (1, 2, 3, 4))
  video = jnp.broadcast_to(jnp.float32(x), (n, *SHAPE))
  got = getattr(penalties, name)(score, video, video, make_keys(n), sigma=sigma)
  want = np.sum((a * x) ** 2) + sigma**2 / 4 * (
    2 * np.sum(a**2) + np.sum(a) ** 2
  )
  # Standard deviation of the mean: about sqrt(2 / n), two in a hundred.
  np.testing.assert_allclose(np.mean(got), want, rtol=0.08)
  assert np.std(got) > 0.5 * want  # One draw of eps a clip, not one for all.


def test_finite_difference_estimates_the_exact_penalty():
  score, _ = smooth()
  n = 5000
  video = jnp.broadcast_to(clips(1, 4), (n, *SHAPE))
  want = penalties.r1(score, video[:1], video[:1], None)
  got = penalties.r1_fd(score, video, video, make_keys(n))
  np.testing.assert_allclose(np.mean(got), want[0], rtol=0.08)


@pytest.mark.parametrize("name", SLOPES)
def test_gradient_by_the_weights(name):
  # For a linear D: d ||w||^2 / dw = 2 w, and so on in closed form.
  weight = jnp.asarray(np.random.default_rng(1).normal(size=SIZE), jnp.float32)
  n = 2000
  video = jnp.broadcast_to(clips(1, 5), (n, *SHAPE))
  grad = jax.grad(
    lambda w: jnp.mean(
      getattr(penalties, name)(linear(w), video, video, make_keys(n))
    )
  )(weight)
  norm = np.linalg.norm(weight)
  if name == "wgan_gp":
    want = 2 * (norm - 1) * weight / norm
  else:
    want = 2 * weight
  if name.endswith("_fd"):
    # Random, so in direction and length rather than element by element.
    cosine = grad @ want / np.linalg.norm(grad) / np.linalg.norm(want)
    assert cosine > 0.95
    np.testing.assert_allclose(
      np.linalg.norm(grad), np.linalg.norm(want), rtol=0.1
    )
  else:
    np.testing.assert_allclose(grad, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SLOPES)
def test_flat_discriminator_has_finite_gradients(name):
  grad = jax.grad(
    lambda w: jnp.mean(
      getattr(penalties, name)(linear(w), clips(3), clips(3), make_keys(3))
    )
  )(jnp.zeros(SIZE))
  assert np.isfinite(grad).all()


@pytest.mark.parametrize("name", ["r1", "r2", "wgan_gp"])
def test_bfloat16_discriminator(name):
  exact, _ = smooth(seed=5)
  coarse, _ = smooth(seed=5, dtype=jnp.bfloat16)
  args = (clips(8, 1), clips(8, 2), make_keys(8))
  got = getattr(penalties, name)(coarse, *args)
  want = getattr(penalties, name)(exact, *args)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, want, rtol=0.05, atol=0.02)
  assert not np.array_equal(got, want)


def test_finite_difference_takes_a_larger_step_in_bfloat16():
  """The docstring's advice: what rounding breaks a larger sigma mends."""
  exact, _ = smooth(seed=5)
  coarse, _ = smooth(seed=5, dtype=jnp.bfloat16)
  coarse_up = lambda x: 4 + coarse(x).astype(jnp.bfloat16)  # A score of size 4.
  n = 2000
  args = (jnp.broadcast_to(clips(1, 1), (n, *SHAPE)), None, make_keys(n))
  want = penalties.r1(exact, args[0][:1], None, None)[0]
  off = lambda sigma: abs(
    np.mean(penalties.r1_fd(coarse_up, *args, sigma=sigma)) / want - 1
  )
  assert off(0.1) < 0.15
  assert off(0.001) > 1


def test_lecam():
  rng = np.random.default_rng(0)
  r, f = rng.normal(size=(2, 6))
  a_real, a_fake = 0.4, -0.3
  want = np.mean(np.maximum(r - a_fake, 0) ** 2) + np.mean(
    np.maximum(a_real - f, 0) ** 2
  )
  args = jnp.float32(r), jnp.float32(f), jnp.float32([a_real, a_fake])
  got = penalties.lecam(*args)
  assert got.dtype == jnp.float32 and got.shape == ()
  np.testing.assert_allclose(got, want, rtol=1e-5)
  # D moves, the anchors do not.
  np.testing.assert_array_equal(jax.grad(penalties.lecam, 2)(*args), 0)


def test_lecam_pulls_the_sides_together():
  by_real, by_fake = jax.grad(penalties.lecam, (0, 1))(
    jnp.full(3, 2.0), jnp.full(3, -2.0), jnp.array([2.0, -2.0])
  )
  assert np.all(by_real > 0) and np.all(by_fake < 0)  # Descent: down and up.
