"""Data sets of TFDS as they are: prepared ones and published ones.

  tfds.make("train", directory="data/mine")       # made by `vidgan prepare`
  tfds.make("train", name="ucf101")               # made by `tfds build`
  tfds.make("test[:90%]", name="moving_mnist")    # published as one split

Records are read at random from ArrayRecord files and their frames stay encoded:
a clip is decoded by the ops, only as far as it is used. Nothing is downloaded,
ever. The features are found by kind, not by the data set's name: the frames
are a sequence of images (`frames`, `video`, `image_sequence`, steps with an
`image_main`, ...) or a uint8 tensor of rank 4; `label`, `caption` and `times`
are taken when they are there. The signal `layout` are label maps, a sequence of
images of one channel by that name; `sound` is made of the sound that `vidgan
prepare --sound` has kept (data/sound.py).
"""

from collections.abc import Iterable
from collections.abc import Iterator
import functools
import json
import logging
import os
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder

from vidgan_jax import errors
from vidgan_jax.data import sound
from vidgan_jax.store import files
from vidgan_jax.video import maps

_VIDEO = ("frames", "video", "image_sequence", "image_main", "image")
_LENGTHS = "vidgan_lengths.json"  # beside data sets that do not tell theirs


def make(
  split: str,
  *,
  directory: str | None = None,
  name: str | None = None,
  data_dir: str | None = None,
  video: str | None = None,
  label: str | None = "label",
  layout: str | None = "layout",
  fps: float = 25.0,
  min_frames: int = 1,
) -> "Source":
  """Opens a data set that is on disk.

  Args:
    split: 'train', 'test' or what else TFDS understands: 'train[:90%]'.
    directory: of a data set, prepared or any other of TFDS; or else
    name: of a TFDS data set, with config and version where needed, built
      below `data_dir`.
    data_dir: TFDS's folder of data sets (default: its own default).
    video: the feature with the frames, where there are several.
    label: the feature with the class, None for unlabelled clips.
    layout: the feature with the label maps, None to leave them out.
    fps: frames per second of clips that do not carry their times.
    min_frames: clips with fewer frames are left out.

  Returns:
    The source.

  Raises:
    ValueError: no such data set, split or feature; or files that cannot be
      read at random.
  """
  if (directory is None) == (name is None):
    raise errors.UserError(
      "data.options of the source 'tfds' needs either `directory` (a prepared"
      " data set) or `name` (of a TFDS data set)"
    )
  if not fps > 0:
    raise errors.UserError(f"data.options.fps={fps} must be above 0")
  builder = _open(directory, name, data_dir)
  return Source(builder, split, video, label, layout, fps, min_frames)


