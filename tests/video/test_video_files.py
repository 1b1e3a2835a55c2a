"""Files as they are in life: what they say beside their pixels is kept or told.

Each test makes its own small file, through PyAV or Pillow, byte by byte where
neither can.
"""

import fractions

import av
from av.filter import graph
import numpy as np
from PIL import Image
import pytest

from vidgan_jax.video import clips
from vidgan_jax.video import folder
from vidgan_jax.video import images
from vidgan_jax.video import job
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import stages
from vidgan_jax.video import stream

# EXIF orientation -> what shows the stored picture (H, W, C) upright.
UPRIGHT = {
  1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1],
  4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1),
  6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
  8: lambda a: np.rot90(a),
}  # fmt: skip


def smooth(frames=3, height=48, width=64):
  """A moving picture (T, H, W, 3) uint8 without symmetries."""
  y, x, t = np.ogrid[:height, :width, :frames]
  planes = [2 * x + 0 * y + 3 * t, 3 * y + x, 200 - 2 * y + 0 * x - t]
  planes = np.broadcast_arrays(*planes)
  return np.moveaxis(np.stack(planes, -1), 2, 0).astype(np.uint8)


def process(source, out, *chain, **options):
  """Runs the job; returns what it told."""
  lines = []
  codec = "ffv1" if str(out).endswith(".mkv") else None
  options = {"codec": codec, "overwrite": True, **options}
  job.process(
    list(chain), str(source), str(out), plan.Options(**options),
    tell=lines.append,
  )  # fmt: skip
  return lines


def seen(path):
  """(T, H, W, 3) of a file, upright."""
  return np.stack([frame.image for frame in read.frames(path)])


# ---------------------------------------------------------------- 1. turned


def photographs(root, orientation, suffix, video):
  """A folder of images that say how they are turned."""
  root.mkdir()
  exif = Image.Exif()
  exif[0x0112] = orientation
  exif[0x010F] = "A maker of cameras"
  for i, image in enumerate(video):
    options = {"lossless": True} if suffix == ".webp" else {"quality": 95}
    name = root / f"{i}{suffix}"
    Image.fromarray(image).save(name, exif=exif, **options)
  return root


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_are_shown_as_their_exif_says(tmp_path, suffix, orientation):
  video = smooth()
  root = photographs(tmp_path / "in", orientation, suffix, video)
  upright = np.stack([UPRIGHT[orientation](image) for image in video])
  process(root, tmp_path / "out.mkv", stages.Identity(pixels=1))
  got = seen(tmp_path / "out.mkv")
  assert got.shape == upright.shape
  assert np.abs(got.astype(int) - upright).mean() < 2
  # The same in data sets, which Pillow reads.
  options = clips.Options(layout="frames")
  source = folder.scan(tmp_path, "frames")[1][0]
  (record,) = clips.records(tmp_path, source, options, clips.Tally())
  got = clips.decode(record["frames"])
  assert got.shape == upright.shape
  assert np.abs(got.astype(int) - upright).mean() < 2


@pytest.mark.parametrize("orientation", [3, 4, 6, 7])
def test_a_film_of_photographs_is_shown_as_their_exif_says(
  tmp_path, orientation
):
  video = smooth(4)
  turns = [orientation] * 3 + [1]  # the camera was turned at the end
  path = tmp_path / "a.avi"
  with av.open(str(path), "w") as container:
    stream = container.add_stream("mjpeg", rate=25)
    stream.height, stream.width, stream.pix_fmt = 48, 64, "yuvj420p"
    for i, turn in enumerate(turns):
      root = photographs(tmp_path / f"{i}", turn, ".jpg", video[i : i + 1])
      packet = av.Packet((root / "0.jpg").read_bytes())
      packet.stream, packet.pts, packet.dts = stream, i, i
      container.mux(packet)
  lines = process(path, tmp_path / "out.mkv", stages.Identity(pixels=1))
  upright = np.stack([UPRIGHT[orientation](image) for image in video[:3]])
  got = seen(tmp_path / "out.mkv")
  assert got.shape == (4, *upright.shape[1:])
  assert np.abs(got[:3].astype(int) - upright).mean() < 3
  assert any("1 frames of another size" in line for line in lines) == (
    orientation > 4
  )


