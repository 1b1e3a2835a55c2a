"""Clips in files, of any system, as evaluators take them.

A folder of videos, GIFs, image folders or film strips: one clip of each. A
single video: clips one after the other. A prepared data set. An array (N, T, H,
W, 3) of uint8 in .npy or .npz. `Clips` is both a source (`read`) and what
evaluators call a model (`stream`, `clips`).
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent import futures
import functools
import itertools
import os
import pathlib
from typing import Any
import zlib

import numpy as np

from vidgan_jax.video import clips as clips_lib
from vidgan_jax.video import folder as folder_lib
from vidgan_jax.video import read as read_lib

_ARRAYS = (".npy", ".npz")


class Clips:
  """Random access to clips of one length and size.

  Attributes:
    num_classes: 0.
    class_names: none.
    step: 0, as that of a model.
    times: (T,) seconds of the frames of the first clip.
    card: what the clips are, for protocols.
    fingerprint: a text that changes with the files.
    cache: folder for what is computed of them, or None.
  """

  num_classes = 0
  class_names = ()
  step = 0

  def __init__(
    self,
    path: str | os.PathLike,
    read: Callable[[int], tuple[np.ndarray, np.ndarray]],
    num: int,
    card: dict[str, Any],
    fingerprint: str,
  ):
    """Looks at the first clip.

    Args:
      path: what errors call them.
      read: number -> video (T, H, W, 3) uint8 and times (T,) seconds.
      num: clips.
      card: for protocols.
      fingerprint: of the files.
    """
    self._path, self._read, self._num = path, read, num
    self.fingerprint, self.cache = fingerprint, None
    video, self.times = read(0)
    self.shape = video.shape[:3]
    self.card = {**card, "num": num, "size": list(self.shape)}

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
    with futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
      found = list(pool.map(self._read, indices))
    for i, (video, _) in zip(indices, found):
      if video.shape[:3] != self.shape:
        raise ValueError(
          f"{self._path}: clip {i} has (T, H, W) = {video.shape[:3]}, the "
          f"first {self.shape}: all must be alike. --size 64 brings them to "
          "one size."
        )
    return [{"video": video, "times": times} for video, times in found]

  def stream(
    self, seed: int, num: int, batch: int = 32, *, frames: int | None = None
  ) -> Iterator[np.ndarray]:
    """Yields the first `num` clips, or all there are, `batch` at a time."""
    del seed
    num = min(num, self._num)
    for start in range(0, num, batch):
      some = self.read(range(start, min(start + batch, num)))
      yield np.stack([example["video"] for example in some])[:, :frames]

  def clips(
    self, seed: int, num: int, labels: Any = None, *, batch: int = 32
  ) -> tuple[np.ndarray, None]:
    """The same at once."""
    return np.concatenate(list(self.stream(seed, num, batch))), None


def open_clips(
  path: str | os.PathLike,
  *,
  frames: int = 16,
  stride: int = 1,
  size: int | None = None,
  split: str = "test",
  seed: int = 0,
) -> Any:
  """Opens clips that are on disk.

  Args:
    path: folder of videos, GIFs, image folders or film strips; one video; a
      data set of `vidgan prepare` or TFDS; .npy or .npz.
    frames: of a clip.
    stride: from one frame to the next.
    size: shorter side to this, by area averaging, and the centre square; None:
      as they are.
    split: of a data set.
    seed: a longer video gives one clip, at a place that follows from the seed
      and its name.

  Returns:
    `Clips`, or for a data set `data.pipeline.EvalClips` with the same fields.

  Raises:
    ValueError: nothing there, or clips that cannot be compared.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise ValueError(f"{path} does not exist.")
  options = dict(frames=frames, stride=stride, size=size)
  for name, value in options.items():
    if value is not None and value < 1:
      raise ValueError(f"--{name} {value}: give a whole number of at least 1.")
  if path.suffix.lower() in _ARRAYS and path.is_file():
    return _array(path, **options)
  if path.is_file():
    return _film(path, **options)
  if (path / "dataset_info.json").exists():
    return _data_set(path, split, **options)
  return _folder(path, seed, **options)


# ----------------------------------------------------------------------- kinds


