"""Damage is what it is said to be, against Pillow, NumPy and PyAV."""

import io

import numpy as np
from PIL import Image
import pytest
import waves

tf = pytest.importorskip("tensorflow", reason="TensorFlow not installed")
from vidgan_jax.tasks import degrade  # noqa: E402


def seeds(n):
  return [tf.constant([i, 5], tf.int64) for i in range(n)]


def graph(function):
  return tf.function(function, autograph=False)


def smooth(t, h, w, seed=0):
  """A clip of soft, moving waves, of little colour: float32 in [-1, 1]."""
  x = waves.waves(t, h, w, seed).astype(np.float32)
  return 0.75 * x[..., :1] + 0.15 * x


def psnr(a, b):
  return 10 * np.log10(4 / np.mean((np.asarray(a, float) - b) ** 2))


# ---------------------------------------------------------------------- noise


def test_gaussian_noise():
  clip = np.zeros((8, 64, 64, 3), np.float32)
  noise = degrade.gaussian_noise(clip, seeds(1)[0], 0.2).numpy()
  assert noise.std() == pytest.approx(0.2, rel=0.01)
  assert abs(noise.mean()) < 0.003
  # Each frame has noise of its own.
  assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.03


def test_poisson_noise():
  levels = np.linspace(-0.9, 1, 5, dtype=np.float32)
  clip = np.tile(levels[:, None, None, None], (1, 64, 64, 3))
  noisy = degrade.poisson_noise(clip, seeds(1)[0], 0.1).numpy()
  np.testing.assert_allclose(noisy.mean((1, 2, 3)), levels, atol=0.01)
  # The variance goes with the light, and is 0.1^2 at mid-grey.
  want = 0.1 * np.sqrt((levels + 1) / 1)
  np.testing.assert_allclose(noisy.std((1, 2, 3)), want, rtol=0.03)


def test_noise_is_of_two_kinds():
  dark = np.full((1, 64, 64, 3), -0.9, np.float32)
  noisy = lambda s, share: degrade.noise(dark, s, 0.1, share).numpy()
  one = lambda s, share: (noisy(s, share) - dark).std()
  gauss = [one(s, 0.0) for s in seeds(3)]
  shot = [one(s, 1.0) for s in seeds(3)]
  np.testing.assert_allclose(gauss, 0.1, rtol=0.03)
  np.testing.assert_allclose(shot, 0.1 * np.sqrt(0.1), rtol=0.05)
  some = np.array([one(s, 0.5) for s in seeds(40)]) < 0.06
  assert 8 < some.sum() < 32
  # No noise is no noise.
  still = degrade.poisson_noise(dark, seeds(1)[0], tf.zeros([1, 64, 64, 1]))
  np.testing.assert_allclose(still, dark, atol=1e-3)


def test_field():
  make = graph(lambda s: degrade.field(s, (5, 20, 30), 2, 7))
  fields = np.stack([make(s).numpy() for s in seeds(40)])
  assert fields.shape == (40, 5, 20, 30, 1)
  assert 2 <= fields.min() < 2.7 and 6.3 < fields.max() <= 7
  for axis in (1, 2, 3):
    step = abs(np.diff(fields, axis=axis))
    assert 0 < step.max() < 2
  np.testing.assert_array_equal(fields[3], make(seeds(4)[3]))


def test_uniform_and_choose():
  draws = [float(degrade.uniform(s, 2, 3)) for s in seeds(100)]
  assert 2 <= min(draws) < 2.1 and 2.9 < max(draws) < 3
  picks = [int(degrade.choose(s, [1, 0, 3])) for s in seeds(200)]
  assert set(picks) == {0, 2}
  assert 0.6 < np.mean(np.equal(picks, 2)) < 0.9
  assert int(degrade.choose(seeds(1)[0], [5.0])) == 0