class Source:
  """Random access to the clips of one split.

  Attributes:
    spec: name -> (shape with None where it varies, numpy dtype) of an example.
    num_classes: 0 when there are no labels.
    class_names: their names.
    layout_names: names of the classes of the label maps, by number; the number
      255 says that nothing is known. Empty where no names are known.
    left_out: number of clips that are shorter than `min_frames`.
  """

  def __init__(
    self,
    builder: tfds.core.DatasetBuilder,
    split: str,
    video: str | None,
    label: str | None,
    layout: str | None,
    fps: float,
    min_frames: int,
  ):
    self._where = os.fspath(builder.data_path)
    self._builder, self._split, self._fps = builder, split, fps
    splits = builder.info.splits
    self._pieces = _pieces(splits, split, self._where)
    features = builder.info.features
    self._key, self._frames, length = _find_video(features, video, self._where)
    top = features if isinstance(features, tfds.features.FeaturesDict) else {}
    self._times = _kind(top, "times", np.float32, rank=1)
    self._caption = _kind(top, "caption", np.object_, rank=0)
    self._audio = _kind(top, "audio", np.int16, rank=1)
    names = ()
    self._label = None
    if label and label in top:
      if not isinstance(top[label], tfds.features.ClassLabel):
        raise errors.UserError(
          f"{self._where}: the feature {label!r} is no ClassLabel; choose"
          " another by data.options.label, or None"
        )
      self._label = label
      count = top[label].num_classes or 0
      names = tuple(top[label].names or map(str, range(count)))
    self.class_names = names
    self.num_classes = len(names)
    self._layout, self.layout_names = _find_layout(features, layout, length)
    self._static_length = length
    # Raw records: TFDS's own decoder cannot leave frames encoded.
    self._records = builder.as_data_source(
      split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    self._index = self._long_enough(min_frames)
    self.left_out = len(self._records) - len(self)
    if self.left_out:
      logging.warning(
        "%s: %d of %d clips of %r have fewer than %d frames and are left out",
        self._where,
        self.left_out,
        len(self._records),
        split,
        min_frames,
      )
    if not len(self):
      longest = int(max(self._all_lengths, default=0))
      raise errors.UserError(
        f"{self._where}: no clip of {split!r} has {min_frames} frames, the"
        f" longest of {len(self._records)} has {longest}. Ask for fewer frames"
        " or a smaller stride, or prepare longer clips"
      )
    spec = {"times": ((length,), np.float32)}
    if self._frames:
      spec["frames"] = ((length,), object)
    else:
      shape = _feature(features, self._key).shape
      spec["video"] = ((length, *shape[1:3], 3), np.uint8)
    if self._label:
      spec["label"] = ((), np.int32)
    if self._caption:
      spec["caption"] = ((), object)
    if self._layout:
      shape = _feature(features, self._layout).shape
      spec["layout"] = ((length, *shape[-3:-1]), np.uint8)
    if self._audio:
      spec["sound"] = ((length, sound.FEATURES), np.float32)
    self.spec = {k: (s, np.dtype(d)) for k, (s, d) in spec.items()}

  def __len__(self) -> int:
    return len(self._records) if self._index is None else len(self._index)

  @functools.cached_property
  def lengths(self) -> np.ndarray:
    """(len(self),) int64: frames of each clip."""
    lengths = self._all_lengths
    return lengths if self._index is None else lengths[self._index]

  @functools.cached_property
  def _all_lengths(self) -> np.ndarray:
    """(clips of the split,) int64, before any is left out."""
    if self._static_length:
      return np.full(len(self._records), self._static_length, np.int64)
    known = _known_lengths(self._where)
    parts = []
    for name, start, stop in self._pieces:
      if (
        len(known.get(name, ())) != self._builder.info.splits[name].num_examples
      ):
        known[name] = self._count(name)
        _save_lengths(self._where, known)
      parts.append(np.asarray(known[name][start:stop], np.int64))
    return np.concatenate(parts)

  def _count(self, name: str) -> list[int]:
    """Reads a whole split to count frames: once for a data set."""
    logging.warning("%s: counting the frames of %r, once", self._where, name)
    records = self._builder.as_data_source(
      name, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    if self._frames:
      count = lambda r: len(self._parse(r, 0)[self._key].bytes_list.value)
    else:
      count = lambda r: len(self._tensor(r))
    lengths = []
    for i in range(len(records)):
      try:
        lengths.append(count(records[i]))
      except (RuntimeError, ValueError, OSError):
        lengths.append(0)  # damaged: reading it says so
    return lengths

  def _long_enough(self, min_frames: int) -> np.ndarray | None:
    """Indices of the clips to keep; None: all."""
    if min_frames <= 1:
      return None
    keep = np.flatnonzero(self._all_lengths >= min_frames)
    return None if len(keep) == len(self._records) else keep

  def read(self, indices: Iterable[int]) -> list[dict[str, Any]]:
    """Reads clips.

    Args:
      indices: integers in [0, len(self)).

    Returns:
      One dictionary a clip, as in `spec`: frames (T,) encoded images (a grey
      one is to be decoded to three channels) or video (T, H, W, 3) uint8;
      times (T,) float32 seconds from the clip's start; label; caption; layout
      (T, H, W) uint8; sound (T, sound.FEATURES) float32.

    Raises:
      IndexError: an index out of range.
      ValueError: a damaged record.
    """
    indices = [int(i) for i in indices]
    for i in indices:
      if not 0 <= i < len(self):
        raise IndexError(
          f"clip {i} of {self._where}: there are {len(self)}, from 0"
        )
    if self._index is not None:
      indices = [int(self._index[i]) for i in indices]
    return [self._example(self._record(i), i) for i in indices]

  def captions(self, indices: Iterable[int]) -> list[str]:
    """The captions of these clips, whose frames are not looked at."""
    chosen = indices if self._index is None else self._index[list(indices)]
    # One after the other: a record holds all frames of its clip.
    features = (self._parse(self._record(int(i)), int(i)) for i in chosen)
    return [f["caption"].bytes_list.value[0].decode() for f in features]

  def _record(self, index: int) -> bytes:
    try:
      # One by one: reading several at once starts threads for each call.
      return self._records[index]
    except (RuntimeError, ValueError, OSError) as error:
      raise errors.UserError(
        f"{self._where}: clip {index} of {self._split!r} cannot be read"
        f" ({error}): the files are damaged or gone"
      ) from None

  def _parse(self, record: bytes, index: int) -> Any:
    try:
      return tf.train.Example.FromString(record).features.feature
    except Exception as error:  # of protobuf's C library, by version
      raise errors.UserError(
        f"{self._where}: clip {index} of {self._split!r} is damaged ({error})"
      ) from None

  def _tensor(self, record: bytes) -> np.ndarray:
    """(T, H, W, 1 or 3) uint8 of a record that keeps its video as a tensor."""
    value = self._builder.info.features.deserialize_example_np(record)
    for part in self._key.split("/"):
      value = value[part]
    return value

  def _example(self, record: bytes, index: int) -> dict[str, Any]:
    feature = self._parse(record, index)
    out = {}
    if self._frames:
      images = feature[self._key].bytes_list.value
      out["frames"] = np.empty(len(images), object)
      out["frames"][:] = images
      count = len(images)
    else:
      value = self._tensor(record)
      out["video"] = np.ascontiguousarray(
        np.broadcast_to(value, (*value.shape[:3], 3))
      )
      count = len(value)
    if self._times:
      times = np.array(feature["times"].float_list.value, np.float32)
    else:
      times = (np.arange(count) / self._fps).astype(np.float32)
    if count == 0 or len(times) != count:
      raise errors.UserError(
        f"{self._where}: clip {index} of {self._split!r} holds {count} frames"
        f" and {len(times)} times"
      )
    out["times"] = times
    if self._label:
      out["label"] = np.int32(feature[self._label].int64_list.value[0])
    if self._caption:
      out["caption"] = feature["caption"].bytes_list.value[0].decode()
    if self._layout:
      encoded = feature[self._layout].bytes_list.value
      out["layout"] = np.stack([*map(maps.decode, encoded)])
    if self._audio:
      [data] = feature["audio"].bytes_list.value
      wave = np.frombuffer(data, "<i2").astype(np.float32) / 32767
      start = feature["audio_start"].float_list.value[0]
      gap = float(np.median(np.diff(times))) if count > 1 else 1 / self._fps
      out["sound"] = sound.rows(wave, times - start, gap)
    return out


# ---------------------------------------------------------------- opening


def _open(
  directory: str | None, name: str | None, data_dir: str | None
) -> tfds.core.DatasetBuilder:
  """A builder of files that exist and can be read at random."""
  if directory is not None:
    directory = os.path.expanduser(directory)
    try:
      builder = tfds.builder_from_directory(directory)
    except Exception as error:  # Damaged files of TFDS can fail in any way.
      there = "holds no data set" if os.path.isdir(directory) else "is missing"
      unfinished = os.path.isdir(directory.rstrip("/") + ".partial")
      raise errors.UserError(
        f"{directory} {there}"
        + (
          ", but an unfinished run of `vidgan prepare` lies beside it: give"
          " its command again"
          if unfinished
          else f": make it with `vidgan prepare VIDEOS {directory}`, or correct"
          " data.options.directory"
        )
        + (f" ({errors.brief(error)})" if os.path.isdir(directory) else "")
      ) from None
    how = f"`vidgan prepare VIDEOS {directory}`"
  else:
    where = f" --data_dir={data_dir}" if data_dir else ""
    how = f"`tfds build {name} --file_format=array_record{where}`"
    try:
      builder = read_only_builder.builder_from_files(name, data_dir=data_dir)
    except Exception as error:  # Damaged files of TFDS can fail in any way.
      below = data_dir or tfds.core.constants.DATA_DIR
      raise errors.UserError(
        f"the data set {name!r} is not on disk below {below}, and nothing is"
        f" downloaded here: build it with {how}, or correct data.options"
        f" ({errors.brief(error)})"
      ) from None
  info = builder.info
  if info.file_format.value != "array_record":
    if "array_record" in info.alternative_file_formats:
      return tfds.builder_from_directory(
        os.fspath(builder.data_path), file_format="array_record"
      )
    raise errors.UserError(
      f"{builder.data_path} is stored as {info.file_format.value}, which cannot"
      f" be read at random: build it again with {how}, or convert it with"
      f" `tfds convert_format --dataset_version_dir={builder.data_path}"
      " --out_file_format=array_record`"
    )
  return builder


def _pieces(splits: Any, split: str, where: str) -> list[tuple[str, int, int]]:
  """A split such as 'train[:9]+test' as [(name, first, last + 1)]."""
  try:
    pieces = tfds.core.ReadInstruction.from_spec(split).to_absolute(splits)
    pieces = [(p.splitname, p.from_ or 0, p.to) for p in pieces]
  except (KeyError, ValueError, AssertionError):
    raise errors.UserError(
      f"{where} has no split {split!r}, only {', '.join(splits)}: prepare it"
      " from more videos, or take a part of one, which is written"
      f" '{next(iter(splits), 'train')}[90%:]'"
    ) from None
  return [
    (n, a, splits[n].num_examples if b is None else b) for n, a, b in pieces
  ]


# ---------------------------------------------------------------- features


def _walk(
  feature: Any, path: str = "", length: int | None = 0
) -> Iterator[tuple[str, Any, int | None]]:
  """All leaves: (path, feature, length of the sequence around it or 0)."""
  if isinstance(feature, tfds.features.FeaturesDict):
    for key, below in feature.items():
      yield from _walk(below, f"{path}/{key}" if path else key, length)
  elif isinstance(feature, tfds.features.Sequence):  # Video, Dataset, too
    if length == 0:  # a sequence of sequences is not a video
      yield from _walk(feature.feature, path, feature._length)
  else:
    yield path, feature, length


def _find_video(
  features: Any, wanted: str | None, where: str
) -> tuple[str, bool, int | None]:
  """(path of the frames, whether they are images, their number or None)."""
  videos = {}
  for path, feature, length in _walk(features):
    if isinstance(feature, tfds.features.Image):
      if length != 0 and feature.np_dtype == np.uint8:
        videos[path] = True, length
    elif isinstance(feature, tfds.features.Tensor) and length == 0:
      shape = feature.shape
      if (
        len(shape) == 4 and feature.np_dtype == np.uint8 and shape[3] in (1, 3)
      ):
        videos[path] = False, shape[0]
  if wanted:
    match = [p for p in videos if wanted in (p, p.split("/")[-1])]
  else:
    match = [p for n in _VIDEO for p in videos if p.split("/")[-1] == n][:1]
    match = match or (list(videos) if len(videos) == 1 else [])
  if len(match) != 1:
    raise errors.UserError(
      f"{where}: "
      + (
        f"the feature {wanted!r} is not a video"
        if wanted
        else "no single video"
      )
      + (
        f"; videos are {', '.join(videos)}: choose by data.options.video"
        if videos
        else "; there is no sequence of uint8 images in its features"
      )
    )
  return match[0], *videos[match[0]]


def _find_layout(
  features: Any, wanted: str | None, length: int | None
) -> tuple[str | None, tuple[str, ...]]:
  """(path of the label maps or None, names of their classes)."""
  for path, feature, count in _walk(features):
    if (
      isinstance(feature, tfds.features.Image)
      and wanted in (path, path.split("/")[-1])
      and count == length != 0
      and feature.np_dtype == np.uint8
      and feature.shape[-1] == 1
    ):
      labelled = isinstance(feature, tfds.features.LabeledImage)
      named = labelled and feature.num_classes
      return path, tuple(feature.names if named else ())
  return None, ()


def _feature(features: Any, path: str) -> Any:
  return next(f for p, f, _ in _walk(features) if p == path)


def _kind(top: Any, name: str, dtype: Any, rank: int) -> bool:
  """Whether there is such a feature at the top."""
  if name not in top:
    return False
  return top[name].np_dtype == dtype and len(top[name].shape) == rank


# ---------------------------------------------------------------- lengths


def _known_lengths(where: str) -> dict[str, list[int]]:
  """Frames of every clip by split, as `prepare` or an earlier count noted."""
  for name in ("prepare.json", _LENGTHS):
    try:
      with open(os.path.join(where, name)) as file:
        lengths = json.load(file)["lengths"]
        return {k: [*map(int, numbers)] for k, numbers in lengths.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
      continue
  return {}


def _save_lengths(where: str, lengths: dict[str, list[int]]) -> None:
  path = os.path.join(where, _LENGTHS)
  try:
    files.write_json(path, {"lengths": lengths}, indent=None)
  except OSError as error:  # a read-only data set is counted every time
    logging.warning("%s: not kept: %s", path, error.strerror)
