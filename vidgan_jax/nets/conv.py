"""3-D convolutions and poolings of frozen networks, fast on a CPU as well.

XLA has no good 3-D convolution for CPUs: it runs at a third of the speed of the
2-D one. There a convolution over time is written as 2-D convolutions of frames
that are folded into the batch. Accelerators get the operation itself.

Layouts: clips (B, T, H, W, C), kernels (T, H, W, C in, C out).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import errors
from vidgan_jax import pixels

Pairs = Sequence[tuple[int, int]]


def same(sizes: Sequence[int], window: Sequence[int], stride: Sequence[int]):
  """TensorFlow's SAME padding: ceil(size / stride) outputs, the odd one behind.

  Returns:
    (before, after) for each size.
  """
  pairs = []
  for size, width, step in zip(sizes, window, stride):
    # The last window starts at the last multiple of the stride within the
    # size; what lies beyond the size is padded.
    total = max(width - (size % step or step), 0)
    pairs.append((total // 2, total - total // 2))
  return pairs


def check_clips(video: jax.Array, name: str) -> None:
  """Refuses what the protocols of a network are not defined for."""
  if video.dtype != jnp.uint8 or video.ndim != 5 or video.shape[-1] != 3:
    raise ValueError(
      f"{name}'s protocols are not defined for clips of shape {video.shape} "
      f"and type {video.dtype}: they take (B, T, H, W, 3) uint8."
    )


def conv3d(
  x: jax.Array,
  kernel: jax.Array,
  stride: Sequence[int] = (1, 1, 1),
  padding: Pairs = ((0, 0), (0, 0), (0, 0)),
) -> jax.Array:
  """A 3-D convolution in float32.

  Args:
    x: (B, T, H, W, C).
    kernel: (kT, kH, kW, C, D).
    stride: of T, H and W.
    padding: zeros before and after in T, H and W.

  Returns:
    (B, T', H', W', D).
  """
  stride, padding = tuple(stride), tuple(map(tuple, padding))
  return jax.lax.platform_dependent(
    x,
    kernel,
    cpu=lambda x, kernel: folded(x, kernel, stride, padding),
    default=lambda x, kernel: native(x, kernel, stride, padding),
  )


def native(x, kernel, stride, padding):
  """`conv3d` as one operation of XLA."""
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    stride,
    padding,
    dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    precision="highest",
  )


def folded(x, kernel, stride, padding):
  """`conv3d` as 2-D convolutions of frames."""
  (before, after), *area = padding
  taps, step = kernel.shape[0], stride[0]
  if before or after:
    x = jnp.pad(x, ((0, 0), (before, after), (0, 0), (0, 0), (0, 0)))
  frames = (x.shape[1] - taps) // step + 1
  if frames < 1 or x.shape[1] < taps:
    raise errors.UserError(
      f"{x.shape[1]} frames are too few for a kernel of {taps}."
    )

  def conv(x, kernel):
    b, t, h, w, c = x.shape
    x = x.reshape(b * t, h, w, c)
    if (
      kernel.shape[:2] == (1, 1)
      and stride[1:] == (1, 1)
      and not any(map(any, area))
    ):
      # One tap, no neighbours: a matrix product of the channels.
      y = jnp.dot(x, kernel[0, 0], precision="highest")
    else:
      # The padding belongs in here: without any, XLA's convolution for CPUs
      # takes a path that is 2.5 times as slow.
      y = jax.lax.conv_general_dilated(
        x,
        kernel,
        stride[1:],
        area,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
      )
    return y.reshape(b, t, *y.shape[1:])

  # `count` frames from `start` on, `step` apart.
  def every(start, step, count):
    return x[:, start : start + step * (count - 1) + 1 : step]

  if (taps, step) == (3, 1) and frames > 1:
    # Two frames out of four by four products instead of six: the minimal
    # filter F(2, 3) along time (Winograd 1980; Lavin and Gray 2016, eq. 5).
    pairs = -(-frames // 2)
    if frames % 2:
      x = jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0)))
    a, b, c, d = (every(i, 2, pairs) for i in range(4))
    half = (kernel[0] + kernel[2]) / 2
    # y_0 = k0 a + k1 b + k2 c = p + q + r, y_1 = k0 b + k1 c + k2 d = q - r - s
    p = conv(a - c, kernel[0])
    q = conv(b + c, half + kernel[1] / 2)
    r = conv(c - b, half - kernel[1] / 2)
    s = conv(b - d, kernel[2])
    y = jnp.stack([p + q + r, q - r - s], 2)
    return y.reshape(len(y), 2 * pairs, *y.shape[3:])[:, :frames]
  shifted = [every(i, step, frames) for i in range(taps)]
  if taps > 1 and kernel.shape[3] < 8:  # Colours: long sums are faster.
    # The taps of time become channels: (kH, kW, kT C, D).
    kernel = jnp.moveaxis(kernel, 0, 2)
    kernel = kernel.reshape(*kernel.shape[:2], -1, kernel.shape[-1])
    return conv(jnp.concatenate(shifted, -1), kernel)
  # y_t = sum_i K_i x_(step t + i), K_i the 2-D kernel of tap i.
  return sum(conv(frames, tap) for frames, tap in zip(shifted, kernel))


def max_pool(
  x: jax.Array,
  window: Sequence[int],
  stride: Sequence[int],
  padding: Pairs = ((0, 0), (0, 0), (0, 0)),
) -> jax.Array:
  """Maximum over windows, where what is outside counts as zero.

  Zero is less than nothing after a ReLU, and so the same as TensorFlow's and
  Caffe's rule of leaving the outside out.

  Args:
    x: (B, T, H, W, C).
    window: in T, H and W.
    stride: of the windows.
    padding: zeros before and after in T, H and W.

  Returns:
    (B, T', H', W', C).
  """
  # One axis after the other: the maximum of slices is fast everywhere, a
  # reduction of windows is slow on a CPU.
  for axis, (width, step, pair) in enumerate(zip(window, stride, padding), 1):
    if any(pair):
      pairs = [(0, 0)] * 5
      pairs[axis] = pair
      x = jnp.pad(x, pairs)
    count = (x.shape[axis] - width) // step + 1
    slices = (
      jax.lax.slice_in_dim(x, i, i + step * (count - 1) + 1, step, axis)
      for i in range(width)
    )
    y = next(slices)
    for part in slices:
      y = jnp.maximum(y, part)
    x = y
  return x


def mean_pool(x: jax.Array, window: Sequence[int]) -> jax.Array:
  """Means of windows at every place that they fit in: stride 1, no padding.

  Args:
    x: (B, T, H, W, C), no smaller than the window.
    window: in T, H and W.

  Returns:
    (B, T - wT + 1, H - wH + 1, W - wW + 1, C).
  """
  # The mean over a box is the mean along one axis after the other.
  for axis, width in enumerate(window, 1):
    count = x.shape[axis] - width + 1
    x = (
      sum(
        jax.lax.slice_in_dim(x, i, i + count, axis=axis) for i in range(width)
      )
      / width
    )
  return x


def resize(x: jax.Array, sizes: tuple[int, int], rule: str) -> jax.Array:
  """Resizes pictures without anti-aliasing, by the rule of some library.

  Args:
    x: (..., H, W, C), numbers of any type.
    sizes: (H', W').
    rule: which place of the source belongs to a pixel, and what is taken there.
      `half_pixel`: bilinear, the frames of both pictures on one another:
      PyTorch's `align_corners=False`, TensorFlow 2's `tf.image.resize`.
      `origin`: bilinear, the first pixels' centres on one another: TensorFlow
      1's `resize_bilinear`. `corners`: bilinear, the centres of all four corner
      pixels on one another: PyTorch's `align_corners=True`, Chainer's
      `resize_images`. `cubic`: as `half_pixel` with four taps, Keys' a = -0.75:
      OpenCV's `INTER_CUBIC`, PyTorch's `bicubic`.

  Returns:
    (..., H', W', C) float32.
  """
  # A resize is linear and separable: y = R x C', a matrix for each axis.
  rows, columns = map(_resampling, x.shape[-3:-1], sizes, (rule, rule))
  x = x.astype(jnp.float32)
  x = jnp.einsum("...hwc,oh->...owc", x, rows, precision="highest")
  return jnp.einsum("...hwc,ow->...hoc", x, columns, precision="highest")


def _resampling(size, out, rule):
  """(out, size) float32: what share each pixel has in each new one."""
  # The place of each new pixel among the old ones, by the rule's own centre.
  places = np.arange(out, dtype=np.float32)
  ratio = np.float32(size) / np.float32(out)
  if rule == "origin":
    places = places * ratio
  elif rule == "corners":
    places = places * np.float32((size - 1) / max(out - 1, 1))
  else:
    places = (places + np.float32(0.5)) * ratio - np.float32(0.5)
  if rule != "cubic":
    places = np.maximum(places, 0)
  first = np.floor(places).astype(int)
  part = places - first
  if rule == "cubic":
    taps = {i: pixels.keys(part - i, -0.75) for i in (-1, 0, 1, 2)}
  else:
    taps = {0: 1 - part, 1: part}
  # Taps beyond the border fall on its pixel and add up there.
  matrix = np.zeros((out, size), np.float32)
  for shift, share in taps.items():
    source = np.clip(first + shift, 0, size - 1)
    np.add.at(matrix, (np.arange(out), source), share)
  return matrix