def test_photographs_of_two_shapes_are_not_one_clip(tmp_path):
  root = photographs(tmp_path / "in", 1, ".jpg", smooth(2))
  photographs(tmp_path / "up", 6, ".jpg", smooth(1))
  (tmp_path / "up" / "0.jpg").rename(root / "2.jpg")
  with pytest.raises(read.VideoError, match="2.jpg: is jpg of 48x64, but"):
    process(root, tmp_path / "out.mkv", stages.Identity(pixels=1))


# ---------------------------------------------------------------- 2. streams

TICK = fractions.Fraction(1, 25)


def film(
  path, *, codec="libx264", start=0.0, pix_fmt="yuv420p", voice=None,
  layout="mono", aspect=None, options=(), texts=(), video=None, more=None,
  rate=25,
):  # fmt: skip
  """A film whose clock begins at `start` s, and its sound half a second on."""
  video = smooth(4) if video is None else video
  with av.open(str(path), "w") as out:
    out.metadata.update(texts)
    picture = out.add_stream(codec, rate=rate)
    picture.height, picture.width = video.shape[1:3]
    picture.pix_fmt, picture.options = pix_fmt, dict(options)
    picture.codec_context.time_base = tick = fractions.Fraction(1, rate)
    if aspect:
      picture.codec_context.sample_aspect_ratio = aspect
    sound = voice and out.add_stream(voice, rate=48_000, layout=layout)
    late = more(out) if more else []
    for i, image in enumerate(video):
      frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image))
      frame.pts, frame.time_base = round(rate * start) + i, tick
      out.mux(picture.encode(frame))
    out.mux(picture.encode(None))
    for i in range(3 if voice else 0):
      rng = np.random.default_rng(i)
      wave = rng.integers(-(2**15), 2**15, (1, 2000 * sound.channels), np.int16)
      frame = av.AudioFrame.from_ndarray(wave, "s16", layout)
      frame.sample_rate = 48_000
      frame.pts = round(48_000 * (start + 0.5)) + 2000 * i
      frame.time_base = fractions.Fraction(1, 48_000)
      out.mux(sound.encode(frame))
    out.mux(sound.encode(None) if voice else late)
  return path


def begins(path):
  """Seconds at which each stream of a file begins, of its packets."""
  with av.open(str(path)) as container:
    times = {}
    for packet in container.demux():
      if packet.pts is not None:
        time = float(packet.pts * packet.time_base)
        times[packet.stream.type] = min(
          times.get(packet.stream.type, 1e9), time
        )
  return times


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mov"])
def test_a_file_begins_at_0_however_late_its_clock(tmp_path, suffix):
  source = film(tmp_path / "a.ts", start=90_000.0, voice="aac")
  out = tmp_path / f"b{suffix}"
  process(source, out, stages.Identity())
  got = begins(out)
  assert got["video"] == pytest.approx(0, abs=0.1)
  # The difference stays; AAC begins with 1024 samples of silence.
  assert 0.46 < got["audio"] - got["video"] < 0.51
  assert read.probe(out).duration < 1
  process(source, out, stages.Identity(), start=0.08)
  again = begins(out)
  assert again["video"] == pytest.approx(0, abs=0.1)
  assert 0.38 < again["audio"] - again["video"] < 0.45


def channels(path):
  """(codec, layout, bytes of all packets) of a file's sound."""
  with av.open(str(path)) as container:
    codec = container.streams.audio[0].codec_context
    data = b"".join(bytes(p) for p in container.demux(audio=0))
    return codec.name, codec.layout.name, data


