import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax.models import continuous
from vidgan_jax.models import layers
from vidgan_jax.train import state as state_lib

FIELDS = dict(resolution=16, frames=3, num_classes=2)


def _generator(**more):
  fields = FIELDS | dict(widths=(16, 8), content_dim=8, style_dim=16) | more
  return continuous.Generator(**fields)


def _discriminator(**more):
  fields = FIELDS | dict(widths=(8, 16), joint=16) | more
  return continuous.Discriminator(**fields)


def _z(generator, num, seconds, seed=0):
  keys = jax.vmap(jax.random.fold_in, (None, 0))(
    jax.random.key(seed), jnp.arange(num)
  )
  return state_lib.sample_noise(generator.noise_spec(seconds), keys)


@functools.cache
def _setup(num=3, seconds=2.0, **more):
  generator = _generator(**more)
  z = _z(generator, num, seconds)
  given = {"label": jnp.arange(num) % 2}
  times = jnp.tile(jnp.array([0.0, 0.4, 1.3]), (num, 1))
  init = jax.jit(generator.init)
  params = init(jax.random.key(1), given, z, times)["params"]
  # Zero-initialised ends would hide much: give every leaf a value.
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(2), len(leaves))
  leaves = [
    x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys)
  ]
  return generator, jax.tree.unflatten(tree, leaves), given, z, times


@functools.partial(jax.jit, static_argnums=0)
def _apply(generator, params, given, z, times):
  return generator.apply({"params": params}, given, z, times)


def test_a_frame_does_not_depend_on_the_other_frames():
  generator, params, given, z, times = _setup()
  whole = _apply(generator, params, given, z, times)
  alone = _apply(generator, params, given, z, times[:, 1:2])
  np.testing.assert_allclose(whole[:, 1:2], alone, atol=1e-5)
  backwards = _apply(generator, params, given, z, times[:, ::-1])
  np.testing.assert_allclose(whole[:, ::-1], backwards, atol=1e-5)


def test_a_sample_does_not_depend_on_the_batch():
  generator, params, given, z, times = _setup()
  whole = _apply(generator, params, given, z, times)
  one = jax.tree.map(lambda x: x[1:2], (given, z, times))
  np.testing.assert_allclose(
    whole[1:2], _apply(generator, params, *one), atol=1e-5
  )


def test_longer_noise_begins_like_shorter_noise():
  generator, params, given, z, times = _setup()
  long = _z(generator, 3, 20.0)
  assert long["motion"].shape[1] > z["motion"].shape[1]
  np.testing.assert_allclose(
    _apply(generator, params, given, z, times),
    _apply(generator, params, given, long, times),
    atol=1e-5,
  )


def test_motion_is_continuous_in_time_and_never_repeats():
  generator, params, given, z, _ = _setup(seconds=4.0)
  times = jnp.tile(jnp.linspace(0, 4, 401), (3, 1))
  video = _apply(generator, params, given, z, times)
  steps = jnp.abs(jnp.diff(video, axis=1)).mean((0, 2, 3, 4))
  # No jump at the borders of the cells (every 0.5 s = 50 frames).
  assert steps.max() < 8 * jnp.median(steps)
  apart = jnp.abs(video[:, :1] - video[:, 100:]).mean((2, 3, 4))
  assert apart.min() > 2 * steps.mean()


def test_content_and_motion_are_apart():
  generator, params, given, z, times = _setup()
  label = {"label": jnp.zeros(3, jnp.int32)}
  same = {k: jnp.repeat(x[:1], 3, 0) for k, x in z.items()}
  moving = _apply(
    generator, params, label, same | {"motion": z["motion"]}, times
  )
  still = _apply(generator, params, label, same, times)
  assert jnp.abs(moving - still).max() > 1e-3
  # Without motion noise that differs and at one time, content alone decides.
  np.testing.assert_allclose(still[0], still[1], atol=1e-5)


def test_the_class_matters_to_both():
  generator, params, given, z, times = _setup()
  one = _apply(generator, params, {"label": jnp.zeros(3, jnp.int32)}, z, times)
  two = _apply(generator, params, {"label": jnp.ones(3, jnp.int32)}, z, times)
  assert jnp.abs(one - two).max() > 1e-3
  discriminator = _discriminator()
  d = discriminator.init(jax.random.key(0), one, given, times)
  a = discriminator.apply(d, one, {"label": jnp.zeros(3, jnp.int32)}, times)
  b = discriminator.apply(d, one, {"label": jnp.ones(3, jnp.int32)}, times)
  assert all(jnp.abs(x - y).max() > 1e-4 for x, y in zip(a.logits, b.logits))


