"""Features without weights, and clips streamed through a network."""

import itertools
import os
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from vidgan_jax import sharding
from vidgan_jax.evals import features
from vidgan_jax.evals.nets import random3d

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
    from vidgan_jax import sharding
    from vidgan_jax.evals import features
    from vidgan_jax.evals.nets import random3d
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


def reference(video):
  """`random3d` for one clip (T, H, W, 3) in float64, by loops."""
  x, out = video.astype(np.float64), []
  weights = random3d.params()
  for layer, weight in enumerate(weights):
    t, h, w, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (1, 1), (0, 0)))
    y = np.zeros((t, h, w, weight.shape[-1]))
    for a, b, c in itertools.product(range(t), range(h), range(w)):
      window = padded[a : a + 3, b : b + 3, c : c + 3]
      y[a, b, c] = np.tensordot(window, weight.astype(np.float64), 4)
    y = np.maximum(y, 0.2 * y)
    out += [y.mean((0, 1, 2)), np.sqrt(y.var((0, 1, 2)) + 1e-6)]
    if layer == len(weights) - 1:
      break
    steps = 2 if t >= 4 else 1
    x = np.zeros((t // steps, h // 2, w // 2, y.shape[-1]))
    for a, b, c in itertools.product(*map(range, x.shape[:3])):
      block = y[a * steps :, 2 * b : 2 * b + 2, 2 * c : 2 * c + 2]
      x[a, b, c] = block[:steps].mean((0, 1, 2))
  return np.concatenate(out)


@pytest.fixture(scope="module")
def apply():
  return jax.jit(random3d.network())


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
  assert random3d.VERSION == "random3d-1"
  np.testing.assert_allclose(got.sum(), 38.70161, rtol=1e-4)
  np.testing.assert_allclose(got @ np.cos(np.arange(480)), -2.708141, rtol=1e-3)


def test_time_has_a_direction(apply):
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
  noisy = video + rng.normal(0, 0.003, video.shape)
  floor = np.abs(np.asarray(apply(noisy[None].astype(np.float32)))[0] - got[0])
  for other in got[1:]:
    assert np.abs(other - got[0]).max() > 5 * floor.max()


def test_a_single_frame_is_a_clip(apply):
  got = np.asarray(apply(np.zeros((1, 1, 8, 8, 3), np.float32)))
  assert np.isfinite(got).all()
