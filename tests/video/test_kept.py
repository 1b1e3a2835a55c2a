"""docs/files.md against what becomes of each property in each container."""

import fractions
import io
import pathlib
import struct

import av
import numpy as np
from PIL import Image
import pytest

from vidgan_jax.video import images
from vidgan_jax.video import job
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import stages

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "files.md"
ROWS = [
  [cell.strip() for cell in line.strip("|\n").split("|")]
  for line in PAGE.read_text().splitlines()
  if line.startswith("|") and "---" not in line
]
SUFFIXES, TABLE = ROWS[0][1:], {row[0]: row[1:] for row in ROWS[1:]}
TICK = fractions.Fraction(1, 25)
PICTURE = Image.fromarray(np.full((32, 32, 3), 90, np.uint8))


def make(path, *, codec="libx264", pix_fmt="yuv420p", times=range(6),
         setup=None, more=None, texts=()):  # fmt: skip
  """A film of 64 x 48; `setup` takes its stream, `more` the container."""
  with av.open(str(path), "w") as out:
    out.metadata.update(texts)
    new = out.add_stream(codec, rate=25)
    new.height, new.width, new.pix_fmt = 48, 64, pix_fmt
    new.codec_context.time_base = fractions.Fraction(1, 100)
    if setup:
      setup(new)
    packets = more(out) if more else []
    for i, time in enumerate(times):
      image = np.full((48, 64, 4), 40 + 9 * i, np.uint8)
      image[:, 32:, 3] = 255
      frame = av.VideoFrame.from_ndarray(image, "rgba").reformat(format=pix_fmt)
      frame.pts, frame.time_base = 4 * time, fractions.Fraction(1, 100)
      out.mux(new.encode(frame))
    out.mux(new.encode(None))
    for packet in packets() if callable(packets) else packets:
      out.mux(packet)
  return path


def first(path):
  """(first picture, its side data, container) of a file."""
  reader = read.Reader(path)
  picture, _ = next(reader.pictures())
  return picture, reader.side_data(picture), reader


def kinds(path):
  return {kind.name for kind in first(path)[1]}


def streams(path, kind):
  with av.open(str(path)) as container:
    return [(s.type, bool(read.is_cover(s))) for s in container.streams
            if s.type == kind]  # fmt: skip


def sound(name):
  """What adds a tenth of a second of sound."""

  def more(out):
    voice = out.add_stream(name, rate=48_000, layout="stereo")
    frame = av.AudioFrame.from_ndarray(
      np.zeros((1, 9600), np.int16), "s16", "stereo"
    )
    frame.sample_rate, frame.pts = 48_000, 0
    return lambda: [*voice.encode(frame), *voice.encode(None)]

  return more


def heard(path):
  with av.open(str(path)) as container:
    return [s.codec_context.name for s in container.streams.audio]


def chapters(out):
  part = {"id": 1, "start": 0, "end": 9, "time_base": TICK,
          "metadata": {"title": "one"}}  # fmt: skip
  out.set_chapters([part])
  return []


def second(out):
  new = out.add_stream("libx264", rate=25)
  new.height = new.width = 32
  new.pix_fmt = "yuv420p"

  def packets():
    frame = av.VideoFrame.from_image(PICTURE)
    frame.pts = 0
    return [*new.encode(frame), *new.encode(None)]

  return packets


def attached(name, kind, data):
  def more(out):
    out.add_attachment(name, kind, data)
    return []

  return more


def jpeg():
  file = io.BytesIO()
  PICTURE.save(file, "JPEG")
  return file.getvalue()


def subtitles(path):
  """SubRip beside a film, in Matroska: byte by byte through its own demuxer."""
  text = path.parent / "a.srt"
  text.write_text("1\n00:00:00,000 --> 00:00:00,100\nHello\n\n")
  film = make(path.parent / "plain.mkv")
  with (
    av.open(str(text)) as lines,
    av.open(str(film)) as old,
    av.open(str(path), "w") as out,
  ):
    pairs = [(c, c.streams[0], out.add_stream_from_template(c.streams[0]))
             for c in (old, lines)]  # fmt: skip
    for container, stream, new in pairs:
      for packet in container.demux(stream):
        if packet.size:
          packet.stream = new
          out.mux(packet)
  return path


def spherical(path):
  """An MP4 whose sample entry has the box sv3d (Spherical Video V2)."""
  make(path)
  box = lambda name, data: struct.pack(">I4s", 8 + len(data), name) + data
  head = box(b"prhd", bytes(16))
  whole = box(b"equi", bytes(20))
  new = box(
    b"sv3d", box(b"svhd", bytes(4) + b"x\0") + box(b"proj", head + whole)
  )
  data = bytearray(path.read_bytes())
  at = 0
  # The entry and all boxes around it become longer; `moov` is the last one.
  for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
    at = data.index(name, at) - 4
    size = int.from_bytes(data[at : at + 4], "big")
    data[at : at + 4] = (size + len(new)).to_bytes(4, "big")
    end, at = at + size, at + 8
  path.write_bytes(data[:end] + new + data[end:])
  return path


def turned(path):
  return make(path, setup=lambda s: s.set_display_rotation(90))


def gif(path):
  PICTURE.save(path, save_all=True, append_images=[Image.new("RGB", (32, 32))],
               loop=2, duration=100)  # fmt: skip
  return path


def combed(s):
  s.codec_context.flags |= 1 << 18 | 1 << 29
  s.options = {"x264-params": "tff=1"}


