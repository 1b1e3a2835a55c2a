"""Features without weights, and clips streamed through a network."""

import functools
import itertools
import os
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from vidgan_jax.devices import sharding
from vidgan_jax.evals import features
from vidgan_jax.nets import random3d

# --------------------------------------------------------------------- stream


def first_values(params, video):
  """(B, T, H, W, 3) uint8 -> (B, 5)."""
  return params["scale"] * video.reshape(len(video), -1)[:, :5]


def clips(num, seed=0, shape=(2, 8, 8, 3)):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (num, *shape)).astype(np.uint8)


@pytest.mark.parametrize("mesh", [False, True])
def test_a_stream_has_every_clip_once(mesh):
  video = clips(23)
  want = 0.5 * video.reshape(23, -1)[:, :5]
  mesh = sharding.make_mesh() if mesh else None
  for batch in (8, 32):
    cuts = ((0, 1), (1, 1), (1, 9), (9, 23))
    videos = (video[a:b] for a, b in cuts)
    params = {"scale": np.float32(0.5)}
    found = list(features.stream(first_values, params, videos, batch, mesh))
    assert all(isinstance(block, np.ndarray) for block in found)
    np.testing.assert_array_equal(np.concatenate(found), want)


def test_the_same_on_eight_devices(tmp_path):
  """And with batches of another size."""
  code = """
    import sys
    import jax, numpy as np
    from vidgan_jax.devices import sharding
    from vidgan_jax.evals import features
    from vidgan_jax.nets import random3d
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (19, 2, 8, 8, 3)).astype(np.uint8)
    count = jax.device_count()
    found = features.stream(
      lambda params, x: random3d.apply(params, x.astype(np.float32) / 255),
      random3d.params(), [video], 4 * count, sharding.make_mesh())
    np.save(sys.argv[1], np.concatenate(list(found)))
    print(count)
  """
  out = []
  for count in (1, 8):
    flags = f"--xla_force_host_platform_device_count={count}"
    done = subprocess.run(
      [sys.executable, "-c", textwrap.dedent(code), tmp_path / f"{count}.npy"],
      env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
      capture_output=True,
      text=True,
    )
    assert done.stdout.strip() == str(count), done.stderr
    out.append(np.load(tmp_path / f"{count}.npy"))
  assert out[0].shape == (19, random3d.SIZE)
  np.testing.assert_allclose(*out, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  "video",
  [
    clips(2).astype(np.float32),
    clips(2)[0],
    clips(2)[..., :1],
    clips(2).tolist(),
  ],
)
def test_what_is_no_clip(video):
  with pytest.raises(ValueError, match="uint8, not"):
    next(features.stream(first_values, {}, [video]))


# -------------------------------------------------------------------- network


