"""What an output keeps of its input besides pixels; what it loses is said.

Containers and encoders differ in what they can hold, and in which versions. So
nothing is listed here of what they can: `rehearse` writes the first frame and
packets into memory, reads them again, and says what is missing. `copyable`
tries the streams besides the picture one by one in the same way.
"""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import functools
import io
from typing import Any

import av
from av.sidedata import sidedata

from vidgan_jax.video import read
from vidgan_jax.video import sound
from vidgan_jax.video import source as source_lib

_SUFFIXES = {"mp4": ".mp4", "mov": ".mov", "matroska": ".mkv", "avi": ".avi",
             "mpegts": ".ts", "nut": ".nut"}  # fmt: skip
PICTURES = {  # containers of pictures alone, and what encodes them
  "image2": "png", "apng": "apng", "webp": "libwebp_anim", "gif": "gif",
}  # fmt: skip
# Texts that muxers write themselves, or that are not true of what is made.
_MADE = ("major_brand", "minor_version", "compatible_brands", "encoder",
         "rotate", "handler_name", "vendor_id", "software")  # fmt: skip
_COUNTED = ("duration", "bps", "number_of_", "_statistics_")
_SIDES = {
  sidedata.Type.SPHERICAL: "its 360 degrees (players show it flat)",
  sidedata.Type.STEREO3D: "what marks it as 3D (stereo mode)",
  sidedata.Type.MASTERING_DISPLAY_METADATA: "the HDR mastering display (H.264,"
  " H.265 and AV1 keep it)",
  sidedata.Type.CONTENT_LIGHT_LEVEL: "the HDR light level",
  sidedata.Type.DYNAMIC_HDR_PLUS: "HDR10+",
  sidedata.Type.DYNAMIC_HDR_VIVID: "HDR Vivid",
  sidedata.Type.DOVI_METADATA: "Dolby Vision",
  sidedata.Type.AMBIENT_VIEWING_ENVIRONMENT: "the light it is to be seen in",
  sidedata.Type.ICC_PROFILE: "the colour profile (ICC)",
  sidedata.Type.A53_CC: "captions inside the picture",
  sidedata.Type.AFD: "the active format",
}
_TEXTS = 3  # that are named; some files have dozens
_COMBS = "what marks it as interlaced (H.264 keeps it)"
_SHAPE = "the shape of its pixels (.mp4 keeps it)"
# Those that show when they are lost: the picture looks flat and grey.
_TAGS = {
  "color_primaries": {9: "the wide colours (BT.2020)"},
  "color_trc": {16: "the HDR curve (PQ)", 18: "the HDR curve (HLG)"},
}


def texts(metadata: dict[str, str]) -> dict[str, str]:
  """The texts of a container or stream that are true of a copy as well."""
  return {
    key: value
    for key, value in metadata.items()
    if key.lower() not in _MADE and not key.lower().startswith(_COUNTED)
  }


# ---------------------------------------------------------------- streams


def copyable(
  source: source_lib.Source,
  container: str,
  *,
  audio: bool = True,
  anew: bool = False,
  tell: Callable[[str], None] = lambda text: None,
) -> list[Any]:
  """The source's other streams that a container can hold.

  Sound that it cannot hold as it is is encoded anew.

  Args:
    source: of the streams.
    container: name of a muxer.
    audio: those of sound as well.
    anew: so is all sound.
    tell: takes lines for the user.
  """
  kept, left = [], []
  for s in source.others:
    if s.type == "audio" and not audio:
      continue
    if container in PICTURES:
      left.append(s.type)
      continue
    if s.type == "data" and (
      source.reader.container.chapters() or "timecode" in s.metadata
    ):
      continue  # titles of chapters and timecodes are texts, written anew
    holds = source.holds(container, s)
    if holds and (s.type != "audio" or not anew):
      kept.append(s)
      _tell_copied(source, container, s, tell)
      continue
    encoder = s.type == "audio" and sound.encoder(container, s)
    if encoder:
      kept.append(s)
      if not holds:
        tell(f"{source.path}: {container} cannot hold {_name(s)}, which is"
             f" encoded anew ({encoder}){_homes(source, s)}")  # fmt: skip
      continue
    tell(f"{source.path}: {container} cannot hold {_name(s)}, which is left"
         f" out{_homes(source, s)}")  # fmt: skip
  if source.covers and not holds_covers(container):
    left.append("its cover (.mp4 and .mkv keep it)")
  if left:
    tell(f"{source.path}: {container} cannot hold {', '.join(left)}: left out")
  return kept