def _folder(path, seed, frames, stride, size):
  layout, sources = folder_lib.scan(path, "auto")
  if not sources:
    raise ValueError(
      f"{path} holds no videos, GIFs, images or arrays: give the folder that "
      "holds the clips."
    )
  # Any first part of them is a fair one.
  order = {
    name: i
    for i, name in enumerate(
      folder_lib.order(source.file for source in sources)
    )
  }
  sources = sorted(sources, key=lambda source: order[source.file])
  options = clips_lib.Options(layout=layout, size=size or 0, upscale=True)
  span = (frames - 1) * stride + 1
  with futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
    count = functools.partial(_length, path, options)
    lengths = list(pool.map(count, sources))
  short = [(n, s.file) for n, s in zip(lengths, sources) if n < span]
  if short:
    raise ValueError(
      f"{path}: {len(short)} of {len(sources)} videos have fewer than {span} "
      f"frames, {min(short)[1]} only {min(short)[0]}. Take these out, or "
      f"compare shorter clips: --frames {max(1, min(short)[0] // stride)}."
    )

  def read(index):
    source = sources[index]
    rng = np.random.default_rng((seed, zlib.crc32(source.file.encode())))
    start = int(rng.integers(lengths[index] - span + 1))
    tally = clips_lib.Tally()
    stream = clips_lib.frames(path, source, options, tally, threads=1)
    some = itertools.islice(stream, start, start + span, stride)
    return _stack(some, frames, size, f"{path}/{source.file}")

  return Clips(
    path,
    read,
    len(sources),
    {
      "files": str(path),
      "layout": layout,
      "offset": f"one clip a file, at random, seed {seed}",
      **_cut(frames, stride, size),
    },
    repr(
      [
        *(str(path.resolve()), layout, seed, frames, stride, size),
        *((s.file, s.bytes, s.modified) for s in sources),
      ]
    ),
  )


def _film(path, frames, stride, size):
  """One video: windows side by side; read in order, each frame once."""
  source = folder_lib.Source(file=path.name, bytes=0, modified=0)
  options = clips_lib.Options(size=size or 0, upscale=True)
  length = _length(path.parent, options, source)
  span = (frames - 1) * stride + 1
  if length < span:
    raise ValueError(
      f"{path} has {length} frames, and a clip is {span}: --frames "
      f"{max(1, length // stride)} would do."
    )

  def read(index):
    first = index * span
    with read_lib.Reader(path, size=size, upscale=True, threads=1) as reader:
      # What comes before is decoded, but its pixels are not made.
      some = itertools.islice(reader.pictures(), first, first + span, stride)
      some = (read_lib.Frame(reader.convert(p), float(t)) for p, t in some)
      return _stack(some, frames, size, path)

  stat = path.stat()
  return Clips(
    path,
    read,
    length // span,
    {
      "files": str(path),
      "offset": "clips one after the other",
      **_cut(frames, stride, size),
    },
    repr(
      [str(path.resolve()), stat.st_size, stat.st_mtime, frames, stride, size]
    ),
  )


def _array(path, frames, stride, size):
  loaded = np.load(path, mmap_mode="r", allow_pickle=False)
  if path.suffix.lower() == ".npz":
    fits = [name for name in loaded.files if loaded[name].ndim == 5]
    if len(fits) != 1:
      raise ValueError(
        f"{path} holds {loaded.files}, and one array (N, T, H, W, 3) of clips "
        "is wanted."
      )
    loaded = loaded[fits[0]]
  if loaded.ndim != 5 or loaded.shape[-1] != 3 or loaded.dtype != np.uint8:
    hint = ""
    if loaded.ndim == 5 and 3 in loaded.shape[1:3]:
      hint = " Channels come last here: move them."
    if np.issubdtype(loaded.dtype, np.floating):
      low, high = float(np.min(loaded)), float(np.max(loaded))
      hint = (
        f" Its values are from {low:.4g} to {high:.4g}: say what is white by "
        "scaling to 0 ... 255 and rounding, as a video file would."
      )
      if not np.isfinite([low, high]).all():
        hint = " Some of its values are not finite."
    raise ValueError(
      f"{path} holds {loaded.dtype} {loaded.shape}; clips are (N, T, H, W, 3) "
      f"uint8, red first.{hint}"
    )
  if size is not None:
    raise ValueError(f"{path}: arrays are taken as they are; leave out --size.")
  span = (frames - 1) * stride + 1
  if loaded.shape[1] < span:
    raise ValueError(
      f"{path} has clips of {loaded.shape[1]} frames, and {span} are asked "
      f"for: --frames {max(1, loaded.shape[1] // stride)} would do."
    )

  def read(index):
    video = np.array(loaded[index, :span:stride])
    return video, np.arange(frames, dtype=np.float32) / 25

  stat = path.stat()
  return Clips(
    path,
    read,
    len(loaded),
    {"files": str(path), "offset": "0", **_cut(frames, stride, size)},
    repr([str(path.resolve()), stat.st_size, stat.st_mtime, frames, stride]),
  )