@pytest.mark.parametrize("layout", ["stereo", "5.1"])
def test_channels_without_names_are_encoded_anew(tmp_path, layout):
  source = film(tmp_path / "a.mkv", voice="pcm_s16le", layout=layout)
  assert "channels" in channels(source)[1]  # Matroska counts them
  lines = process(source, tmp_path / "b.mp4", stages.Identity())
  assert any("audio #1, pcm_s16le, which is enc" in line for line in lines)
  assert channels(tmp_path / "b.mp4")[:2] == ("aac", layout)
  assert not process(source, tmp_path / "b.mov", stages.Identity())
  assert channels(tmp_path / "b.mov")[::2] == channels(source)[::2]


@pytest.mark.parametrize(
  ("voice", "suffix", "codec", "homes"),
  [("pcm_s16le", ".ts", "aac", ".mov"), ("aac", ".webm", "opus", ".mp4"),
   ("pcm_s16le", ".flv", "aac", ".mkv"), ("pcm_u8", ".mp4", "aac", ".mkv"),
   ("pcm_s24le", ".webm", "opus", ".mov")],
)  # fmt: skip
def test_sound_that_a_container_cannot_hold_is_encoded_anew(
  tmp_path, voice, suffix, codec, homes
):
  source = film(tmp_path / "a.mkv", voice=voice)
  lines = process(source, tmp_path / f"b{suffix}", stages.Identity())
  (line,) = [line for line in lines if f"audio #1, {voice}" in line]
  assert "is encoded anew" in line and homes in line
  assert channels(tmp_path / f"b{suffix}")[0] == codec


def test_sound_that_older_players_cannot_play_is_told(tmp_path):
  source = film(tmp_path / "a.mkv", voice="pcm_s24le")
  for suffix, told in ((".mp4", True), (".mov", False), (".mkv", False)):
    lines = process(source, tmp_path / f"b{suffix}", stages.Identity())
    assert any("as noise in .mp4" in line for line in lines) == told
    got, had = channels(tmp_path / f"b{suffix}"), channels(source)
    assert (got[0], got[2]) == (had[0], had[2])


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts", ".avi"])
def test_a_timecode_is_written_anew_or_told(tmp_path, suffix):
  source = film(
    tmp_path / "a.mov", voice="aac", texts={"timecode": "01:00:00:05"}
  )
  with av.open(str(source)) as container:
    assert [s.type for s in container.streams] == ["video", "audio", "data"]
  lines = process(source, tmp_path / f"b{suffix}", stages.Identity())
  with av.open(str(tmp_path / f"b{suffix}")) as container:
    texts = [s.metadata for s in (container, *container.streams)]
  kept = "01:00:00:05" in str(texts)
  assert kept == (suffix in (".mp4", ".mov", ".mkv"))
  assert any("the text 'timecode'" in line for line in lines) != kept


def test_a_rate_is_one_that_films_have(tmp_path):
  codec = av.CodecContext.create("dvvideo", "w")
  codec.height, codec.width, codec.pix_fmt = 576, 720, "yuv420p"
  codec.time_base = TICK
  frame = av.VideoFrame.from_ndarray(smooth(1, 576, 720)[0])
  frame = frame.reformat(format="yuv420p")
  packets = []
  for i in range(3):
    frame.pts, frame.time_base = i, TICK
    packets += codec.encode(frame)
  source = tmp_path / "a.dv"  # is its packets, and nothing else
  source.write_bytes(b"".join(map(bytes, packets)))
  with av.open(str(source)) as container:
    assert container.streams.video[0].average_rate == 60_000  # its clock
  assert read.probe(source).fps == 25
  process(source, tmp_path / "b.mov", stages.Identity())
  info = read.probe(tmp_path / "b.mov")
  assert info.fps == 25 and info.frames == 3


# ---------------------------------------------------------------- 3. masks


class White(stream.Stage):
  """Makes white what is unknown."""

  name = "white"

  def __call__(self, video, times, mask):
    return np.where(mask > 0, 1, video)


HIDDEN = np.zeros((48, 64), bool)
HIDDEN[8:16, 40:56] = True