def test_eight_bit():
  clip = np.linspace(-1.5, 1.5, 64, dtype=np.float32).reshape(1, 8, 8, 1)
  levels = (degrade.eight_bit(clip).numpy() + 1) * 127.5
  np.testing.assert_allclose(levels, levels.round(), atol=1e-4)
  want = np.clip(clip, -1, 1)
  np.testing.assert_allclose(levels / 127.5 - 1, want, atol=0.5001 / 127.5)


# ---------------------------------------------------------------------- space


def test_isotropic_kernels_are_round():
  make = lambda s, share: degrade.gaussian_kernel(s, 0.5, 2, 9, share).numpy()
  turned = lambda k: abs(k - k.T[::-1]).max()
  assert max(turned(make(s, 1.0)) for s in seeds(8)) < 1e-6
  assert min(turned(make(s, 0.0)) for s in seeds(8)) > 1e-4


@pytest.mark.parametrize("cutoff", [1.2, 2.0, 2.8])
def test_sinc_kernel_is_a_low_pass_filter(cutoff):
  kernel = degrade.sinc_kernel(cutoff, 41).numpy()
  assert kernel.sum() == pytest.approx(1, abs=1e-5)
  assert kernel.min() < 0  # It rings.
  gain = abs(np.fft.fft2(kernel, (128, 128)))
  angle = 2 * np.pi * np.fft.fftfreq(128)
  radius = np.hypot(angle, angle[:, None])
  assert abs(gain[radius < cutoff - 0.3] - 1).max() < 0.15
  assert gain[radius > cutoff + 0.3].max() < 0.15
  # An edge overshoots.
  edge = np.tile(np.sign(np.arange(40) - 19.5)[:, None], (1, 40))
  edge = edge[None, ..., None].astype(np.float32)
  out = degrade.blur(edge, degrade.sinc_kernel(cutoff)).numpy()
  assert out[0, 12:28].max() > 1.03


def test_blur():
  clip = smooth(2, 20, 24)
  kernel = degrade.gaussian_kernel(seeds(1)[0], 0.5, 2, 7).numpy()
  assert kernel.sum() == pytest.approx(1) and kernel.min() >= 0
  np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)
  out = degrade.blur(clip, tf.constant(kernel)).numpy()
  padded = np.pad(clip, [(0, 0), (3, 3), (3, 3), (0, 0)], "reflect")
  want = sum(
    kernel[i, j] * padded[:, i : i + 20, j : j + 24].astype(float)
    for i in range(7)
    for j in range(7)
  )
  np.testing.assert_allclose(out, want, atol=1e-5)
  # Frames smaller than the kernel.
  flat = degrade.blur(tf.ones([1, 2, 3, 3]), tf.constant(kernel))
  np.testing.assert_allclose(flat, np.ones([1, 2, 3, 3]), atol=1e-5)


# --------------------------------------------------------------------- codecs


@pytest.mark.parametrize("quality", [10, 60])
def test_jpeg_is_pillows(quality):
  clip = smooth(3, 40, 56)
  noise = 0.2 * np.random.default_rng(0).standard_normal(clip.shape)
  clip = np.clip(clip + noise, -1, 1).astype(np.float32)
  out = graph(lambda x: degrade.jpeg(x, quality))(clip)
  assert out.shape == clip.shape
  for frame, got in zip(degrade.to_bytes(clip).numpy(), out.numpy()):
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality)
    want = np.asarray(Image.open(file)).astype(float) / 127.5 - 1
    assert np.abs(want - got).mean() < 0.5 / 127.5
    assert psnr(frame / 127.5 - 1.0, got) < 40  # It did harm.


