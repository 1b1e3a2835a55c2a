"""Clip ops as TensorFlow graph code.

An op is a public function `name(example, seed, ...)`; a config writes it
without the first two: 'clip(16, stride=2) | resize(64) | flip_lr'. Adding an
op is adding a function here and its NumPy form in data/ops_np.py.

An example is {'video': (T, H, W, C) uint8 or 'frames': (T,) encoded pictures,
'times': (T,) float32 seconds} and what else data/signals.py names, which moves
with them. Encoded pictures are decoded by the first op that looks at pixels, so
a choice of frames (clip, first, middle, sparse) belongs in front of resize and
crop: only the chosen frames are decoded.

All randomness is stateless: `seed`, (2,) integers, decides everything.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from vidgan_jax.data import oplang
from vidgan_jax.data import ops_np
from vidgan_jax.data import signals

Example = dict[str, tf.Tensor]


def build(text: str) -> Callable[[Example, tf.Tensor], Example]:
  """Ops of a config -> fn(example, seed) -> example, for eager or graph."""
  plan = oplang.plan(text)

  def apply(example, seed):
    for i, (name, kwargs) in enumerate(plan):
      ops_np.check_signals((name, kwargs), example)
      fold = tf.random.experimental.stateless_fold_in(seed, i)
      example = globals()[name](example, fold, **kwargs)
    return _decoded(example)

  return apply


# ---------------------------------------------------------- choice of frames


def clip(
  example: Example, seed: tf.Tensor, frames: int, stride: int = 1
) -> Example:
  """`frames` frames, every `stride`-th, from a random one on.

  After a choice of frames, times count from the start of its window.
  """
  start = _start(example, seed, (frames - 1) * stride + 1)
  return _take(example, start, start + tf.range(frames) * stride)


def first(
  example: Example, seed: tf.Tensor, frames: int, stride: int = 1
) -> Example:
  """The same from the first frame on."""
  del seed
  return _take(example, 0, tf.range(frames) * stride)


def middle(
  example: Example, seed: tf.Tensor, frames: int, stride: int = 1
) -> Example:
  """The same out of the middle of the clip."""
  del seed
  start = (_length(example) - ((frames - 1) * stride + 1)) // 2
  return _take(example, start, start + tf.range(frames) * stride)


def sparse(
  example: Example, seed: tf.Tensor, frames: int, span: int
) -> Example:
  """`frames` different frames, in order, of a random window of `span`."""
  start = _start(example, seed, span)
  seed = tf.random.experimental.stateless_fold_in(seed, 1)
  ranks = tf.argsort(tf.random.stateless_uniform([span], seed))
  return _take(example, start, start + tf.sort(ranks[:frames]))


# --------------------------------------------------------------------- time


def reverse(example: Example, seed: tf.Tensor) -> Example:
  """Backwards in half of the cases; times still increase."""
  example = _decoded(example)
  return _perhaps(example, seed, signals.backwards(example))


def fps(example: Example, seed: tf.Tensor, rate: float) -> Example:
  """Resamples to `rate` frames a second, each the nearest in time."""
  del seed
  times = example["times"] - example["times"][0]
  count = tf.cast(tf.floor(times[-1] * rate + 1e-3), tf.int32) + 1
  grid = tf.cast(tf.range(count), tf.float32) / rate
  index = tf.searchsorted((times[1:] + times[:-1]) / 2, grid)
  return _take(example, 0, index) | {"times": grid}


def shift_time(example: Example, seed: tf.Tensor, seconds: float) -> Example:
  """Adds one random number of [0, seconds) to all times."""
  shift = tf.random.stateless_uniform([], seed) * seconds
  return example | {"times": example["times"] + shift}


# ------------------------------------------------------------------- pixels


def resize(example: Example, seed: tf.Tensor, size: int) -> Example:
  """Shorter side to `size`, keeping the shape; bilinear, antialiased."""
  del seed
  example = _decoded(example)
  old = _size(example["video"])
  new = ops_np.resized(*old, size, minimum=tf.minimum)
  out = {}
  for k in signals.along("h", example):
    signal, x = signals.SIGNALS[k], example[k]
    if signal.resize == "nearest":
      for axis in (0, 1):
        index = ops_np.nearest(old[axis], new[axis], tf.range(new[axis]))
        x = tf.gather(x, index, axis=axis + 1)
    else:
      pictures = x if "c" in signal.axes else x[..., None]
      x = tf.image.resize(pictures, tf.stack(new), antialias=True)
      x = x if "c" in signal.axes else x[..., 0]
      if signal.dtype == np.uint8:
        x = tf.cast(tf.clip_by_value(tf.round(x), 0, 255), tf.uint8)
    out[k] = x
  return example | out


def crop(
  example: Example, seed: tf.Tensor, height: int, width: int | None = None
) -> Example:
  """A random window, the same in all frames; a square without `width`."""
  width = width or height
  example = _decoded(example)
  h, w = _size(example["video"])
  a, b = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
  draw = lambda seed, n: tf.random.stateless_uniform(
    [], seed, 0, tf.maximum(n, 1), tf.int32
  )
  top, left = draw(a, h - height + 1), draw(b, w - width + 1)
  return _window(example, top, left, height, width)


def center_crop(
  example: Example, seed: tf.Tensor, height: int, width: int | None = None
) -> Example:
  """The window in the middle; a square without `width`."""
  del seed
  width = width or height
  example = _decoded(example)
  h, w = _size(example["video"])
  top, left = (h - height) // 2, (w - width) // 2
  return _window(example, top, left, height, width)


def flip_lr(example: Example, seed: tf.Tensor) -> Example:
  """Mirrors the whole clip in half of the cases."""
  example = _decoded(example)
  return _perhaps(example, seed, signals.mirrored(example))


def value_range(
  example: Example, seed: tf.Tensor, lo: float, hi: float
) -> Example:
  """uint8 to float32 in [lo, hi]."""
  del seed
  example = _decoded(example)
  video = tf.cast(example["video"], tf.float32) / 255
  return example | {"video": video * (hi - lo) + lo}


# ------------------------------------------------------------------ details


def _length(example):
  return tf.shape(example["times"])[0]


def _size(video):
  """(height, width): ints where they are known, else tensors."""
  dynamic = tf.shape(video)
  return tuple(
    dynamic[i] if video.shape[i] is None else video.shape[i] for i in (1, 2)
  )


def _start(example, seed, span):
  # `ops_np.check_usable` has kept away clips that are shorter.
  n = tf.maximum(_length(example) - span + 1, 1)
  return tf.random.stateless_uniform([], seed, 0, n, tf.int32)


def _take(example, start, index):
  shown = signals.at_frames(example, index, tf.gather)
  return example | shown | {"times": shown["times"] - example["times"][start]}


def _window(example, top, left, height, width):
  # That the frame is large enough, `ops_np.check_usable` has seen to.
  def cut(x, begin, size):
    # The number of frames stays known where it was.
    return tf.slice(x, begin, [x.shape[0] or -1, *size[1:]])

  return example | signals.window(example, (top, left), (height, width), cut)


def _perhaps(example, seed, turned):
  """`turned` in place of the example's own fields in half of the cases."""
  yes = tf.random.stateless_uniform([], seed) < 0.5
  return example | {k: tf.where(yes, v, example[k]) for k, v in turned.items()}


def _decoded(example):
  """Replaces `frames` by `video`."""
  if "frames" not in example:
    return example
  # Despite its name the op reads PNG and all else that decode_image does, and
  # unlike that one it decodes JPEG as exactly as Pillow.
  decode = lambda data: tf.io.decode_jpeg(
    data, channels=3, dct_method="INTEGER_ACCURATE"
  )
  video = tf.map_fn(
    decode,
    example["frames"],
    fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint8),
  )
  return {k: v for k, v in example.items() if k != "frames"} | {"video": video}