def _tell_copied(source, container, s, tell) -> None:
  """Says what may surprise in a stream that is copied."""
  if s.type == "video":
    tell(
      f"{source.path}: {_name(s)}, {s.width}x{s.height}, is a picture besides"
      " the one that is processed; it is copied as it is"
    )
  pcm = s.type == "audio" and s.name.startswith("pcm_")
  if container == "mp4" and pcm and s.name != "pcm_s16le":
    tell(
      f"{source.path}: older players play {_name(s)}, as noise in .mp4; .mov"
      " and .mkv are for all"
    )


def _name(s: Any) -> str:
  codec = s.codec_context.name if s.codec_context else "unknown"
  return f"{s.type} #{s.index}, {codec}"


def _homes(source: source_lib.Source, s: Any) -> str:
  """Says which outputs hold a stream as it is."""
  names = [suffix for name, suffix in _SUFFIXES.items()
           if source.holds(name, s)]  # fmt: skip
  return f"; {', '.join(names)} keep it" if names else ""


def holds_covers(container: str) -> bool:
  """Whether a container has a place for the picture on the cover."""
  return container in ("mp4", "matroska")


# ---------------------------------------------------------------- the rest


def rehearse(
  make: functools.partial, container: str, tell: Callable[[str], None]
) -> None:
  """Says what the output will lose, once for each source.

  Args:
    make: makes a `sink.Sink` of the file it is given.
    container: of the output.
    tell: takes lines for the user.

  Raises:
    read.VideoError: it cannot be written like this.
  """
  source, frame, square = map(make.keywords.get, ("source", "frame", "square"))
  # A frame of no duration stands for segments that are joined.
  if source.rehearsed or not frame.duration:
    return
  source.rehearsed = True
  turned = frame.image is not None and source_lib.turn(source)[0]
  before = dict(_facts(source.reader, source.picture, turned))
  if square:
    before.pop(_SHAPE, None)
  if source.whole:
    before.pop(_COMBS, None)
  after = {}
  if container != "image2":  # in whose place nobody looks for texts
    before |= _texts(source.reader)
  if container not in PICTURES:
    before["how often it is repeated"] = source.plays
    file = io.BytesIO()
    sink = make(file)
    # x265's times of decoding mean nothing with fewer frames than it reorders.
    for i in range(3):
      later = frame.time + i * frame.duration
      sink.write(dataclasses.replace(frame, time=later))
    for index, packet in source.samples.items():
      if index in sink.copies:
        sink.append(sound.copied(packet), index)
    sink.close()
    name = f"the rehearsal of {source.path}"
    opened = av.open(io.BytesIO(file.getvalue()), format=container)
    with read.Reader(name, container=opened, threads=1) as reader:
      picture, _ = next(reader.pictures())
      after = dict(_facts(reader, picture, False)) | _texts(reader)
  lost = [
    name
    for name, value in before.items()
    if value is not None and not _same(value, after.get(name))
  ]
  others = [name for name in lost if name.startswith("the text ")][_TEXTS:]
  if others:
    lost = [name for name in lost if name not in others]
    lost.append(f"{len(others)} more texts")
  if lost:
    tell(f"{source.path}: not kept in {container}: {', '.join(lost)}")


def _same(a: Any, b: Any) -> bool:
  both = isinstance(a, float) and isinstance(b, float)
  return abs(a - b) < 0.02 * a if both else a == b  # Matroska has whole sizes


def _facts(reader, picture, turned) -> Iterator[tuple[str, Any]]:
  """(name, value) of what a file says beside its pixels."""
  aspect = reader.info.pixel_aspect
  if aspect != 1:
    yield _SHAPE, 1 / aspect if turned else aspect
  if picture.interlaced_frame and not picture.format.is_rgb:  # PNG's order
    yield _COMBS, True
  sides = reader.side_data(picture)
  for kind, name in _SIDES.items():
    flat = kind is sidedata.Type.STEREO3D and not any(sides.get(kind, b"")[:4])
    if kind in sides and not flat:  # some files say that they are not 3D
      yield name, True
  for field, names in _TAGS.items():
    value = int(getattr(picture, field))
    if value in names:
      yield names[value], True


def _texts(reader: read.Reader) -> dict[str, bool]:
  """Names of the texts that a file and its picture have; chapters are such."""
  names = {"chapters"} if reader.container.chapters() else set()
  for s in (reader.container, reader.stream):
    for key, value in texts(s.metadata).items():
      if (key, value) != ("language", "und") and key != "alpha_mode":
        names.add(f"the text {key.lower()!r}")
  return dict.fromkeys(sorted(names), True)