def hdr(s):
  codec = s.codec_context
  codec.color_trc, codec.color_primaries, codec.colorspace = 16, 9, 9
  s.options = {
    "x264-params": "cll=1000,400:mastering-display=G(13250,34500)B(7500,3000)"
    "R(34000,16000)WP(15635,16450)L(10000000,1)"
  }


def wide(s):
  s.codec_context.sample_aspect_ratio = fractions.Fraction(4, 3)


def times(path):
  with read.Reader(path) as reader:
    exact = [float(time) for _, time in reader.pictures()]
  return np.allclose(
    np.diff(exact), np.diff([0, 1, 3, 7, 8, 9]) / 25, atol=2e-3
  )


def alpha(path):
  reader = first(path)
  return reader[2].convert(reader[0], "rgba")[..., 3].min() < 200


def text(name, value):
  def has(path):
    with av.open(str(path)) as container:
      every = [s.metadata for s in (container, *container.streams)]
    found = {(k.lower(), v) for texts in every for k, v in texts.items()}
    return (name, value) in found

  return has


def has_chapters(path):
  with av.open(str(path)) as container:
    return bool(container.chapters())


LIGHT = {"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"}
# Property -> what makes a file of it, whether a file has it, the word for it.
PROPERTIES = {
  "uneven times of frames": (
    "a.mkv", lambda p: make(p, times=[0, 1, 3, 7, 8, 9]), times, "times of"),
  "the shape of pixels": (
    "a.mkv", lambda p: make(p, setup=wide),
    lambda p: abs(first(p)[2].info.pixel_aspect - 4 / 3) < 0.02, "the shape"),
  "how a picture is turned": (
    "a.mp4", turned,
    lambda p: first(p)[2].upright_size(first(p)[0]) == (64, 48), "turned"),
  "interlacing, where nothing looks at pixels": (
    "a.mkv", lambda p: make(p, setup=combed),
    lambda p: first(p)[0].interlaced_frame, "interlaced"),
  "HDR mastering display, light level": (
    "a.mkv", lambda p: make(p, pix_fmt="yuv420p10le", setup=hdr),
    lambda p: LIGHT <= kinds(p), "the HDR mastering display"),
  "HDR curve, wide colours": (
    "a.mkv", lambda p: make(p, pix_fmt="yuv420p10le", setup=hdr),
    lambda p: first(p)[0].color_trc == 16, "the HDR curve (PQ)"),
  "360 degrees": ("a.mp4", spherical, lambda p: "SPHERICAL" in kinds(p), "360"),
  "transparency": (
    "a.mov", lambda p: make(p, codec="qtrle", pix_fmt="argb"), alpha,
    "transparency is lost"),
  "title and other texts": (
    "a.mkv", lambda p: make(p, texts={"title": "A film"}),
    text("title", "A film"), "the text 'title'"),
  "chapters": ("a.mkv", lambda p: make(p, more=chapters), has_chapters,
               "chapters"),
  "timecode": (
    "a.mov", lambda p: make(p, texts={"timecode": "01:00:00:05"}),
    text("timecode", "01:00:00:05"), "the text 'timecode'"),
  "sound of AAC": ("a.mkv", lambda p: make(p, more=sound("aac")),
                   lambda p: heard(p) == ["aac"], "audio"),
  "sound of 24-bit PCM": (
    "a.mov", lambda p: make(p, more=sound("pcm_s24le")),
    lambda p: heard(p) == ["pcm_s24le"], "audio"),
  "subtitles of SubRip": (
    "a.mkv", subtitles, lambda p: bool(streams(p, "subtitle")), "subtitle"),
  "files that are attached": (
    "a.mkv", lambda p: make(p, more=attached("a.ttf", "font/ttf", b"font")),
    lambda p: bool(streams(p, "attachment")), "attachment"),
  "a second picture": (
    "a.mkv", lambda p: make(p, more=second),
    lambda p: len(streams(p, "video")) == 2, "video"),
  "the cover": (
    "a.mkv", lambda p: make(p, more=attached("c.jpg", "image/jpeg", jpeg())),
    lambda p: ("video", True) in streams(p, "video"), "cover"),
  "how often it is repeated": (
    "a.gif", gif, lambda p: images.plays(str(p)) == 3, "how often"),
}  # fmt: skip


def test_the_page_has_every_property():
  assert list(TABLE) == list(PROPERTIES)
  assert all(len(row) == len(SUFFIXES) for row in TABLE.values())


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_property_is_kept_or_told(tmp_path, name):
  file, maker, has, word = PROPERTIES[name]
  source = maker(tmp_path / file)
  assert has(source), "the file that is made does not have it"
  for suffix, cell in zip(SUFFIXES, TABLE[name], strict=True):
    out, lines = tmp_path / f"b{suffix}", []
    job.process(
      [stages.Identity()], str(source), str(out), plan.Options(),
      tell=lines.append,
    )  # fmt: skip
    told = any(word in line for line in lines)
    found = {(1, 0): "kept", (0, 1): "told", (1, 1): "both", (0, 0): "lost"}
    assert found[bool(has(out)), told] == cell, (suffix, lines)


def test_many_texts_are_counted(tmp_path):
  texts = {f"note{i}": "text" for i in range(9)}
  source = make(tmp_path / "a.mkv", texts=texts)
  lines = []
  job.process(
    [stages.Identity()], str(source), str(tmp_path / "b.mp4"), plan.Options(),
    tell=lines.append,
  )  # fmt: skip
  (line,) = lines
  assert line.count("the text 'note") == 3 and "6 more texts" in line
