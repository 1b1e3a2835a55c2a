"""A sound that a stage follows, and that the result has."""

import wave as wave_lib

import av
import numpy as np
import pytest

from vidgan_jax.video import job
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import sound
from vidgan_jax.video import stages
from vidgan_jax.video import stream
from vidgan_jax.video import write

RATE = 16_000


def beep(path, seconds, begin, rate=RATE, channels=1, width=2):
  """A tone from `begin` to the end of a .wav of so many seconds."""
  time = np.arange(round(seconds * rate)) / rate
  tone = 0.5 * np.sin(2 * np.pi * 440 * time) * (time >= begin)
  tone = np.repeat(tone[:, None], channels, 1)
  whole = tone * 127 + 128 if width == 1 else tone * 32_767
  with wave_lib.open(str(path), "wb") as file:
    file.setnchannels(channels)
    file.setsampwidth(width)
    file.setframerate(rate)
    file.writeframes(whole.astype({1: "u1", 2: "<i2"}[width]).tobytes())
  return str(path)


def film(path, seconds=2.0, voice=None):
  with write.Writer(path, 25, sound=voice) as out:
    for i in range(round(25 * seconds)):
      out.append(np.full((32, 48, 3), 2 * i, np.uint8))
  return str(path)


class Listener(stream.Stage):
  """Leaves everything as it is, and keeps what it hears."""

  name, masks, pixels = "runs/lips", False, True

  def __init__(self, path="", offset=0.0):
    self.voice = stream.Voice(path=path, offset=offset, rate=RATE)

  def hear(self, wave):
    self.wave = wave
    return self

  def __call__(self, video, times, mask):
    del times, mask
    return video


def process(stage, source, out, **options):
  said = []
  options = plan.Options(**options)
  job.process([stage], source, str(out), options, tell=said.append)
  return "\n".join(said)


def begin(wave):
  """When a beep begins, seconds."""
  return np.flatnonzero(np.abs(wave) > 0.2)[0] / RATE


@pytest.mark.parametrize(
  ("start", "options"),
  [(0.0, {}), (0.4, {}), (0.4, {"end": 1.6}), (0.0, {"speed": 2.0}),
   (0.4, {"fade": (0.2, 0.0)})],
)  # fmt: skip
def test_the_sound_of_the_film_is_heard_where_it_is(tmp_path, start, options):
  voice = beep(tmp_path / "a.wav", 2.0, 1.0)
  source = film(tmp_path / "a.mp4", voice=voice)
  stage = Listener()
  process(stage, source, tmp_path / "b.mp4", start=start, **options)
  assert begin(stage.wave) == pytest.approx(1.0 - start, abs=0.005)
  heard = sound.decode(tmp_path / "b.mp4", RATE)
  speed = options.get("speed", 1.0)
  assert begin(heard) == pytest.approx((1.0 - start) / speed, abs=0.03)


@pytest.mark.parametrize(
  ("seconds", "offset", "words"),
  [
    (2.0, 0.0, ""),
    (1.5, 0.0, "1.50 s of sound for 2.00 s of film: the end is silent"),
    (3.0, 0.0, "3.00 s of sound for 2.00 s of film: what is longer is cut"),
    (2.0, 0.3, "2.00 s of sound from 0.3 s on for 2.00 s of film: what is"),
    (2.0, -0.3, "2.00 s of sound from -0.3 s on for 2.00 s of film: the end"),
  ],
)
def test_a_sound_of_its_own_is_heard_and_kept(tmp_path, seconds, offset, words):
  old = beep(tmp_path / "old.wav", 2.0, 0.2)
  source = film(tmp_path / "a.mp4", voice=old)
  voice = beep(tmp_path / "new.wav", seconds, 1.0, 44_100, channels=2)
  stage, out = Listener(voice, offset), tmp_path / "b.mp4"
  said = process(stage, source, out, start=0.0)
  assert words in said and ("film:" in said) == bool(words)
  assert begin(stage.wave) == pytest.approx(1.0 + offset, abs=0.005)
  heard = sound.decode(out, RATE)
  assert begin(heard) == pytest.approx(1.0 + offset, abs=0.03)
  assert len(heard) / RATE == pytest.approx(2.0, abs=0.07)
  with av.open(str(out)) as container:
    [stream_] = container.streams.audio  # And not the old one.
    assert stream_.layout.name == "stereo"
  # No sound at all, where none is wanted.
  process(Listener(voice), source, out, sound=False, overwrite=True)
  with pytest.raises(read.VideoError, match="has no sound"):
    sound.decode(out, RATE)


