r"""A folder of videos as a TFDS data set: its features and its builder.

`vidgan prepare` is the usual way: resumable, flat memory, a report. The builder
makes the same records with TFDS's own tools, and with Apache Beam on a cluster
for collections that one machine cannot get through:

  tfds build vidgan_jax/data/video_folder.py --data_dir=OUT \
      --file_format=array_record \
      --config='{"name": "mine", "source": "/videos", "size": 64}'

`--config` takes the fields of `Config`; with `"beam": true` every video is an
element of a Beam collection (`pip install vidgan_jax[beam]`).
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import logging
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vidgan_jax.data import convert
from vidgan_jax.video import clips
from vidgan_jax.video import folder
from vidgan_jax.video import maps
from vidgan_jax.video import read


def features(
  classes: Iterable[str] = (),
  encoding: str = "png",
  layout: Iterable[str] | None = None,
  sound: bool = False,
) -> tfds.features.FeaturesDict:
  """What a record holds.

  Args:
    classes: names of the labels; without any there is no `label`.
    encoding: of the frames.
    layout: names of the classes of the label maps; None: there are no maps.
    sound: whether there is sound.
  """
  image = tfds.features.Image(shape=(None, None, 3), encoding_format=encoding)
  parts = {
    "frames": tfds.features.Sequence(image),
    "times": tfds.features.Tensor(shape=(None,), dtype=np.float32),
    "start": tfds.features.Scalar(np.float32),
    "shot": tfds.features.Scalar(np.int64),
    "file": tfds.features.Text(),
    "caption": tfds.features.Text(),
  }
  if classes:
    parts["label"] = tfds.features.ClassLabel(names=list(classes))
  if layout is not None:
    parts["layout"] = tfds.features.Sequence(
      tfds.features.LabeledImage(
        shape=(None, None, 1),
        labels=list(layout) or None,
        encoding_format="png",
      )
    )
  if sound:
    parts["audio"] = tfds.features.Tensor(
      shape=(None,), dtype=np.int16, encoding="bytes"
    )
    parts["audio_start"] = tfds.features.Scalar(np.float32)
  return tfds.features.FeaturesDict(parts)


def write_metadata(
  data: pathlib.Path,
  name: str,
  records: tfds.features.FeaturesDict,
  splits: Mapping[str, list[dict[str, Any]]],
) -> None:
  """Writes what `tfds.builder_from_directory` reads.

  Args:
    data: folder of the shards.
    name: of the data set, with which the names of the shards begin.
    records: see `features`.
    splits: name -> its shards: `lengths`, frames of each record, and `bytes`.
  """
  template = tfds.core.ShardedFileTemplate(
    data_dir=data, dataset_name=name, filetype_suffix="array_record"
  )
  tfds.folder_dataset.write_metadata(
    data_dir=str(data),
    features=records,
    split_infos=[
      tfds.core.SplitInfo(
        name=split,
        shard_lengths=[len(s["lengths"]) for s in shards],
        num_bytes=sum(s["bytes"] for s in shards),
        filename_template=template.replace(split=split),
      )
      for split, shards in splits.items()
    ],
    description="Clips made by `vidgan prepare`; see prepare.json.",
    check_data=False,
  )


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
  """The options of `vidgan prepare`, by the same names; see its --help."""

  source: str = ""  # the folder of videos
  layout: str = "auto"
  exclude: list[str] = dataclasses.field(default_factory=list)
  labels: bool = True
  classes: list[str] = dataclasses.field(default_factory=list)
  metadata: str | None = None
  test: float = 0.1
  test_match: str | None = None
  frame_width: int = 0
  size: int = 0
  upscale: bool = False
  square: bool = False
  fps: float = 0.0
  shots: bool = True
  max_frames: int = 256
  min_frames: int = 2
  max_repeats: int = 10_000
  deinterlace: bool = True
  encoding: str = "png"
  quality: int = 95
  sound: str = ""
  sound_offset: float = 0.0
  maps: str = ""  # folder of label maps
  beam: bool = False


class VideoFolder(tfds.core.GeneratorBasedBuilder):
  """Videos, frame folders or film strips -> shots of encoded frames."""

  VERSION = tfds.core.Version("1.0.0")
  # TFDS takes a configuration from the command line only where one exists.
  BUILDER_CONFIGS = [Config(name="default")]
  builder_config_cls = Config

  def _info(self) -> tfds.core.DatasetInfo:
    config = self.builder_config
    notes, names = folder.Notes(), None
    if config.source:
      _, sources, notes = self._scan()
      names = sources[0].maps.names if config.maps and sources else None
    return tfds.core.DatasetInfo(
      builder=self,
      description=__doc__,
      features=features(
        notes.classes, config.encoding, names, bool(config.sound)
      ),
    )

  def _scan(self) -> tuple[str, list[folder.Source], folder.Notes]:
    config = self.builder_config
    layout, sources = folder.scan(config.source, config.layout, config.exclude)
    if config.maps:
      sources, _ = maps.pair(sources, config.source, layout, config.maps)
    notes = folder.annotate(
      sources,
      labels=config.labels,
      classes=config.classes,
      metadata=config.metadata,
    )
    return layout, sources, notes

  def _split_generators(self, dl_manager) -> dict[str, Any]:
    del dl_manager  # nothing is downloaded
    config = self.builder_config
    if not config.source:
      raise ValueError(
        "the builder video_folder needs the folder of videos: --config="
        '\'{"name": "mine", "source": "/videos"}\''
      )
    layout, sources, notes = self._scan()
    names = [field.name for field in dataclasses.fields(clips.Options)]
    options = {name: getattr(config, name) for name in names}
    options = clips.Options(**options | {"layout": layout})
    test = folder.held_out(
      [s.file for s in sources],
      config.test,
      config.test_match,
      notes.splits,
      notes.labels,
    )
    splits = {"train": [], "test": []}
    for source in sources:
      if notes.classes and source.file not in notes.labels:
        logging.warning("%s: no label, left out", source.file)
        continue
      name = "test" if source.file in test else "train"
      extra = convert.extra(source, notes)
      splits[name].append((config.source, source, options, extra))
    return {k: self._generate_examples(v) for k, v in splits.items() if v}

  def _generate_examples(self, jobs: list[tuple[Any, ...]]) -> Any:
    if not self.builder_config.beam:
      return (example for job in jobs for example in _examples(job))
    beam = tfds.core.lazy_imports.apache_beam
    return beam.Create(jobs) | beam.Reshuffle() | beam.FlatMap(_examples)


def _examples(job: tuple[Any, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
  """The records of one source, keyed; one that fails is logged and skipped."""
  root, source, options, extra = job
  try:
    records = clips.records(root, source, options, clips.Tally())
    for i, record in enumerate(records):
      yield f"{source.file}:{i:06d}", record | extra
  except read.VideoError as error:
    logging.warning("skipped: %s", error)