def energy(y):
  """Mean log energy of squares of 4 x 4 out of (T, H, W, 4), 2 apart."""
  side = min(4, *y.shape[1:3])
  step = max(1, side // 2)
  rows, columns = (range(0, n - side + 1, step) for n in y.shape[1:3])
  places = [
    np.square(y[:, a : a + side, b : b + side]).mean((1, 2))
    for a, b in itertools.product(rows, columns)
  ]
  # Rounding to steps of 2 / 255 has the power of a step squared over 12.
  return np.log1p(np.array(places) / ((2 / 255) ** 2 / 12)).mean((0, 1))


def reference(video):
  """`random3d` for one clip (T, H, W, 3) in float64, by loops."""
  x, filters = video.astype(np.float64), random3d.params().astype(np.float64)
  bands = np.zeros((4, 4, 4))  # Octave of time, of space, filter.
  for scale in range(4):
    t, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    y = np.zeros((t, h, w, 4))
    for a, b in itertools.product(range(h), range(w)):
      window = padded[:, a : a + 3, b : b + 3]
      y[:, a, b] = np.tensordot(window, filters, 3)
    bands[0, scale] = energy(y)
    for octave in range(1, 4):
      bands[octave, scale] = energy(np.diff(y, axis=0) / np.sqrt(2))
      if len(y) >= 4:
        pairs = [y[i] + y[i + 1] for i in range(0, len(y) - 1, 2)]
        y = np.array(pairs) / np.sqrt(2)
    if scale == 3:
      break
    x = np.stack(
      [
        x[:, 2 * a : 2 * a + 2, 2 * b : 2 * b + 2].sum((1, 2)) / 2
        for a, b in itertools.product(range(h // 2), range(w // 2))
      ],
      1,
    ).reshape(t, h // 2, w // 2, 3)
  out = []
  for octave in bands:
    out += [[octave.mean()], (octave - octave.mean()).ravel()]
  h, w = (n // 2 for n in video.shape[1:3])
  for a, b in itertools.product((0, h), (0, w)):
    out.append(2 * video[:, a : a + h, b : b + w].mean((0, 1, 2)))
  return np.concatenate(out)


@pytest.fixture(scope="module")
def apply():
  return jax.jit(functools.partial(random3d.apply, random3d.params()))


@pytest.mark.parametrize("shape", [(4, 8, 8, 3), (5, 9, 11, 3)])
def test_network_against_loops(apply, shape):
  rng = np.random.default_rng(1)
  video = rng.uniform(-1, 1, (2, *shape)).astype(np.float32)
  got = np.asarray(apply(video))
  assert got.shape == (2, random3d.SIZE) and got.dtype == np.float32
  for one, clip in zip(got, video):
    np.testing.assert_allclose(one, reference(clip), rtol=1e-4, atol=1e-5)


def test_features_never_change(apply):
  """A number once published can be compared for ever; else a new VERSION."""
  axes = np.meshgrid(*map(np.arange, (4, 8, 8, 3)), indexing="ij")
  t, y, x, c = (a.astype(np.float64) for a in axes)
  video = np.sin(0.7 * t + 0.9 * y - 0.5 * x + 2 * c).astype(np.float32)
  got = np.asarray(apply(video[None]), np.float64)[0]
  assert random3d.VERSION == "random3d-2"
  np.testing.assert_allclose(got.sum(), 34.170999, rtol=1e-4)
  np.testing.assert_allclose(got @ np.cos(np.arange(80)), 17.326133, rtol=1e-3)


def test_what_it_sees_of_time(apply):
  """Order and rest; not which way time runs: squares have no sign."""
  rng = np.random.default_rng(0)
  # A square that moves to the right over noise that stands still.
  video = np.repeat(rng.uniform(-0.3, 0.3, (1, 16, 16, 3)), 8, 0)
  for t in range(8):
    video[t, 4:9, t : t + 5] = 1
  shuffled = video[rng.permutation(8)]
  still = np.repeat(video[:1], 8, 0)
  turned = video[:, :, ::-1]
  views = [video, video[::-1], shuffled, still, turned]
  got = np.asarray(apply(np.stack(views).astype(np.float32)))
  np.testing.assert_allclose(got[1], got[0], atol=1e-4)
  for other in got[2:]:  # Some band's power by half as much again, or more.
    assert np.abs(other - got[0]).max() > 0.5
  # Nothing of a still has any power over time.
  bands = got[3, :68].reshape(4, 17)
  np.testing.assert_allclose(bands[1:], 0, atol=1e-3)


def test_noise_has_one_power_in_all_bands(apply):
  """So that one floor serves all."""
  noise = np.random.default_rng(0).normal(0, 0.1, (8, 8, 16, 16, 3))
  got = np.asarray(apply(noise.astype(np.float32))).mean(0)[:68].reshape(4, 17)
  # Log of the mean; a mean of logs is less where a place has few samples.
  want = np.log(0.1**2 / ((2 / 255) ** 2 / 12))
  np.testing.assert_allclose(got[:, 0] + got[:, 1:5].mean(1), want, atol=0.15)


def test_a_single_frame_is_a_still(apply):
  frame = np.random.default_rng(0).uniform(-1, 1, (1, 1, 8, 8, 3))
  frame = frame.astype(np.float32)
  got = np.asarray(apply(frame))
  assert np.isfinite(got).all()
  np.testing.assert_allclose(got, apply(frame.repeat(4, 1)), atol=1e-5)


def test_small_pictures_are_refused():
  with pytest.raises(ValueError, match="7 x 9 pixels"):
    random3d.apply(random3d.params(), np.zeros((1, 2, 7, 9, 3), np.float32))
