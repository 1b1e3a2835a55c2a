"""Clips in files, of any system, as evaluators take them.

A folder of videos, GIFs, image folders or film strips: one clip of each. A
single video: clips one after the other. A prepared data set. An array (N, T, H,
W, 3) of uint8 in .npy or .npz. They are an `evals.Reference`, also where they
take the place of a sampler. No clip has a frame missing: files of which one
does not decode are refused.
"""

import bisect
from collections.abc import Callable
from collections.abc import Sequence
from concurrent import futures
import functools
import itertools
import os
import pathlib
from typing import Any
import zlib

import numpy as np

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax.data import pipeline
from vidgan_jax.data import reference as reference_lib
from vidgan_jax.measures import colours
from vidgan_jax.store import archives
from vidgan_jax.store import digest
from vidgan_jax.video import clips as clips_lib
from vidgan_jax.video import folder as folder_lib
from vidgan_jax.video import read as read_lib

ARRAYS = (".npy", ".npz")
_OFFSETS = {"random": "at random", "start": "from its first frame"}
_SHUFFLE = 0  # seed of the order of clips
_APART = 1.05  # ratio of frame rates that are no longer one
_VERSION = 2  # of what a fingerprint stands for
# Containers (MP4, Matroska) that store the time of every picture, so that it is
# the same from wherever one begins to read. In others it depends on that.
_TIMED = ("mov", "matroska")
_INTRA = 1  # AVPictureType of a picture that needs no other
_KEEP = 2**30  # bytes of clips: every metric reads them, decoding is slow


