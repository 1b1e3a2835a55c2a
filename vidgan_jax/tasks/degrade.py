"""How clips get damaged: TensorFlow graph code that the tasks share.

A clip is (T, H, W, C) float32 in [-1, 1] whose T, H, W and C are known when
the graph is built; so are those of the result. All randomness is stateless:
`seed`, (2,) integers, decides everything.
"""

from collections.abc import Callable
from collections.abc import Sequence
import fractions

import av
import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont
import tensorflow as tf

from vidgan_jax import errors
from vidgan_jax import tasks


def split(seed: tf.Tensor, num: int) -> list[tf.Tensor]:
  """`num` independent seeds."""
  return tf.unstack(tf.random.experimental.stateless_split(seed, num))


def uniform(
  seed: tf.Tensor, low: float, high: float, shape: tuple = ()
) -> tf.Tensor:
  """Random numbers of [low, high)."""
  return tf.random.stateless_uniform(shape, seed) * (high - low) + low


def choose(seed: tf.Tensor, weights: Sequence[float]) -> tf.Tensor:
  """A random index, int32 (), as often as its weight says."""
  shares = np.cumsum(weights)[:-1] / np.sum(weights)
  draw = tf.random.stateless_uniform([1], seed)
  return tf.searchsorted(shares.astype(np.float32), draw, "right")[0]


def one_of(
  seed: tf.Tensor,
  weights: Sequence[float],
  makers: Sequence[Callable[[], tf.Tensor]],
  shape: Sequence[int | None],
) -> tf.Tensor:
  """What one of the functions makes, each as often as its weight says."""
  made = tf.switch_case(choose(seed, weights), makers)
  made.set_shape(shape)
  return made


def field(
  seed: tf.Tensor, shape: tuple[int, int, int], low: float, high: float
) -> tf.Tensor:
  """Random numbers that vary smoothly over the frame, and slowly in time.

  Two levels of [low, high) are drawn, then what share of the way between them
  each of 3 x 3 places has in the first and in the last frame; all else lies on
  straight lines between these.

  Returns:
    (T, H, W, 1) for the shape (T, H, W).
  """
  t, h, w = shape
  a, b = split(seed, 2)
  start, end = tf.unstack(uniform(a, low, high, (2,)))
  share = tf.image.resize(uniform(b, 0, 1, (2, 3, 3, 1)), (h, w))
  clock = np.linspace(0, 1, t, dtype=np.float32)[:, None, None, None]
  return start + (end - start) * (share[0] + clock * (share[1] - share[0]))


def eight_bit(video: tf.Tensor) -> tf.Tensor:
  """Clips to [-1, 1] and rounds to the 256 levels that files hold."""
  return from_bytes(to_bytes(video))


def to_bytes(video: tf.Tensor) -> tf.Tensor:
  """[-1, 1] to uint8."""
  level = tf.round((video + 1) * 127.5)
  return tf.cast(tf.clip_by_value(level, 0, 255), tf.uint8)


def from_bytes(video: tf.Tensor) -> tf.Tensor:
  """uint8 to [-1, 1]."""
  return tf.cast(video, tf.float32) / 127.5 - 1


# ---------------------------------------------------------------------- space


def resize(
  video: tf.Tensor, height: int, width: int, method: str = "bicubic"
) -> tf.Tensor:
  """Antialiased. `height` and `width` may be tensors."""
  return tf.image.resize(video, (height, width), method, antialias=True)


def gaussian_kernel(
  seed: tf.Tensor,
  low: float,
  high: float,
  size: int = 13,
  isotropic: float = 0.0,
) -> tf.Tensor:
  """A random, turned, elliptic Gaussian: (size, size) of sum 1.

  Args:
    seed: (2,).
    low: least standard deviation of each of its axes, pixels.
    high: greatest.
    size: odd.
    isotropic: the probability that its axes are equal: a round one.
  """
  a, b, c = split(seed, 3)
  sigma = uniform(a, low, high, (2,))
  sigma = tf.where(uniform(c, 0, 1) < isotropic, sigma[0], sigma)
  angle = uniform(b, 0, np.pi)
  x = np.arange(size, dtype=np.float32) - size // 2
  u = tf.cos(angle) * x + tf.sin(angle) * x[:, None]
  v = tf.cos(angle) * x[:, None] - tf.sin(angle) * x
  weight = tf.exp(-((u / sigma[0]) ** 2 + (v / sigma[1]) ** 2) / 2)
  return weight / tf.reduce_sum(weight)