def drawn(**planes):
  """An image of planes of values where it hides, and elsewhere."""
  planes = [np.where(HIDDEN, *values).astype(np.uint8)
            for values in planes.values()]  # fmt: skip
  return Image.fromarray(np.dstack(planes).squeeze())


def palette(image, *colours):
  """The image, grey, as numbers of colours."""
  image = Image.fromarray(np.asarray(image) // 255)
  image.putpalette(sum(colours, ()))
  return image


MASKS = {
  "white": drawn(v=(255, 0)),
  "ones": drawn(v=(1, 0)),
  "numbers": drawn(v=(3, 0)),
  "dark": drawn(v=(90, 10)),
  "bits": drawn(v=(255, 0)).convert("1"),
  "blue": drawn(r=(0, 0), g=(0, 0), b=(255, 0)),
  "painted black": drawn(r=(0, 255), g=(0, 255), b=(0, 255), a=(255, 0)),
  "painted white": drawn(r=(255, 255), g=(255, 255), b=(255, 255), a=(255, 0)),
  "opaque": drawn(r=(255, 0), g=(255, 0), b=(255, 0), a=(255, 255)),
  "grey and alpha": drawn(v=(0, 0), a=(255, 0)),
  "index": palette(drawn(v=(255, 0)), (0, 0, 0), (9, 0, 0)),
  "white first": palette(drawn(v=(0, 255)), (255, 255, 255), (0, 0, 0)),
}


def where_white(path):
  return (seen(path) > 250).all(-1)


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_read_by_what_varies_in_it(tmp_path, name):
  source = film(tmp_path / "a.mkv", codec="ffv1", pix_fmt="bgr0")
  MASKS[name].save(tmp_path / "m.png")
  (tmp_path / "ms").mkdir()
  for i in range(4):
    MASKS[name].save(tmp_path / "ms" / f"{i}.png")
  for mask in ("m.png", "ms"):
    out = tmp_path / "b.mkv"
    lines = process(source, out, White(), mask=str(tmp_path / mask))
    assert not lines
    assert (where_white(out) == HIDDEN).all()


@pytest.mark.parametrize(
  ("planes", "told"),
  [({"v": (0, 0)}, "nothing"), ({"v": (255, 255)}, "everything"),
   ({"v": (1, 1)}, "everything"), ({"v": (9, 9), "a": (0, 0)}, "nothing")],
)  # fmt: skip
def test_a_mask_that_hides_nothing_or_all_is_told(tmp_path, planes, told):
  source = film(tmp_path / "a.mkv", codec="ffv1", pix_fmt="bgr0")
  drawn(**planes).save(tmp_path / "m.png")
  video = np.full((4, 48, 64, 3), 255 * (told != "nothing"), np.uint8)
  film(tmp_path / "m.mkv", codec="ffv1", pix_fmt="bgr0", video=video)
  for mask in ("m.png", "m.mkv"):
    path = str(tmp_path / mask)
    lines = process(source, tmp_path / "b.mkv", White(), mask=path)
    assert any(f"{mask}: hides {told}" in line for line in lines)
    assert where_white(tmp_path / "b.mkv").all() == (told != "nothing")
  lines = process(source, tmp_path / "b.mkv", White(), mask="#123456")
  assert any("no pixel has this colour" in line for line in lines)


def test_a_film_of_masks_goes_by_time(tmp_path):
  source = film(tmp_path / "a.mkv", codec="ffv1", video=smooth(25))
  steps = 255 * (np.arange(31)[:, None, None, None] >= 15)
  steps = np.broadcast_to(steps.astype(np.uint8), (31, 48, 64, 3))
  mask = film(tmp_path / "m.mkv", codec="ffv1", video=steps, rate=30)
  out = tmp_path / "b.mkv"
  process(source, out, White(), mask=str(mask))
  white = where_white(out).all((1, 2))
  assert white.tolist() == [i / 25 > 14.5 / 30 for i in range(25)]
  process(source, out, White(), mask=str(mask), start=0.4)
  assert len(seen(out)) == 15  # what is left over of the mask does no harm
  short = film(tmp_path / "s.mkv", codec="ffv1", video=steps[10:20], rate=30)
  with pytest.raises(read.VideoError, match="s.mkv: ends at 0.33 s, the video"):
    process(source, out, White(), mask=str(short))


# ---------------------------------------------------------------- 4. fields


def interlaced(path, codec, first):
  """A film of a square that moves 4 pixels a field, flagged as interlaced."""
  flag = graph.Graph()
  flag.link_nodes(
    flag.add_buffer(format="yuv420p", height=48, width=64, time_base=TICK),
    flag.add("setfield", first),
    flag.add("buffersink"),
  ).configure()
  with av.open(str(path), "w") as out:
    picture = out.add_stream(codec, rate=25)
    picture.height, picture.width, picture.pix_fmt = 48, 64, "yuv420p"
    picture.codec_context.flags |= 1 << 18 | 1 << 29
    picture.codec_context.field_order = {"tff": 2, "bff": 3}[first]
    picture.options = {"crf": "1"} if codec == "libx264" else {"qmax": "2"}
    for i in range(10):
      image = np.full((48, 64, 3), 40, np.uint8)
      for field, rows in enumerate((0, 1) if first == "tff" else (1, 0)):
        x = 4 * (2 * i + field)
        image[8 + rows : 40 : 2, x : x + 16] = 220
      flag.push(av.VideoFrame.from_ndarray(image).reformat(format="yuv420p"))
      frame = flag.pull()
      frame.time_base, frame.pts = TICK, i
      out.mux(picture.encode(frame))
    out.mux(picture.encode(None))
  return path


def combs(path):
  """How much lines differ from the mean of their neighbours."""
  images = seen(path)[..., 1].astype(float)
  middle = images[:, 10:38]
  return np.abs(middle[:, 1:-1] - (middle[:, :-2] + middle[:, 2:]) / 2).mean()


def fields(path):
  """(flagged as interlaced?, order of fields) of a file's first picture."""
  with av.open(str(path)) as container:
    picture = next(container.decode(video=0))
    codec = container.streams.video[0].codec_context
    return bool(picture.interlaced_frame), codec.field_order


@pytest.mark.parametrize("first", ["tff", "bff"])
@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_interlaced_pictures_are_made_whole_for_networks(
  tmp_path, codec, first
):
  source = interlaced(tmp_path / "a.mkv", codec, first)
  order = {"tff": 2, "bff": 3}[first]
  assert fields(source) == (True, order) and combs(source) > 10
  with read.Reader(source) as reader:
    times = [time for _, time in reader.pictures()]
  out = tmp_path / "b.mkv"
  lines = process(source, out, stages.Resize(scale=2))
  assert any("is interlaced; its pictures are made whole" in x for x in lines)
  assert not fields(out)[0] and combs(out) < 2
  with read.Reader(out) as reader:
    assert [time for _, time in reader.pictures()] == times
    assert abs(reader.info.duration - 0.4) < 0.05
  process(source, out, stages.Resize(scale=1), deinterlace="no")
  assert combs(out) > 10
  # What nothing looks at stays as it is, flag and all, where that can be.
  out = tmp_path / "c.mp4"
  assert not process(source, out, stages.Identity(), codec="h264", crf=1)
  assert fields(out) == (True, order) and combs(out) > 10
  lines = process(source, tmp_path / "d.webm", stages.Identity())
  assert any("what marks it as interlaced" in line for line in lines)
  process(source, out, stages.Identity(), deinterlace="yes")
  assert not fields(out)[0] and combs(out) < 2


def test_reversed_pictures_are_made_whole_as_well(tmp_path):
  source = interlaced(tmp_path / "a.mkv", "mpeg2video", "tff")
  out = tmp_path / "b.mkv"
  lines = process(source, out, stages.Resize(scale=1), reverse=True)
  assert combs(out) < 2
  assert len([line for line in lines if "is interlaced" in line]) == 1


# ---------------------------------------------------------------- 5. alpha


def cleared(path, codec, pix_fmt, frames=4):
  """A film whose first picture is opaque, and the others half clear."""
  pixels = np.dstack([smooth(1)[0], np.full((48, 64), 255, np.uint8)])
  with av.open(str(path), "w") as out:
    picture = out.add_stream(codec, rate=25)
    picture.height, picture.width, picture.pix_fmt = 48, 64, pix_fmt
    for i in range(frames):
      pixels[:, :32, 3] = 255 if i == 0 else 60
      out.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, "rgba")))
    out.mux(picture.encode(None))
  return path


