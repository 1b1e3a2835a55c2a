"""Penalties on the discriminator: each public function is one.

Those on its slope have the signature

  penalty(score_fn, real, fake, keys) -> (B,) float32, one value a clip,

with score_fn: (B, T, H, W, C) -> (B,), of which value i depends on clip i
alone; real, fake: (B, T, H, W, C); keys: (B,) typed keys, one a clip, so that
a clip's value does not depend on its place in the batch, nor on the device
that it is on. Weight, schedule and interval are the caller's: a paper's
gamma / 2 ||grad||^2 is gamma / 2 times `r1`.

score_fn may compute in bfloat16; its input, the gradient that comes back and
everything done to it here are float32.

Those on its scores, which cost nothing, are called regularisers and have the
signature

  regulariser(real, fake, means) -> () float32, the mean over the clips,

with real, fake: (B,) float32, each clip's mean logit over all heads; means:
(2,) float32, the moving averages of D(x) and D(G(z)), `State.score_means`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

ScoreFn = Callable[[jax.Array], jax.Array]


def r1(
  score_fn: ScoreFn, real: jax.Array, fake: jax.Array | None, keys: jax.Array
) -> jax.Array:
  """||grad_x D(x)||^2 at the real clips (Mescheder et al. 2018, eq. 9)."""
  del fake, keys
  return _sum_of_squares(_gradient(score_fn, real))


def r2(
  score_fn: ScoreFn, real: jax.Array | None, fake: jax.Array, keys: jax.Array
) -> jax.Array:
  """||grad_x D(x)||^2 at the generated clips (Mescheder et al. 2018)."""
  del real, keys
  return _sum_of_squares(_gradient(score_fn, fake))


def r1_fd(
  score_fn: ScoreFn,
  real: jax.Array,
  fake: jax.Array | None,
  keys: jax.Array,
  sigma: float = 0.01,
) -> jax.Array:
  """`r1` by a finite difference: two forward passes, no second derivative.

    (D(x + sigma eps) - D(x))^2 / sigma^2,   eps ~ N(0, I)

  Lin et al. 2025 (adversarial post-training, approximated R1, where the
  weight holds the 1 / sigma^2). To first order in sigma it is (grad D . eps)^2,
  of mean ||grad D||^2 and, for one draw, standard deviation sqrt(2) times
  that; a curved D adds a term of the order sigma^2.

  The difference is of two almost equal numbers. A score of size s computed in
  bfloat16 is off by about s / 256, which puts a floor of (s / 256 / sigma)^2
  under the value: run score_fn in float32 or take a larger sigma.

  Args:
    score_fn: clips -> scores.
    real: (B, T, H, W, C) clips.
    fake: not used.
    keys: (B,) typed keys.
    sigma: size of the step, in units of the pixels' [-1, 1].

  Returns:
    (B,) float32.
  """
  del fake
  return _finite_difference(score_fn, real, keys, sigma)


def r2_fd(
  score_fn: ScoreFn,
  real: jax.Array | None,
  fake: jax.Array,
  keys: jax.Array,
  sigma: float = 0.01,
) -> jax.Array:
  """`r2` by the finite difference of `r1_fd`."""
  del real
  return _finite_difference(score_fn, fake, keys, sigma)


def wgan_gp(
  score_fn: ScoreFn, real: jax.Array, fake: jax.Array, keys: jax.Array
) -> jax.Array:
  """(||grad_x D(x)|| - 1)^2 between real and fake (Gulrajani et al. 2017).

  x = u real + (1 - u) fake, u ~ U(0, 1), one u a clip (eq. 3). The paper's
  lambda = 10 is a weight of 10 on this value.
  """
  u = jax.vmap(jax.random.uniform)(keys)[:, None, None, None, None]
  real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
  squares = _sum_of_squares(_gradient(score_fn, u * real + (1 - u) * fake))
  # The derivative of the root is infinite at a D that is flat, as one with a
  # zero last layer is.
  return jnp.square(jnp.sqrt(squares + 1e-12) - 1)


def lecam(real: jax.Array, fake: jax.Array, means: jax.Array) -> jax.Array:
  """Keeps D's scores near their own past (Tseng et al. 2021, eq. 4).

    E[max(0, D(x) - a_fake)^2] + E[max(0, a_real - D(G(z)))^2]

  with a_real and a_fake the moving averages `means`. The paper's equation has
  no max; its authors' programs have, and so D pays only for the side that it
  is meant to be on.
  """
  a_real, a_fake = jax.lax.stop_gradient(means)
  over, under = jax.nn.relu(real - a_fake), jax.nn.relu(a_real - fake)
  return jnp.mean(jnp.square(over)) + jnp.mean(jnp.square(under))


def _gradient(score_fn, video):
  """Gradient of score_fn(video)[i] by video[i]: (B, T, H, W, C)."""
  # Clips do not see each other, so one gradient of the sum holds them all.
  total = lambda x: jnp.sum(score_fn(x).astype(jnp.float32))
  return jax.grad(total)(video.astype(jnp.float32))


def _finite_difference(score_fn, video, keys, sigma):
  video = video.astype(jnp.float32)
  normal = lambda key: jax.random.normal(key, video.shape[1:])
  moved = score_fn(video + sigma * jax.vmap(normal)(keys))
  difference = moved.astype(jnp.float32) - score_fn(video).astype(jnp.float32)
  return jnp.square(difference / sigma)


def _sum_of_squares(gradient):
  return jnp.sum(jnp.square(gradient), axis=tuple(range(1, gradient.ndim)))