@pytest.mark.parametrize("name", degrade.CODECS)
def test_codecs(name):
  clip = smooth(5, 33, 47)  # Odd sizes too.
  function = graph(lambda x, crf: degrade.codec(x, crf, name))
  fine = function(clip, tf.constant(10.0))
  assert fine.shape == clip.shape and fine.dtype == tf.float32
  coarse = function(clip, tf.constant(45.0)).numpy()
  # Frames come back in their order, colours as they were.
  assert psnr(fine.numpy(), clip) > 28 > psnr(fine.numpy(), clip[::-1])
  assert psnr(coarse, clip) < psnr(fine.numpy(), clip) - 2
  # Colours are what they were, those of one matrix are not of another.
  flat = np.broadcast_to(np.array([0.7, -0.5, 0.1], np.float32), clip.shape)
  shift = (function(flat, tf.constant(4.0)).numpy() - flat).mean((0, 1, 2))
  assert np.abs(shift).max() < 3 / 127.5
  again = function(clip, tf.constant(45.0)).numpy()
  np.testing.assert_array_equal(coarse, again)


def test_real_has_its_shares():
  """Each option is a share of the clips, and changes what it names alone."""
  clip = smooth(2, 48, 48)
  draw = lambda **o: degrade.real(clip, seeds(1)[0], 24, 24, **o).numpy()
  plain = dict(isotropic=0.0, poisson=0.0, sinc=0.0, h264=0.0)
  want = draw(**plain)
  for option in plain:
    assert 18 < psnr(draw(**plain | {option: 1.0}), want) < 60, option


def test_real():
  clip = smooth(4, 64, 48)
  function = graph(lambda x, s: degrade.real(x, s, 32, 24))
  outs = [function(clip, s).numpy() for s in seeds(6)]
  want = clip.reshape(4, 32, 2, 24, 2, 3).mean((2, 4))
  quality = [psnr(out, want) for out in outs]
  assert all(out.shape == (4, 32, 24, 3) for out in outs)
  assert 15 < min(quality) and max(quality) < 45
  assert max(quality) - min(quality) > 2  # Damage differs.
  np.testing.assert_array_equal(outs[0], function(clip, seeds(1)[0]).numpy())


# ---------------------------------------------------------------------- holes

SHAPE = (8, 48, 64)
# Kind -> least and greatest share of a clip that may be hidden.
SHARE = {
  "strokes": (0.02, 0.25),
  "boxes": (0.02, 0.3),
  "scratches": (0.03, 0.25),
  "text": (0.05, 0.4),
  "frames": (0.125, 0.5),
}


@pytest.mark.parametrize("kind", SHARE)
def test_holes(kind):
  function = graph(lambda s: getattr(degrade, kind)(s, SHAPE))
  masks = [function(s) for s in seeds(20)]
  assert masks[0].shape == (*SHAPE, 1) and masks[0].dtype == tf.float32
  masks = np.stack([m.numpy() for m in masks])
  assert set(np.unique(masks)) == {0, 1}
  share = masks.mean((1, 2, 3, 4))
  low, high = SHARE[kind]
  assert low <= share.min() and share.max() <= high
  assert len(np.unique(share)) > (2 if kind == "frames" else 10)
  np.testing.assert_array_equal(masks[3], function(seeds(4)[3]).numpy())
  moves = (masks[:, 1:] != masks[:, :-1]).any((1, 2, 3, 4))
  # Text stands still in half of the clips; all else moves.
  assert (0.2 < moves.mean() < 0.9) if kind == "text" else moves.all()


def test_what_holes_look_like():
  make = lambda kind, i: getattr(degrade, kind)(seeds(9)[i], SHAPE).numpy()
  for i in range(5):
    lost = make("frames", i).mean((1, 2, 3))
    assert set(lost) == {0, 1}  # Whole frames, and not all of them.
    box = make("boxes", i)[..., 0]
    for frame in box:
      # Rectangles: two at most have two different rows at most beside none.
      assert len(np.unique(frame, axis=0)) <= 4
    scratch = make("scratches", i)[..., 0]
    column = scratch.sum(1).max(1)
    assert (column > SHAPE[1] * 0.3).mean() > 0.7  # Upright and long.
  with pytest.raises(ValueError, match="longer clips"):
    degrade.frames(seeds(1)[0], (2, 8, 8))
