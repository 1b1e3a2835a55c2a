"""Convolutions, poolings and resizes beside NumPy's and other libraries'."""

import itertools

import jax
import numpy as np
import pytest

from vidgan_jax.nets import conv


def array(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def windows(x, window, stride, padding):
  """(T', H', W', B, wT, wH, wW, C) of zero-padded clips, in float64."""
  x = np.pad(x.astype(np.float64), [(0, 0), *padding, (0, 0)])
  counts = [(n - w) // s + 1 for n, w, s in zip(x.shape[1:4], window, stride)]
  out = np.empty((*counts, len(x), *window, x.shape[-1]))
  for place in itertools.product(*map(range, counts)):
    cut = tuple(
      slice(i * s, i * s + w) for i, s, w in zip(place, stride, window)
    )
    out[place] = x[:, *cut]
  return out


CASES = [  # Clip, window, stride, padding; None: SAME.
  ((2, 6, 5, 4, 3), (3, 3, 3), (1, 1, 1), None),  # Pairs of frames.
  ((1, 5, 4, 5, 16), (3, 3, 3), (1, 1, 1), None),  # One is left over.
  ((1, 1, 4, 4, 2), (3, 3, 3), (1, 1, 1), None),  # A single frame.
  ((1, 4, 4, 4, 2), (3, 1, 1), (1, 1, 1), ((0, 0), (0, 0), (0, 0))),
  ((2, 7, 9, 8, 3), (7, 7, 7), (2, 2, 2), None),  # Colours.
  ((1, 8, 6, 7, 9), (5, 3, 3), (2, 2, 1), None),
  ((2, 3, 4, 5, 6), (1, 1, 1), (1, 1, 1), None),
  ((2, 3, 5, 5, 6), (1, 1, 1), (2, 2, 2), None),
  ((1, 4, 5, 6, 2), (2, 3, 2), (1, 2, 3), ((1, 0), (2, 1), (0, 1))),
]


@pytest.mark.parametrize("shape, window, stride, padding", CASES)
def test_convolution_is_the_sum_over_windows(shape, window, stride, padding):
  if padding is None:
    padding = conv.same(shape[1:4], window, stride)
  x, kernel = array(*shape), array(*window, shape[-1], 4, seed=1)
  want = np.einsum(
    "thwbijkc,ijkcd->bthwd", windows(x, window, stride, padding), kernel
  )
  for function in (conv.conv3d, conv.folded, conv.native):
    got = jax.jit(function, static_argnums=(2, 3))(
      x, kernel, stride, tuple(map(tuple, padding))
    )
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_too_few_frames_for_a_kernel():
  with pytest.raises(
    ValueError, match="2 frames are too few for a kernel of 3"
  ):
    conv.folded(
      array(1, 2, 4, 4, 1), array(3, 1, 1, 1, 1), (1, 1, 1), ((0, 0),) * 3
    )


def test_same_is_tensorflows():
  """ceil(size / stride) windows, the first and last of which touch the clip."""
  for size, window, stride in itertools.product(
    range(1, 20), range(1, 8), range(1, 4)
  ):
    ((before, after),) = conv.same([size], [window], [stride])
    assert 0 <= after - before <= 1
    count = (size + before + after - window) // stride + 1
    assert count == -(-size // stride)
    # No more zeros than needed for that.
    if before + after:
      assert (count - 1) * stride + window == size + before + after


@pytest.mark.parametrize(
  "shape, window, stride, padding",
  [
    ((2, 5, 7, 8, 3), (3, 3, 3), (2, 2, 2), None),
    ((1, 4, 5, 5, 2), (1, 3, 3), (1, 2, 2), None),
    ((1, 3, 7, 7, 2), (2, 2, 2), (2, 2, 2), ((0, 1), (0, 1), (0, 1))),
  ],
)
def test_max_pool(shape, window, stride, padding):
  padding = padding or conv.same(shape[1:4], window, stride)
  x = array(*shape)
  want = windows(x, window, stride, padding).max((4, 5, 6))
  got = conv.max_pool(x, window, stride, padding)
  np.testing.assert_array_equal(got, np.moveaxis(want, 3, 0).astype(np.float32))


def test_max_pool_counts_the_outside_as_zero():
  x = np.full((1, 1, 1, 1, 1), -3, np.float32)
  assert conv.max_pool(x, (1, 3, 3), (1, 1, 1), ((0, 0), (1, 1), (1, 1))) == 0


def test_mean_pool():
  x = array(2, 4, 5, 6, 3)
  want = windows(x, (2, 3, 4), (1, 1, 1), [(0, 0)] * 3).mean((4, 5, 6))
  np.testing.assert_allclose(
    conv.mean_pool(x, (2, 3, 4)), np.moveaxis(want, 3, 0), rtol=1e-5, atol=1e-6
  )


# -------------------------------------------------------------------- resizing

SIZES = [((17, 23), (40, 31)), ((40, 31), (17, 23)), ((9, 9), (9, 9))]


def picture(size):
  rng = np.random.default_rng(3)
  return rng.integers(0, 256, (2, *size, 3)).astype(np.uint8)


@pytest.mark.parametrize("size, out", SIZES)
@pytest.mark.parametrize("rule", ["half_pixel", "corners", "cubic"])
def test_resize_is_pytorchs(size, out, rule):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed")
  x = picture(size)
  want = torch.nn.functional.interpolate(
    torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float32)),
    size=out,
    mode="bicubic" if rule == "cubic" else "bilinear",
    align_corners=rule == "corners",
  )
  got = conv.resize(x, out, rule)
  np.testing.assert_allclose(
    got, want.numpy().transpose(0, 2, 3, 1), rtol=1e-4, atol=2e-3
  )


@pytest.mark.parametrize("size, out", SIZES)
def test_resize_is_opencvs(size, out):
  cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
  x = picture(size)
  rules = {"half_pixel": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}
  for rule, method in rules.items():
    got = conv.resize(x, out, rule)
    for one, mine in zip(x.astype(np.float32), got):
      want = cv2.resize(one, out[::-1], interpolation=method)
      np.testing.assert_allclose(mine, want, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("size, out", SIZES)
def test_resize_is_tensorflows(size, out):
  tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
  x = picture(size)
  old = tf.compat.v1.image.resize_bilinear
  rules = {
    "origin": lambda: old(x, out),
    "half_pixel": lambda: old(x, out, half_pixel_centers=True),
    "corners": lambda: old(x, out, align_corners=True),
  }
  for rule, want in rules.items():
    np.testing.assert_allclose(
      conv.resize(x, out, rule), want().numpy(), rtol=1e-4, atol=2e-3
    )


def test_resize_of_clips_keeps_the_leading_axes():
  x = picture((6, 8)).reshape(1, 2, 6, 8, 3)
  got = conv.resize(x, (3, 5), "half_pixel")
  assert got.shape == (1, 2, 3, 5, 3) and got.dtype == np.float32
  np.testing.assert_array_equal(got[0], conv.resize(x[0], (3, 5), "half_pixel"))