def sinc_kernel(cutoff: tf.Tensor, size: int = 13) -> tf.Tensor:
  """A round low-pass filter, which rings and overshoots: (size, size), sum 1.

    k(x, y) = c J1(c r) / (2 pi r),   r^2 = x^2 + y^2

  (Wang et al. 2021, eq. 4), J1 being Bessel's function of the first kind.

  Args:
    cutoff: c, radians a pixel; pi is the finest grating.
    size: odd.
  """
  x = np.arange(size, dtype=np.float32) - size // 2
  # Small beside a pixel: J1(c r) / r is c / 2 in the middle.
  r = np.maximum(np.hypot(x, x[:, None]), 1e-3).astype(np.float32)
  weight = tf.math.special.bessel_j1(cutoff * r) / r
  return weight / tf.reduce_sum(weight)


def blur(video: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
  """Each channel with the kernel (K, K), K odd; borders are mirrored.

  A frame may be smaller than the kernel: then its borders are repeated.
  """
  r, c = kernel.shape[0] // 2, video.shape[-1]
  # Mirroring needs more pixels than it adds.
  small = None in video.shape or min(video.shape[1:3]) <= r
  for _ in range(r if small else 1):
    n, mode = (1, "SYMMETRIC") if small else (r, "REFLECT")
    video = tf.pad(video, [[0, 0], [n, n], [n, n], [0, 0]], mode)
  kernel = tf.tile(kernel[:, :, None, None], [1, 1, c, 1])
  return tf.nn.depthwise_conv2d(video, kernel, [1, 1, 1, 1], "VALID")


# ---------------------------------------------------------------------- noise


def gaussian_noise(
  video: tf.Tensor, seed: tf.Tensor, sigma: tf.Tensor
) -> tf.Tensor:
  """Adds N(0, sigma^2), sigma in the units of the video."""
  return video + sigma * tf.random.stateless_normal(tf.shape(video), seed)


def poisson_noise(
  video: tf.Tensor, seed: tf.Tensor, sigma: tf.Tensor
) -> tf.Tensor:
  """Shot noise: counts of light of mean and variance in proportion.

  Args:
    video: to damage.
    seed: (2,).
    sigma: standard deviation at mid-grey, in the units of the video; it may
      be a map.
  """
  # x = counts / peak has the variance x / peak, at mid-grey 1 / (2 peak). No
  # noise at all would be light without end.
  peak = 2 / tf.maximum(sigma, 1e-4) ** 2
  light = tf.maximum((video + 1) / 2, 0) * peak
  shape = tf.shape(video)
  counts = tf.random.stateless_poisson(shape, seed, light, tf.float32)
  return counts / peak * 2 - 1


def noise(
  video: tf.Tensor, seed: tf.Tensor, sigma: tf.Tensor, poisson: float = 0.0
) -> tf.Tensor:
  """Shot noise with the probability `poisson`, else Gaussian noise.

  Args:
    video: to damage.
    seed: (2,).
    sigma: standard deviation, of shot noise at mid-grey, in the units of the
      video: a number or a map.
    poisson: 0 to 1.
  """
  a, b = split(seed, 2)
  return tf.cond(
    uniform(a, 0, 1) < poisson,
    lambda: poisson_noise(video, b, sigma),
    lambda: gaussian_noise(video, b, sigma),
  )


# ---------------------------------------------------------------------- light


def light(
  video: tf.Tensor,
  exposure: tf.Tensor,
  gamma: tf.Tensor,
  contrast: tf.Tensor,
  saturation: tf.Tensor,
  vignette: tf.Tensor,
) -> tf.Tensor:
  """(T, H, W, 3) in [-1, 1] in another light, the numbers as `flicker` gives.

  With x in [0, 1] and r the distance from the middle, 1 in the corners:

    x <- (2^exposure x (1 - vignette r^2))^gamma
    x <- 1/2 + contrast (x - 1/2), luma + saturation (x - luma)
  """
  y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in video.shape[1:3])
  radius = ((y[:, None] ** 2 + x**2) / 2)[..., None]
  x = (video + 1) / 2 * 2**exposure * (1 - vignette * radius)
  x = 0.5 + contrast * (tf.clip_by_value(x, 0, 1) ** gamma - 0.5)
  luma = tasks.gray(x)
  return (luma + saturation * (x - luma)) * 2 - 1