def alphas(path):
  """(T, H, W) alpha of a file, of 8 bits."""
  with read.Reader(path) as reader:
    return np.stack(
      [reader.convert(p, "rgba")[..., 3] for p, _ in reader.pictures()]
    )


@pytest.mark.parametrize(
  ("name", "codec", "pix_fmt"),
  [("a.mov", "prores_ks", "yuva444p10le"), ("a.mkv", "ffv1", "bgra"),
   ("a.webm", "libvpx-vp9", "yuva420p"), ("a.mov", "qtrle", "argb"),
   ("a.mov", "png", "rgba"), ("a.mov", "png", "ya8")],
)  # fmt: skip
def test_transparency_is_carried_or_told(tmp_path, name, codec, pix_fmt):
  source = cleared(tmp_path / name, codec, pix_fmt)
  for suffix in (".mov", ".mkv", ".webm"):
    out = tmp_path / f"b{suffix}"
    lines = process(source, out, stages.Resize(scale=2), codec=None)
    told = [line for line in lines if "is transparent, which" in line]
    assert len(told) == (suffix != ".webm")
    got = alphas(out)
    assert got.shape == (4, 96, 128)
    assert got[0].min() > 250 and got[1:, :, 70:].min() > 250
    assert np.abs(got[1:, :, :58].astype(int) - 60).max() < 4
  lines = process(source, tmp_path / "b.mp4", stages.Identity())
  assert any("transparency is lost" in line for line in lines)
  lines = process(source, tmp_path / "c.mov", stages.Identity(), codec="h264")
  assert any("transparency is lost" in line for line in lines)


