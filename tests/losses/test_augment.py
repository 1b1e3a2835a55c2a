"""Augmentation: identity, clip consistency, gradients, rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax.losses import augment

ALL = ",".join(augment.POLICIES)
SHAPE = (3, 16, 16, 3)  # T H W C

run = jax.jit(augment.augment, static_argnames="policy")


def make_keys(n, seed=0):
  return jax.random.split(jax.random.key(seed), n)


def clips(n, seed=0, shape=SHAPE):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.uniform(-1, 1, (n, *shape)), jnp.float32)


@jax.jit
def transform_each(video, keys, p):
  """name -> the batch after that transform alone, e.g. 'color.contrast'."""

  def one(clip, key):
    draw = jax.random.uniform(key, (3,))
    applied = draw[0] < p
    return {
      name: fn(clip, draw[1:], applied)
      for name, fn in augment._TRANSFORMS.items()
    }

  return jax.vmap(one)(video, keys)


def changed(before, after):
  return np.any(np.asarray(before) != np.asarray(after), (1, 2, 3, 4))


def test_identity_at_zero():
  video = clips(8)
  out = run(video, make_keys(8), 0.0, ALL)
  assert out.dtype == video.dtype
  np.testing.assert_array_equal(out, video)
  np.testing.assert_array_equal(run(video, make_keys(8), 1.0, ""), video)
  # The gradient is the identity too.
  weight = clips(8, 1)
  grad = jax.grad(lambda v: jnp.sum(weight * run(v, make_keys(8), 0.0, ALL)))(
    video
  )
  np.testing.assert_allclose(grad, weight, rtol=1e-6)


def test_eager_and_jit_agree():
  video, keys = clips(8), make_keys(8)
  eager = augment.augment(video, keys, 0.7, ALL)
  np.testing.assert_allclose(run(video, keys, 0.7, ALL), eager, atol=2e-6)
  # p may be traced, and is not part of the compiled program.
  count = run._cache_size()
  run(video, keys, 0.3, ALL)
  assert run._cache_size() == count


def test_all_frames_move_alike():
  still = jnp.broadcast_to(clips(16)[:, :1], (16, *SHAPE))
  for name, out in transform_each(still, make_keys(16), 1.0).items():
    assert changed(still, out).any(), name
    np.testing.assert_array_equal(out, np.broadcast_to(out[:, :1], out.shape))


def test_all_together_keep_a_still_clip_still():
  still = jnp.broadcast_to(clips(16)[:, :1], (16, *SHAPE))
  out = np.asarray(run(still, make_keys(16), 0.8, ALL))
  assert changed(still, out).mean() > 0.9
  np.testing.assert_array_equal(out, np.broadcast_to(out[:, :1], out.shape))


def test_rate():
  n = 2000
  video = jnp.broadcast_to(clips(1, shape=(1, 8, 8, 3)), (n, 1, 8, 8, 3))
  for p in (0.25, 0.8):
    for name, out in transform_each(video, make_keys(n), p).items():
      # Half of the flips and a translation in nine leave the clip as it is.
      want = p * {"flip": 1 / 2, "translation": 8 / 9}.get(name, 1.0)
      rate = changed(video, out).mean()
      assert abs(rate - want) < 4 * np.sqrt(want * (1 - want) / n), name


def test_rates_are_independent():
  """augment itself draws anew for each clip and for each transform."""
  n, p = 4000, 0.5
  # Colours act on these clips by affine maps; so with the corners' colour
  # kept apart, a cutout is seen by zeros and a flip by the order of columns.
  ramp = jnp.linspace(0.2, 0.9, 8)[None, None, :, None]
  video = jnp.broadcast_to(ramp, (n, 1, 8, 8, 3))
  out = np.asarray(run(video, make_keys(n), p, "flip,cutout"))
  cut = (out == 0).any((1, 2, 3, 4))
  columns = out[:, 0].sum((1, 3)) / np.maximum((out[:, 0] != 0).sum((1, 3)), 1)
  columns[columns == 0] = np.nan
  flipped = np.nanmean(np.diff(columns), 1) < 0
  assert abs(cut.mean() - 0.5) < 0.04
  assert abs(flipped.mean() - 0.25) < 0.04
  assert abs((cut & flipped).mean() - 0.125) < 0.03


def test_what_the_transforms_do():
  n = 64
  video, keys = clips(n), make_keys(n)
  v = np.asarray(video, np.float64)

  each = {
    name: np.asarray(out)
    for name, out in transform_each(video, keys, 1.0).items()
  }
  out = each["flip"]
  moved = changed(video, out)
  np.testing.assert_array_equal(out[moved], v[moved][:, :, :, ::-1])

  shift = each["color.brightness"] - v
  size = shift.mean((1, 2, 3, 4), keepdims=True)
  np.testing.assert_allclose(shift, np.broadcast_to(size, v.shape), atol=1e-6)
  assert -0.5 <= size.min() < -0.3 and 0.3 < size.max() <= 0.5

  for name, axes, low, high in (
    ("color.saturation", (4,), 0.0, 2.0),
    ("color.contrast", (1, 2, 3, 4), 0.5, 1.5),
  ):
    mean = v.mean(axes, keepdims=True)
    ratio = (each[name] - mean) / (v - mean)
    gain = np.median(ratio, (1, 2, 3, 4), keepdims=True)
    np.testing.assert_allclose(mean + gain * (v - mean), each[name], atol=1e-5)
    span = high - low
    assert low <= gain.min() < low + span / 5
    assert high - span / 5 < gain.max() <= high

  out = each["cutout"]
  gone = (out == 0).all((1, 4))  # N H W
  np.testing.assert_array_equal(out, np.where(gone[:, None, ..., None], 0, v))
  for mask in gone:  # A rectangle of at most half of each side.
    rows, columns = mask.any(1), mask.any(0)
    np.testing.assert_array_equal(mask, rows[:, None] & columns)
    assert 1 <= rows.sum() <= 8 and 1 <= columns.sum() <= 8
  assert gone.any(0).all()  # Every pixel is cut in some clip.


def test_translation_shifts_in_zeros():
  n = 64
  video = clips(n)
  out = transform_each(video, make_keys(n), 1.0)["translation"]
  padded = np.pad(video, ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0)))
  shifts = set()
  for before, after in zip(padded, out):
    found = [
      (y, x)
      for y in range(5)
      for x in range(5)
      if np.array_equal(before[:, y : y + 16, x : x + 16], after)
    ]
    assert len(found) == 1
    shifts.add(found[0])
  assert {y for y, _ in shifts} == {x for _, x in shifts} == set(range(5))


def test_gradients():
  # For given keys every transform is affine: its Jacobian is known from two
  # values, and the gradient must be the transpose of it.
  video, keys, step, weight = clips(4), make_keys(4), clips(4, 1), clips(4, 2)
  fn = lambda v: run(v, keys, 0.8, ALL)
  grad = jax.grad(lambda v: jnp.sum(weight * fn(v)))(video)
  assert np.isfinite(grad).all() and changed(jnp.zeros_like(grad), grad).all()
  moved = np.asarray(fn(video + step), np.float64) - np.asarray(fn(video))
  np.testing.assert_allclose(
    np.sum(np.asarray(grad, np.float64) * step),
    np.sum(weight * moved),
    rtol=1e-4,
    atol=1e-3,
  )


def test_a_clip_depends_on_its_key_alone():
  video, keys = clips(6), make_keys(6)
  out = run(video, keys, 0.8, ALL)
  order = jnp.array([3, 1, 5, 0, 4, 2])
  np.testing.assert_allclose(
    run(video[order], keys[order], 0.8, ALL), out[order], atol=1e-6
  )
  np.testing.assert_allclose(
    run(video[2:4], keys[2:4], 0.8, ALL), out[2:4], atol=1e-6
  )
  # Other keys, another result; same keys, the same transform for two clips.
  assert changed(out, run(video, make_keys(6, 1), 0.8, ALL)).any()


def test_a_transform_does_not_depend_on_the_rest_of_the_policy():
  # The place that cutout cuts is the same with and without the others.
  video, keys = jnp.full((16, *SHAPE), 0.5), make_keys(16)
  alone = np.asarray(run(video, keys, 1.0, "cutout")) == 0
  both = np.asarray(run(video, keys, 1.0, " flip, cutout,color")) == 0
  np.testing.assert_array_equal(alone, both)


def test_other_numbers_of_channels_and_sides():
  for shape in ((2, 8, 12, 1), (1, 7, 5, 4)):
    video = clips(16, shape=shape)
    out = run(video, make_keys(16), 0.8, ALL)
    assert out.shape == video.shape and np.isfinite(out).all()
    assert changed(video, out).mean() > 0.8


def test_unknown_policy():
  with pytest.raises(ValueError, match="'colour'.*Did you mean 'color'"):
    augment.augment(clips(2), make_keys(2), 0.5, "flip,colour")


def test_adapt():
  p = jnp.float32(0.3)
  up = augment.adapt(p, jnp.float32(0.9), 0.6, 64, 100)
  assert up.dtype == jnp.float32 and up.shape == ()
  np.testing.assert_allclose(up, 0.3 + 64 / 100_000, rtol=1e-6)
  down = augment.adapt(p, jnp.float32(0.1), 0.6, 64, 100)
  np.testing.assert_allclose(down, 0.3 - 64 / 100_000, rtol=1e-6)
  assert augment.adapt(p, jnp.float32(0.6), 0.6, 64, 100) == p
  # Overfitting for `kimg` thousand clips: from 0 to the limit, and no further.
  p = jnp.float32(0)
  for _ in range(50):
    p = augment.adapt(p, 1.0, 0.6, 2000, 100)
  np.testing.assert_allclose(p, 0.8, rtol=1e-6)
  for _ in range(50):
    p = augment.adapt(p, 0.0, 0.6, 2000, 100)
  assert p == 0