def flicker(
  seed: tf.Tensor,
  frames: int,
  low: float,
  high: float,
  amount: float,
  kinds: list[str],
  kind: tf.Tensor,
) -> tf.Tensor:
  """A number for each frame, around a random one in [low, high].

  Args:
    seed: (2,) seed.
    frames: T.
    low: no number is below.
    high: no number is above.
    amount: standard deviation of the change, in shares of high - low.
    kinds: of 'none', the same in all frames; 'white', at random; 'smooth', in
      waves of 10 to 50 frames.
    kind: which of these, int ().

  Returns:
    (T, 1, 1, 1).
  """
  a, b, c, d = split(seed, 4)
  turns = uniform(b, 0.02, 0.1) * np.arange(frames, dtype=np.float32)
  waves = tf.sin(2 * np.pi * (turns + uniform(c, 0, 1)))
  change = {
    "none": 0 * waves,
    "white": tf.random.stateless_normal([frames], d),
    "smooth": np.float32(np.sqrt(2)) * waves,
  }
  change = tf.stack([change[name] for name in kinds])[kind]
  value = uniform(a, low, high) + amount * (high - low) * change
  return tf.clip_by_value(value, low, high)[:, None, None, None]


# --------------------------------------------------------------------- codecs


def jpeg(video: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
  """Each frame through JPEG, quality 1 to 100, chroma at half the size."""

  def once(frame):
    data = tf.raw_ops.EncodeJpegVariableQuality(images=frame, quality=quality)
    return tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE")

  quality = tf.cast(quality, tf.int32)
  out = tf.map_fn(once, to_bytes(video))
  return tf.ensure_shape(from_bytes(out), video.shape)


# codec -> encoder, its options. One thread, and no `mbtree`, which reads memory
# that it never wrote for frames of some sizes: the same bytes each time.
_CODECS = {
  "h264": ("libx264", {"preset": "veryfast", "mbtree": "0"}),
  "hevc": (
    "libx265",
    {
      "preset": "ultrafast",
      "x265-params": "log-level=none:pools=none:frame-threads=1",
    },
  ),
  "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "b": "0"}),
}
CODECS = tuple(_CODECS)


def codec(video: tf.Tensor, crf: tf.Tensor, name: str) -> tf.Tensor:
  """The clip through a video codec, in memory; 4:2:0, BT.709.

  Args:
    video: to damage.
    crf: constant rate factor, 0 to 51 ('vp9': 63); more is worse.
    name: 'h264', 'hevc' or 'vp9'.
  """
  out = tf.numpy_function(
    lambda video, crf: transcode(video, int(crf), name),
    [to_bytes(video), tf.cast(crf, tf.int32)],
    tf.uint8,
  )
  out.set_shape(video.shape)
  return from_bytes(out)


def transcode(video: np.ndarray, crf: int, name: str) -> np.ndarray:
  """`codec` in NumPy: (T, H, W, 3) uint8 -> the same."""
  encoder, options = _CODECS[name]
  t, h, w, _ = video.shape
  # 4:2:0 has no odd sizes; x265 writes beyond its memory below 64 pixels.
  least = 64 if name == "hevc" else 16
  rest = [max(least, n + n % 2) - n for n in (h, w)]
  padded = np.pad(video, [(0, 0), (0, rest[0]), (0, rest[1]), (0, 0)], "edge")
  writer = av.CodecContext.create(encoder, "w")
  writer.height, writer.width = padded.shape[1:3]
  writer.pix_fmt, writer.thread_count = "yuv420p", 1
  writer.framerate, writer.time_base = 25, fractions.Fraction(1, 25)
  writer.options = options | {"crf": str(crf)}
  reader = av.CodecContext.create(name, "r")
  reader.thread_count = 1
  packets = []
  for i, image in enumerate(padded):
    frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(
      format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
    )
    frame.pts = i
    packets += writer.encode(frame)
  packets += writer.encode(None)
  frames = [f for packet in packets for f in reader.decode(packet)]
  frames += reader.decode(None)
  if len(frames) != t:
    raise errors.UserError(
      f"{name} at crf {crf} gave {len(frames)} frames for {t} of {w} x {h} "
      "pixels: choose another codec or larger frames."
    )
  out = [
    f.reformat(
      format="rgb24", src_colorspace="ITU709", src_color_range="MPEG"
    ).to_ndarray()
    for f in frames
  ]
  return np.stack(out)[:, :h, :w]


def real(
  video: tf.Tensor,
  seed: tf.Tensor,
  height: int,
  width: int,
  *,
  isotropic: float = 0.5,
  poisson: float = 0.5,
  sinc: float = 0.3,
  h264: float = 0.5,
) -> tf.Tensor:
  """What footage goes through before it reaches anyone, at a smaller size.

  Twice blur, resizing, noise and compression, of random strengths: the
  "second-order" degradation of Wang et al. 2021 (Real-ESRGAN, section 3). The
  second compression is a real pass through H.264 in some clips, as footage has
  it (Chan et al. 2022), and before it some are sharpened until they ring.

    1. Gaussian blur; any size from 0.7 to 1.2 times the result's, by bicubic,
       bilinear or area means; noise of 0 to 20 of 255; JPEG, quality 40 to 96.
    2. Gaussian blur, up to 0.7 pixels; the result's size; noise of 0 to 8; the
       sinc filter; H.264, crf 18 to 36, or JPEG again.

  All frames of a clip have the same strengths, and each its own noise.

  Args:
    video: (T, H, W, 3).
    seed: (2,).
    height: of the result.
    width: of the result.
    isotropic: probability that a blur is round; the others are ellipses.
    poisson: probability that noise is shot noise; the other is Gaussian.
    sinc: share of clips that go through the sinc filter.
    h264: share of clips whose second compression is H.264.

  Returns:
    (T, height, width, 3), 8 bits.
  """
  t, h, w, c = video.shape
  a, b, *seeds = split(seed, 8)
  # Blurs are in pixels of the frame, so they go with the shrinking.
  shrink = max(h / height, 1.0)
  share = uniform(seeds[0], 0.7, 1.2)
  middle = [tf.cast(tf.round(share * n), tf.int32) for n in (height, width)]
  x = _worn(video, a, (0.2, 0.4 + 0.5 * shrink), middle, 20, isotropic, poisson)
  x = jpeg(x, uniform(seeds[1], 40, 96))
  x = _worn(x, b, (0.1, 0.7), (height, width), 8, isotropic, poisson)
  kernel = sinc_kernel(uniform(seeds[2], np.pi / 3, np.pi))
  x = tf.cond(
    uniform(seeds[3], 0, 1) < sinc, lambda: blur(x, kernel), lambda: x
  )
  last = lambda low, high: uniform(seeds[4], low, high)
  x = tf.cond(
    uniform(seeds[5], 0, 1) < h264,
    lambda: codec(x, last(18, 36), "h264"),
    lambda: jpeg(x, last(40, 96)),
  )
  return tf.ensure_shape(x, [t, height, width, c])


def _worn(video, seed, sigma, size, level, isotropic, poisson):
  """One round of `real` but its compression: blur, resizing, noise.

  Args:
    video: (T, H, W, C), T and C known.
    seed: (2,).
    sigma: range of the blur's standard deviations, pixels of the video.
    size: (height, width) of the result, numbers or tensors.
    level: greatest standard deviation of the noise, of 255.
    isotropic: see `real`.
    poisson: see `real`.
  """
  a, b, c, d = split(seed, 4)
  x = blur(video, gaussian_kernel(a, *sigma, isotropic=isotropic))
  x = one_of(
    b,
    [1, 1, 1],
    [lambda m=m: resize(x, *size, m) for m in ("bicubic", "bilinear", "area")],
    [video.shape[0], None, None, video.shape[-1]],
  )
  return noise(x, c, uniform(d, 0, level) / 127.5, poisson)


# ---------------------------------------------------------------------- holes
#
# Each returns a mask (T, H, W, 1) float32: 1 in the hole. `side` is the shorter
# side of the frame.


def strokes(seed: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
  """Three bent brush strokes that drift and sway."""
  t, h, w = shape
  side, clock = min(h, w), np.arange(t, dtype=np.float32)[:, None, None]
  mask = tf.zeros([t, h, w], tf.bool)
  for stroke in split(seed, 3):
    a, b, c, d, e = split(stroke, 5)
    start = uniform(a, 0, 1, (1, 2)) * np.array([h, w], np.float32)
    steps = uniform(b, -0.3, 0.3, (3, 2)) * side
    points = tf.concat([start, start + tf.cumsum(steps)], 0)
    drift = uniform(c, -0.02, 0.02, (1, 2)) * side
    sway = 0.03 * side * tf.sin(0.7 * clock + uniform(d, 0, 6.28, (4, 2)))
    points += clock * drift + sway  # (T, 4, 2)
    radius = uniform(e, 0.025, 0.06) * side
    points = tf.transpose(points, [1, 0, 2])
    mask |= _near(points[:-1], points[1:], h, w, radius)
  return tf.cast(mask, tf.float32)[..., None]


def boxes(seed: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
  """One or two boxes, sides of 15 to 40 %, that move and bounce."""
  t, h, w = shape
  clock = np.arange(t, dtype=np.float32)[:, None]
  mask = tf.zeros([t, h, w], tf.bool)
  for i, box in enumerate(split(seed, 2)):
    a, b, c, d = split(box, 4)
    size = tf.round(uniform(a, 0.15, 0.4, (2,)) * np.array([h, w], "f"))
    room = np.array([h, w], np.float32) - size
    speed = uniform(b, -0.05, 0.05, (2,)) * min(h, w)
    place = uniform(c, 0, 1, (2,)) * room + clock * speed
    # Back and forth between 0 and the room that is there.
    place = room - abs(tf.math.floormod(place, 2 * room) - room)
    y, x = (
      (np.arange(n) >= place[:, k, None])
      & (np.arange(n) < place[:, k, None] + size[k])
      for k, n in enumerate((h, w))
    )
    there = (uniform(d, 0, 1) < 0.5) | (i == 0)
    mask |= y[:, :, None] & x[:, None] & there
  return tf.cast(mask, tf.float32)[..., None]


def scratches(seed: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
  """Film: upright scratches that tremble and come and go, and dust."""
  t, h, w = shape
  side = min(h, w)
  a, b, c, d, e, f = split(seed, 6)
  slant = uniform(a, -0.05, 0.05, (6,))
  place = uniform(b, 0, 1, (6,)) * w + uniform(c, -0.01, 0.01, (t, 6)) * side
  there = uniform(d, 0, 1, (t, 6)) < 0.7
  half = uniform(e, 0.5, 0.5 + 0.015 * side, (6,))
  y, x = (np.arange(n, dtype=np.float32) for n in (h, w))
  line = place[:, None, None] + y[:, None, None] * slant  # (T, H, 1, 6)
  lines = (abs(x[:, None] - line) <= half) & there[:, None, None]
  mask = tf.reduce_any(lines, -1)
  dust = uniform(f, 0, 1, (8, t, 3)) * np.array([h, w, 0.025 * side], "f")
  spots, radius = dust[..., :2], 0.5 + dust[..., 2, None, None]
  mask |= _near(spots, spots, h, w, radius)
  return tf.cast(mask, tf.float32)[..., None]


def frames(seed: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
  """Lost frames: a gap of 1 to T / 4 in a row and one that may lie apart."""
  t, h, w = shape
  if t < 3:
    raise errors.UserError(
      f"Clips of {t} frames cannot lose one and keep the others: take longer "
      "clips, or leave the kind 'frames' out of the holes of the task."
    )
  a, b = split(seed, 2)
  long = tf.round(uniform(a, 0.5, max(t // 4, 1) + 0.49))
  first = tf.floor(tf.random.stateless_uniform([2], b) * t)
  number = np.arange(t, dtype=np.float32)
  lost = (number >= first[0]) & (number < first[0] + long)
  lost |= number == first[1]
  return tf.tile(tf.cast(lost, tf.float32)[:, None, None, None], [1, h, w, 1])


def text(seed: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
  """Two lines of burnt-in letters; they stand, or crawl sidewards."""
  t, h, w = shape
  glyphs = _glyphs()
  _, tall, wide = glyphs.shape
  a, b, c, d, e = split(seed, 5)
  size = uniform(a, 0.14, 0.24) * min(h, w) / tall  # pixels a dot of a letter
  top = uniform(b, 0, 1) * (h - 2.4 * size * tall)
  left = uniform(c, -0.2, 0.3) * w
  crawl = tf.nn.relu(uniform(d, -0.03, 0.03)) * w
  number = 2 + int(1.7 * w / (0.14 * min(h, w) / tall * wide))
  letters = tf.random.stateless_uniform([2, number], e, 0, len(glyphs), "int32")
  y = np.arange(h, dtype=np.float32)
  x = np.arange(w, dtype=np.float32)
  clock = np.arange(t, dtype=np.float32)[:, None]
  mask = tf.zeros([t, h, w])
  for i in range(2):
    dots = tf.transpose(tf.gather(glyphs, letters[i]), [1, 0, 2])
    dots = tf.reshape(dots, [tall, number * wide])
    row = tf.cast((y - top) / size - 1.2 * i * tall, tf.float32)
    column = (x - left + clock * crawl) / size
    inside = (row[:, None] >= 0) & (row[:, None] < tall)
    inside &= column[:, None] >= 0
    pick = lambda at, n: tf.cast(tf.clip_by_value(at, 0, n - 1), tf.int32)
    letter = tf.gather(dots, pick(row, tall))
    letter = tf.gather(letter, pick(column, number * wide), axis=1)
    letter = tf.transpose(letter, [1, 0, 2])  # (T, H, W)
    mask = tf.where(inside, tf.maximum(mask, letter), mask)
  # Letters have soft borders, which the hole covers as well.
  return tf.nn.max_pool2d(mask[..., None], 3, 1, "SAME")


def _near(start, end, height, width, radius):
  """Pixels near one of the lines: (N, T, 2), (N, T, 2) (y, x) -> (T, H, W)."""
  y = np.arange(height, dtype=np.float32)[:, None]
  x = np.arange(width, dtype=np.float32)
  part = lambda p, i: p[..., i, None, None]
  dy, dx = part(end - start, 0), part(end - start, 1)
  py, px = y - part(start, 0), x - part(start, 1)
  along = (py * dy + px * dx) / tf.maximum(dy**2 + dx**2, 1e-6)
  along = tf.clip_by_value(along, 0, 1)
  distance = (py - along * dy) ** 2 + (px - along * dx) ** 2
  return tf.reduce_any(distance <= radius**2, 0)


def _glyphs() -> np.ndarray:
  """Letters, digits and blanks of Pillow's bitmap font: (N, 11, 6)."""
  font = ImageFont.load_default_imagefont()
  letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.:"
  image = Image.new("L", (6 * len(letters), 11))
  ImageDraw.Draw(image).text((0, 0), letters, fill=255, font=font)
  dots = (np.asarray(image) > 127).astype(np.float32)
  dots = dots.reshape(11, len(letters), 6).transpose(1, 0, 2)
  return np.concatenate([dots, np.zeros([10, 11, 6], np.float32)])