class Clips:
  """Random access to clips of one length and size, in an order of its own.

  The order is a permutation of that on disk, the same each time: neighbours
  there are alike (windows of one film, an array sorted by class), and metrics
  take the first clips, which must be a fair sample.

  Attributes:
    shape: (T, H, W) of a clip.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    read: Callable[[int], tuple[np.ndarray, np.ndarray]],
    num: int,
  ):
    """Looks at the first clip.

    Args:
      path: what errors call them.
      read: number on disk -> video (T, H, W, 3) uint8 and times (T,) seconds.
      num: clips.

    Raises:
      ValueError: there is no clip.
    """
    if not num:
      raise errors.UserError(f"{path} holds no clips.")
    self._path, self._num = path, num
    self._kept, self._room = {}, _KEEP
    self._order = np.random.default_rng(_SHUFFLE).permutation(num)
    self._read = lambda i: read(int(self._order[i]))
    video, _ = self._read(0)
    self.shape = video.shape[:3]

  def __len__(self) -> int:
    return self._num

  def read(self, indices: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """Clips of these numbers: `video` and `times`."""
    indices = [int(i) for i in indices]
    for i in indices:
      if not 0 <= i < self._num:
        raise IndexError(
          f"Clip {i} does not exist: {self._path} has {self._num} clips."
        )
    missing = [i for i in dict.fromkeys(indices) if i not in self._kept]
    with futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
      new = dict(zip(missing, pool.map(self._read, missing)))
    for i, (video, times) in new.items():
      if video.nbytes <= self._room:
        self._kept[i] = video, times
        self._room -= video.nbytes
    chosen = [new[i] if i in new else self._kept[i] for i in indices]
    for i, (video, _) in zip(indices, chosen):
      if video.shape[:3] != self.shape:
        raise errors.UserError(
          f"{self._path}: clip {i} has (T, H, W) = {video.shape[:3]}, the "
          f"first {self.shape}: all must be alike. --size 64 brings them to "
          "one size."
        )
    return [{"video": video, "times": times} for video, times in chosen]


def _reference(
  path: str | os.PathLike,
  read: Callable[[int], tuple[np.ndarray, np.ndarray]],
  num: int,
  card: dict[str, Any],
  fingerprint: str,
  contents: Any,
) -> evals.Reference:
  """Clips with what they are.

  Args:
    path: see `Clips`.
    read: likewise.
    num: likewise.
    card: for protocols.
    fingerprint: of the files.
    contents: what is in them, wherever they are stored; see `digest.of`.
  """
  clips = Clips(path, read, num)
  first = clips.read([0])[0]["video"]
  return evals.Reference(
    clips=clips,
    fingerprint=f"{_VERSION} {fingerprint}",
    card={
      **card,
      "content": digest.of([contents, first])[:16],
      "order": f"permuted, seed {_SHUFFLE}",
      "num": num,
      "size": list(clips.shape),
    },
  )


def open_clips(
  path: str | os.PathLike,
  *,
  frames: int = 16,
  stride: int = 1,
  size: int | None = None,
  split: str = "test",
  seed: int = 0,
  offset: str = "random",
) -> evals.Reference:
  """Opens clips that are on disk.

  Args:
    path: folder of videos, GIFs, image folders or film strips; one video; a
      data set of `vidgan prepare` or TFDS; .npy or .npz.
    frames: of a clip.
    stride: from one frame to the next.
    size: shorter side to this, by area averaging, and the centre square; None:
      as they are.
    split: of a data set.
    seed: of `offset`.
    offset: a longer video of a folder gives one clip, 'random' at a place that
      follows from the seed and its name, or from its 'start'. In StyleGAN-V's
      protocol real clips are the former and generated ones the latter.

  Raises:
    ValueError: nothing there, or clips that cannot be compared.
  """
  path = pathlib.Path(path)
  if offset not in _OFFSETS:
    raise errors.UserError(f"offset={offset!r} is none of {list(_OFFSETS)}.")
  if not path.exists():
    raise errors.UserError(f"{path} does not exist.")
  options = dict(frames=frames, stride=stride, size=size)
  for name, value in options.items():
    if value is not None and value < 1:
      raise errors.UserError(
        f"--{name} {value}: give a whole number of at least 1."
      )
  if path.suffix.lower() in ARRAYS and path.is_file():
    return _array(path, **options)
  if path.is_file():
    return _film(path, **options)
  if (path / "dataset_info.json").exists():
    return _data_set(path, split, **options)
  return _folder(path, seed, offset, **options)


# ----------------------------------------------------------------------- kinds


def _folder(path, seed, offset, frames, stride, size):
  layout, sources = folder_lib.scan(path, "auto")
  if not sources:
    raise errors.UserError(
      f"{path} holds no videos, GIFs, images or arrays: give the folder that "
      "holds the clips."
    )
  beside = {}
  if layout == "videos":
    folders = folder_lib.scan(path, "frames")[1]
    images = {*folder_lib.IMAGES} - {".webp"}  # Which may move.
    names = [name for inner in folders for name in inner.images]
    count = sum(pathlib.Path(name).suffix.lower() in images for name in names)
    beside = {"images_passed_over": count} if count else {}
  elif layout == "frames":
    count = sum(folder_lib.missing(source.images) for source in sources)
    beside = {"frames_missing": count} if count else {}
  options = clips_lib.Options(layout=layout, size=size or 0, upscale=True)
  span = (frames - 1) * stride + 1
  look = functools.partial(_count, path, options)
  if offset == "start":  # What comes after does not matter.
    look = functools.partial(look, most=span)
  with futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
    lengths, damaged, rates = zip(*pool.map(look, sources))
  short = [(n, s.file) for n, s in zip(lengths, sources) if n < span]
  bad = [(n, s.file) for n, s in zip(damaged, sources) if n]
  if bad:
    raise errors.UserError(
      f"{path}: {len(bad)} of {len(sources)} videos have frames that cannot be "
      f"decoded, {max(bad)[1]} {max(bad)[0]} of them; a clip without them "
      "would move otherwise. Mend these videos, or take them out."
    )
  if short:
    raise errors.UserError(
      f"{path}: {len(short)} of {len(sources)} videos have fewer than {span} "
      f"frames, {min(short)[1]} only {min(short)[0]}. Take these out, or "
      f"compare shorter clips: --frames {max(1, min(short)[0] // stride)}."
    )

  def read(index):
    source, start = sources[index], 0
    if offset == "random":
      rng = np.random.default_rng((seed, zlib.crc32(source.file.encode())))
      start = int(rng.integers(lengths[index] - span + 1))
    tally = clips_lib.Tally()
    stream = clips_lib.frames(path, source, options, tally, threads=1)
    chosen = list(itertools.islice(stream, start, start + span, stride))
    stream.close()  # From here on the tally holds.
    return _stack(chosen, tally.damaged, frames, size, f"{path}/{source.file}")

  place = f"one clip a file, {_OFFSETS[offset]}"
  if offset == "random":
    place += f", seed {seed}"
  return _reference(
    path,
    read,
    len(sources),
    {
      "files": str(path),
      "layout": layout,
      **beside,
      "offset": place,
      **_rate(rates),
      **_cut(frames, stride, size),
    },
    repr(
      [
        *(str(path.resolve()), layout, place, frames, stride, size),
        *((s.file, s.bytes, s.modified) for s in sources),
      ]
    ),
    [(s.file, s.bytes) for s in sources],
  )


def _film(path, frames, stride, size):
  """One video: windows side by side."""
  times, keys = [], []  # Of all pictures, and numbers of those to begin at.
  with read_lib.Reader(path) as reader:
    timed = reader.info.container.split(",")[0] in _TIMED
    for picture, time in reader.pictures():
      if timed and picture.key_frame and picture.pict_type == _INTRA:
        keys.append(len(times))
      times.append(time)
    damaged = reader.damaged
  if damaged:
    raise errors.UserError(
      f"{path}: {damaged} of its frames cannot be decoded; a clip without them "
      "would move otherwise. Mend the video, or cut the good parts out."
    )
  length, span = len(times), (frames - 1) * stride + 1
  if length < span:
    raise errors.UserError(
      f"{path} has {length} frames, and a clip is {span}: --frames "
      f"{max(1, length // stride)} would do."
    )

  def read(index):
    first = index * span
    wanted = times[first : first + span : stride]
    before = keys[: bisect.bisect_right(keys, first)]
    chosen = before and _window(path, size, wanted, times[before[-1]])
    chosen = chosen or _window(path, size, wanted, None)
    return _stack(chosen, 0, frames, size, path)

  stat = path.stat()
  seconds = float(times[-1] - times[0])
  return _reference(
    path,
    read,
    length // span,
    {
      "files": str(path),
      "offset": "clips one after the other",
      **_rate([(length - 1) / seconds if seconds else None]),
      **_cut(frames, stride, size),
    },
    repr(
      [str(path.resolve()), stat.st_size, stat.st_mtime, frames, stride, size]
    ),
    stat.st_size,
  )


def _window(path, size, wanted, key):
  """The frames of a film that have these times.

  Args:
    path: of the film.
    size: shorter side.
    wanted: exact times, in order.
    key: time of an intra picture at or before the first of them, to begin at;
      None: read from the start. Other pictures are decoded, but their pixels
      are not made.

  Returns:
    Frames, or None where the container did not go to that picture.
  """
  chosen, reached = [], key is None
  with read_lib.Reader(
    path, size=size, upscale=True, square_pixels=True, threads=1
  ) as reader:
    if key is not None:
      reader.seek(key)
    for picture, time in reader.pictures():
      reached = reached or time == key
      if not reached and time > key:
        return None
      if reached and time == wanted[len(chosen)]:
        chosen.append(read_lib.Frame(reader.convert(picture), float(time)))
        if len(chosen) == len(wanted):
          return chosen
  return None if key is not None else chosen


def array(path: pathlib.Path) -> np.ndarray:
  """The clips of a .npy or .npz, (N, T, H, W, 3) uint8; others are refused."""
  loaded = _loaded(path)
  if loaded.ndim != 5 or loaded.shape[-1] != 3 or loaded.dtype != np.uint8:
    hint = ""
    if loaded.ndim == 5 and 3 in loaded.shape[1:3]:
      hint = " Channels come last here: move them."
    if loaded.ndim == 5 and loaded.shape[-1] == 1:
      hint = " Repeat the channel of grey clips: numpy.repeat(clips, 3, -1)."
    if np.issubdtype(loaded.dtype, np.floating) and loaded.size:
      low, high = float(np.min(loaded)), float(np.max(loaded))
      hint = (
        f" Its values are from {low:.4g} to {high:.4g}: say what is white by "
        "scaling to 0 ... 255 and rounding, as a video file would."
      )
      if not np.isfinite([low, high]).all():
        hint = " Some of its values are not finite."
    raise errors.UserError(
      f"{path} holds {loaded.dtype} {loaded.shape}; clips are (N, T, H, W, 3) "
      f"uint8, red first.{hint}"
    )
  if not loaded.size:
    raise errors.UserError(
      f"{path} holds {loaded.shape}: there is no pixel in it."
    )
  return loaded


def _array(path, frames, stride, size):
  loaded = array(path)
  span = (frames - 1) * stride + 1
  if loaded.shape[1] < span:
    raise errors.UserError(
      f"{path} has clips of {loaded.shape[1]} frames, and {span} are asked "
      f"for: --frames {max(1, loaded.shape[1] // stride)} would do."
    )

  def read(index):
    video = np.array(loaded[index, :span:stride])
    if size is not None:
      resized = (read_lib.resize(image, size) for image in video)
      video = np.stack([_square(image, size) for image in resized])
    return video, np.arange(frames, dtype=np.float32) / 25

  stat = path.stat()
  return _reference(
    path,
    read,
    len(loaded),
    {
      "files": str(path),
      "offset": "0",
      **_rate([None]),
      **_cut(frames, stride, size),
    },
    repr(
      [str(path.resolve()), stat.st_size, stat.st_mtime, frames, stride, size]
    ),
    # Other clips would be as many bytes.
    functools.reduce(lambda c, x: zlib.crc32(x.tobytes(), c), loaded, 0),
  )


def _loaded(path) -> np.ndarray:
  """The array of a file."""
  arrays = archives.arrays(path)
  if "" in arrays:
    return arrays[""]
  fits = [array for array in arrays.values() if array.ndim == 5]
  if len(fits) != 1:
    raise errors.UserError(
      f"{path} holds {list(arrays)}, and one array (N, T, H, W, 3) of clips is "
      "wanted."
    )
  return fits[0]


def _data_set(path, split, frames, stride, size):
  options = {"directory": str(path)}
  data = {"name": "tfds", "options": options, "text": {}, split: split}
  ops = f"clip({frames}, {stride})"
  if size is not None:
    ops += f" | resize({size}) | center_crop({size})"
  try:
    source = pipeline.make_source(data, split)
  except ValueError as error:
    raise errors.UserError(f"{error}: for --reference say --split.") from None
  clips = reference_lib.Clips(source, ops, name=f"{path} ({split})")
  indices = np.unique(np.linspace(0, len(clips) - 1, 8).astype(int))
  examples = clips.read(indices)
  shape = examples[0]["video"].shape[:3]
  steps = [np.median(np.diff(e["times"])) for e in examples if frames > 1]
  return evals.Reference(
    clips=clips,
    fingerprint=repr([stamp(path), split, ops]),
    world=clips.world,
    card={
      "files": str(path),
      "content": content(clips),
      "split": split,
      "offset": "that of the op clip",
      "num": len(clips),
      "too_short": clips.dropped,
      "size": list(shape),
      **_rate([stride / step for step in steps]),
      **_cut(frames, stride, size),
    },
  )


def stamp(path: pathlib.Path) -> list:
  """Names, sizes and times of the files below a folder."""
  rows = []
  for inner in sorted(p for p in path.rglob("*") if p.is_file()):
    stat = inner.stat()
    rows.append((str(inner.relative_to(path)), stat.st_size, stat.st_mtime))
  return [str(path.resolve()), rows]


def content(source: Any) -> str:
  """Names the clips of a data set, wherever it is stored, by 32 of them."""
  indices = np.unique(np.linspace(0, len(source) - 1, 32).astype(int))
  videos = [clip["video"] for clip in source.read(indices)]
  return digest.of([len(source), videos])[:16]


# --------------------------------------------------------------------- helpers


def _cut(frames, stride, size):
  resize = f"shorter side to {size} (area), centre square" if size else "none"
  return {"frames": frames, "stride": stride, "resize": resize}


def _rate(rates) -> dict[str, Any]:
  """Frames a second: the median, and the range where they are not alike."""
  rates = [float(rate) for rate in rates if rate]
  if not rates:
    return {"fps": None}
  card = {"fps": round(float(np.median(rates)), 3)}
  if max(rates) > _APART * min(rates):
    card["fps_range"] = [round(min(rates), 3), round(max(rates), 3)]
  return card


def _count(root, options, source, most=None):
  """How many frames decode, how many do not, and the rate if it is known.

  Args:
    root: folder.
    options: the layout.
    source: of the folder.
    most: look no further than so many frames. Headers are often wrong.
  """
  if options.layout == "frames":
    return len(source.images), 0, None  # Read only once, when they are wanted.
  if options.layout == "strips":
    frames = clips_lib.frames(root, source, options, clips_lib.Tally())
    return sum(1 for _ in frames), 0, None
  with read_lib.Reader(os.path.join(root, source.path), threads=1) as reader:
    pictures = itertools.islice(reader.pictures(), most)
    times = [time for _, time in pictures]
    seconds = float(times[-1] - times[0])
    rate = (len(times) - 1) / seconds if seconds else None
    return len(times), reader.damaged, rate


def _stack(images, damaged, frames, size, name):
  """Frames -> video (T, H, W, 3) uint8 and times (T,) from 0."""
  if damaged or len(images) < frames:
    raise errors.UserError(
      f"{name}: {max(damaged, frames - len(images))} of its frames cannot be "
      "decoded: repair it, or take it out."
    )
  shapes = sorted({frame.image.shape[:2] for frame in images})
  if size is None and shapes[1:]:
    raise errors.UserError(
      f"{name}: its frames have several sizes, as {shapes[0]} and {shapes[1]}:"
      " --size 64 brings them to one."
    )
  video = np.stack([_square(frame.image, size) for frame in images])
  times = np.array([frame.time for frame in images], np.float32)
  return np.ascontiguousarray(video), times - times[0]


def _square(image: np.ndarray, size: int | None) -> np.ndarray:
  """The centre square of a frame; the frame itself where `size` is None."""
  if size is None:
    return image
  top, left = ((n - size) // 2 for n in image.shape[:2])
  return image[top : top + size, left : left + size]


# ---------------------------------------------------------------------- checks


def check(
  generated: evals.Reference, reference: evals.Reference, num: int = 64
) -> list[str]:
  """Looks at some clips of both before anything is computed.

  Args:
    generated: clips of a system.
    reference: real ones.
    num: clips of each to look at.

  Returns:
    What looks suspicious, a sentence each.

  Raises:
    ValueError: both cannot be compared.
  """
  both = {"generated": generated, "reference": reference}
  shapes = [clips.read([0])[0]["video"].shape[:3] for clips in both.values()]
  if shapes[0] != shapes[1]:
    raise errors.UserError(
      f"Generated clips have (T, H, W) = {shapes[0]}, the reference "
      f"{shapes[1]}: bring both to one size and length with --size and "
      "--frames."
    )
  remarks = []
  rates = [(clips.card or {}).get("fps") for clips in both.values()]
  if all(rates) and max(rates) > _APART * min(rates):
    remarks.append(
      f"The generated clips have {rates[0]:g} frames a second, the reference "
      f"{rates[1]:g}: what is seen of motion is then mostly this. Bring both "
      "to one rate."
    )
  for name, clips in both.items():
    facts = clips.card or {}
    if "images_passed_over" in facts:
      remarks.append(
        f"The {name} folder has {facts['images_passed_over']} images beside "
        "its videos, which are passed over: give videos or images alone."
      )
    if "frames_missing" in facts:
      remarks.append(
        f"By the names of their files, {facts['frames_missing']} frames of the "
        f"{name} clips are missing: figures of motion take the others as if "
        "they followed each other."
      )
  means, shares = zip(
    *(_colours(clips, name, num) for name, clips in both.items())
  )
  # Not of the means, which may be grey, as of skies at noon and at dusk.
  if colours.exchanged(*shares):
    fake, real = (mean.round().astype(int) for mean in means)
    remarks.append(
      "The colours of the generated clips are nearer to those of the reference "
      f"with red and blue exchanged (BGR?); mean colours {fake} and {real}. "
      "Figures are of the clips as they are."
    )
  return remarks


def _colours(clips, name, num) -> tuple[np.ndarray, np.ndarray]:
  """The mean colour (3,), and the mean `colours.shares` of some clips."""
  indices = np.unique(np.linspace(0, len(clips) - 1, num).astype(int))
  total, count, high = np.zeros(3), 0, 0
  shares = 0
  for i in indices:
    video = clips.read([i])[0]["video"]
    total += video.sum((0, 1, 2), dtype=np.float64)
    count += video[..., 0].size
    shares = shares + colours.shares(video[:, ::2, ::2])
    high = max(high, int(video.max()))
  if high <= 1:
    raise errors.UserError(
      f"No pixel of the {name} clips is above {high} of 255: were floats in "
      "[0, 1] cast to bytes? Multiply by 255 first."
    )
  return total / count, shares / len(indices)