@pytest.mark.parametrize("temporal_head", [False, True])
def test_the_discriminator_sees_order_and_gaps(temporal_head):
  discriminator = _discriminator(temporal_head=temporal_head)
  video = jax.random.normal(jax.random.key(0), (3, 3, 16, 16, 3))
  given = {"label": jnp.arange(3) % 2}
  times = jnp.tile(jnp.array([0.0, 0.4, 1.3]), (3, 1))
  params = discriminator.init(jax.random.key(1), video, given, times)
  apply = lambda v, t: discriminator.apply(params, v, given, t)
  scores = apply(video, times)
  assert len(scores.logits) == 2 + temporal_head
  assert all(x.dtype == jnp.float32 for x in scores.logits)
  mixed = apply(video[:, jnp.array([1, 0, 2])], times)
  gaps = apply(video, times * 2)
  assert jnp.abs(scores.logits[1] - mixed.logits[1]).max() > 1e-4
  assert jnp.abs(scores.logits[1] - gaps.logits[1]).max() > 1e-4
  one = jax.tree.map(lambda x: x[1:2], (video, given, times))
  alone = discriminator.apply(params, *one)
  for a, b in zip(scores.logits, alone.logits):
    np.testing.assert_allclose(a[1:2], b, atol=1e-5)


def test_temporal_mixing_is_the_identity_at_first():
  plain, params, given, z, times = _setup()
  mixing = _generator(temporal=True)
  fresh = mixing.init(jax.random.key(1), given, z, times)["params"]
  base = plain.init(jax.random.key(1), given, z, times)["params"]
  video = _apply(mixing, fresh, given, z, times)
  dropped = {k: v for k, v in fresh.items() if "TemporalMix" not in k}
  assert dropped.keys() == base.keys()
  np.testing.assert_allclose(
    video, _apply(plain, dropped, given, z, times), atol=1e-6
  )


def test_bfloat16_computes_close_to_float32():
  generator, params, given, z, times = _setup()
  half = _generator(dtype=jnp.bfloat16)
  video = _apply(generator, params, given, z, times)
  rough = _apply(half, params, given, z, times)
  assert rough.dtype == jnp.float32
  assert jnp.abs(video - rough).mean() < 0.05 * jnp.abs(video).mean() + 0.02


def test_every_variant_builds_at_its_size():
  sizes = {}
  resolutions = {"XS": 32, "S": 32, "M": 64, "L": 128, "XL": 256}
  assert resolutions.keys() == continuous.VARIANTS.keys()
  for name, variant in continuous.VARIANTS.items():
    resolution = resolutions[name]
    shared = dict(resolution=resolution, frames=3)
    generator = continuous.Generator(**shared, **variant["generator"])
    discriminator = continuous.Discriminator(
      **shared, **variant["discriminator"]
    )
    z = {
      k: jax.ShapeDtypeStruct((1, *s), jnp.float32)
      for k, s in generator.noise_spec(1.0).items()
    }
    times = jax.ShapeDtypeStruct((1, 3), jnp.float32)
    video = jax.ShapeDtypeStruct((1, 3, resolution, resolution, 3), jnp.float32)
    key = jax.random.key(0)
    out, g = jax.eval_shape(
      lambda z, t, m=generator, k=key: m.init_with_output(k, {}, z, t), z, times
    )
    assert out.shape == video.shape
    scores, d = jax.eval_shape(
      lambda v, t, m=discriminator, k=key: m.init_with_output(k, v, {}, t),
      video,
      times,
    )
    sizes[name] = [
      sum(x.size for x in jax.tree.leaves(tree)) for tree in (g, d)
    ]
  g_sizes = [g for g, _ in sizes.values()]
  assert g_sizes == sorted(g_sizes)
  assert 0.2e6 < g_sizes[0] < 0.5e6 and 60e6 < g_sizes[-1] < 140e6, sizes


def test_a_resolution_that_does_not_fit_is_refused():
  with pytest.raises(ValueError, match="resolution is 20.*multiple of 8"):
    _setup_at = _generator(resolution=20, widths=(8, 8, 8))
    z = _z(_setup_at, 1, 1.0)
    _setup_at.init(
      jax.random.key(0),
      {"label": jnp.zeros(1, jnp.int32)},
      z,
      jnp.zeros((1, 3)),
    )


def test_upsample_is_linear_interpolation():
  x = np.arange(4.0)[None, :, None, None] + np.zeros((1, 4, 4, 2))
  y = layers.upsample(jnp.asarray(x))[0, :, 0, 0]
  np.testing.assert_allclose(
    y, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3], atol=1e-6
  )


def test_space_to_depth_has_its_inverse():
  x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
  y = layers.space_to_depth(x, 2)
  assert y.shape == (2, 4, 4, 12)
  np.testing.assert_array_equal(layers.depth_to_space(y, 2), x)