def _data_set(path, split, frames, stride, size):
  from vidgan_jax.data import pipeline

  data = {"name": "tfds", "options": {"directory": str(path)}, split: split}
  ops = f"clip({frames}, {stride})"
  if size is not None:
    ops += f" | resize({size}) | center_crop({size})"
  found = pipeline.EvalClips(
    pipeline.make_source(data, split), ops, name=f"{path} ({split})"
  )
  shape = found.read([0])[0]["video"].shape[:3]
  found.shape, found.cache = shape, None
  found.card = {
    "files": str(path),
    "split": split,
    "offset": "that of the op clip",
    "num": len(found),
    "size": list(shape),
    **_cut(frames, stride, size),
  }
  found.fingerprint = repr([stamp(path), split, ops])
  return found


def stamp(path: pathlib.Path) -> list:
  """Names, sizes and times of the files below a folder."""
  rows = []
  for inner in sorted(p for p in path.rglob("*") if p.is_file()):
    stat = inner.stat()
    rows.append((str(inner.relative_to(path)), stat.st_size, stat.st_mtime))
  return [str(path.resolve()), rows]


# --------------------------------------------------------------------- helpers


def _cut(frames, stride, size):
  resize = f"shorter side to {size} (area), centre square" if size else "none"
  return {"frames": frames, "stride": stride, "resize": resize}


def _length(root, options, source):
  """Frames that can be decoded; headers are often wrong."""
  if options.layout == "frames":
    return len(source.images)
  if options.layout == "strips":
    frames = clips_lib.frames(root, source, options, clips_lib.Tally())
    return sum(1 for _ in frames)
  with read_lib.Reader(os.path.join(root, source.file), threads=1) as reader:
    return sum(1 for _ in reader.pictures())


def _stack(some, frames, size, name):
  found = list(some)
  if len(found) < frames:
    raise ValueError(f"{name}: frames of it do not decode: mend or remove it.")
  video = np.stack([frame.image for frame in found])
  if size is not None:
    top, left = ((n - size) // 2 for n in video.shape[1:3])
    video = video[:, top : top + size, left : left + size]
  times = np.array([frame.time for frame in found], np.float32)
  return np.ascontiguousarray(video), times - times[0]


# ---------------------------------------------------------------------- checks


def check(generated: Any, reference: Any, num: int = 64) -> list[str]:
  """Looks at some clips of both before anything is computed.

  Args:
    generated: `Clips` or alike.
    reference: likewise.
    num: clips of each to look at.

  Returns:
    What looks suspicious, a sentence each.

  Raises:
    ValueError: both cannot be compared.
  """
  if tuple(generated.shape) != tuple(reference.shape):
    raise ValueError(
      f"Generated clips have (T, H, W) = {tuple(generated.shape)}, the "
      f"reference {tuple(reference.shape)}: bring both to one size and length "
      "with --size and --frames."
    )
  sums, remarks = {}, []
  for name, clips in (("generated", generated), ("reference", reference)):
    some = np.unique(np.linspace(0, len(clips) - 1, num).astype(int))
    total, count, high = np.zeros(3), 0, 0
    for i in some:
      video = clips.read([i])[0]["video"]
      total += video.sum((0, 1, 2), dtype=np.float64)
      count += video[..., 0].size
      high = max(high, int(video.max()))
    if high <= 1:
      raise ValueError(
        f"No pixel of the {name} clips is above {high} of 255: were floats in "
        "[0, 1] cast to bytes? Multiply by 255 first."
      )
    sums[name] = total / count
  fake, real = sums["generated"], sums["reference"]
  straight = np.abs(fake - real).max()
  swapped = np.abs(fake[::-1] - real).max()
  if straight > 8 and swapped < straight / 2:
    remarks.append(
      f"The mean colour of the generated clips is {fake.round().astype(int)}, "
      f"of the reference {real.round().astype(int)}: red and blue look "
      "exchanged (BGR?). Figures are of the clips as they are."
    )
  return remarks