def test_sounds_of_any_kind(tmp_path):
  """8 bits, four channels, 192 kHz: mixed to one, at the stage's rate."""
  source = film(tmp_path / "a.mp4")
  voice = beep(tmp_path / "b.wav", 2.0, 1.0, 192_000, channels=4, width=1)
  stage = Listener(voice)
  process(stage, source, tmp_path / "b.mp4")
  assert begin(stage.wave) == pytest.approx(1.0, abs=0.005)
  heard = sound.decode(tmp_path / "b.mp4", RATE)
  assert begin(heard) == pytest.approx(1.0, abs=0.03)


def test_what_cannot_be_followed(tmp_path):
  source, out = film(tmp_path / "a.mp4"), tmp_path / "b.mkv"
  voice = beep(tmp_path / "a.wav", 2.0, 1.0)
  with pytest.raises(read.VideoError, match="runs/lips:sound=speech.wav"):
    process(Listener(), source, out)
  for path, words in (
    (tmp_path / "none.wav", "none.wav"),
    (source, "it has no sound"),
  ):
    with pytest.raises(read.VideoError, match=words):
      process(Listener(str(path)), source, out)
  own = film(tmp_path / "c.mp4", voice=voice)
  with pytest.raises(read.VideoError, match="for one file or one range"):
    process(Listener(), own, out, reverse=True)
  with pytest.raises(read.VideoError, match="different sounds"):
    two = [Listener(voice), Listener(beep(tmp_path / "b.wav", 1, 0))]
    job.process(two, source, str(out), plan.Options())
  with pytest.raises(read.VideoError, match="sound=.*files on both sides"):
    process(Listener(voice), "-", out, format="matroska")
  with pytest.raises(read.VideoError, match="is the sound"):
    process(Listener(voice), source, voice, format="matroska", overwrite=True)
  assert not out.exists()


def test_what_is_said_of_a_sound(tmp_path):
  source = film(tmp_path / "a.mp4")
  silence = beep(tmp_path / "a.wav", 2.0, 9.0)
  said = process(Listener(silence), source, tmp_path / "b.mkv")
  assert "a.wav: its sound is silence" in said
  said = process(Listener(silence), source, tmp_path / "b.gif")
  assert "a.wav: gif cannot hold its sound: left out" in said


def test_a_sound_of_its_own_is_resumed(tmp_path):
  source = film(tmp_path / "a.mp4")
  voice = beep(tmp_path / "a.wav", 1.5, 1.0)
  for name in ("b", "c"):
    out = tmp_path / f"{name}.mkv"
    process(Listener(voice), source, out, resume=name == "b")
  wave, other = (sound.decode(tmp_path / f"{n}.mkv", RATE) for n in "bc")
  np.testing.assert_array_equal(wave, other)


def test_the_first_frame_of_a_shot_is_there_when_it_goes_on(tmp_path):
  """Segments skip frames that are done, but not the one that is looked at."""

  class Looks(stages.Identity):
    looks_back = True

    def look(self, frames, first):
      assert first.image is not None
      return self

  runner = stream.Runner(Looks(pixels=1))
  assert runner.needs(100) == 0 < stream.Runner(stages.Identity()).needs(100)