def test_transparency_that_comes_late_is_carried(tmp_path, monkeypatch):
  monkeypatch.setattr("vidgan_jax.video.source._LOOKS", 1)
  source = cleared(tmp_path / "a.mov", "qtrle", "argb")
  process(source, tmp_path / "b.mkv", stages.Identity())
  assert alphas(tmp_path / "b.mkv")[:, 5, 5].tolist() == [255, 60, 60, 60]
  lines = process(source, tmp_path / "b.mp4", stages.Identity())
  assert any("transparency, if some comes later, is" in x for x in lines)


def test_a_palette_may_be_transparent(tmp_path):
  clear = np.dstack([smooth(1)[0], np.full((48, 64), 255, np.uint8)])
  clear[:, :32, 3] = 0
  (tmp_path / "in").mkdir()
  for i in range(2):
    image = Image.fromarray(clear).quantize(64)
    image.save(tmp_path / "in" / f"{i}.png")
  process(tmp_path / "in", tmp_path / "b.mkv", stages.Identity())
  alpha = alphas(tmp_path / "b.mkv")
  assert alpha[:, :, :32].max() == 0 and alpha[:, :, 32:].min() == 255


@pytest.mark.parametrize("where", [0, 20, 45])
def test_a_damaged_picture_is_said_in_one_sentence(tmp_path, where):
  path = tmp_path / "a.png"
  Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
  data = path.read_bytes()
  path.write_bytes(data[:where] + b"\xff\xff\xff\xff")
  with pytest.raises(read.VideoError, match="a.png: not an image"):
    with images.opened(str(path)) as image:
      image.load()
