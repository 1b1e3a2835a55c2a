"""`vidgan generate`: every output, every option, and what cannot be."""

import dataclasses
import os
import shutil
import subprocess
import sys
import wave

import av
import jax
import numpy as np
from PIL import Image
import pytest
import runs

from vidgan_jax import cli
from vidgan_jax import errors
from vidgan_jax import sampler
from vidgan_jax import zoo
from vidgan_jax.video import read
from vidgan_jax.video import sound
from vidgan_jax.video import write
from vidgan_jax.zoo import __main__ as zoo_main

SIZE, FRAMES, FPS = 16, 4, 8
CLASSES = ("disc", "square", "triangle", "cross")
FLAGS = (
  "penalties={}",
  "augment.policy=",
  "evals={}",
  "total=4steps",
  "cadence.sample=0steps",
  "optim.g.lr=0.01",
  "ema.rampup=None",
)
TINY = (
  "model.generator.widths=(8, 8)",
  "model.generator.motion_period=0.25",
  "model.discriminator.widths=(8, 8)",
  "model.discriminator.joint=8",
)
MLP = (
  "model.generator.widths=(8,)",
  "model.discriminator.widths=(8,)",
)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  path = tmp_path_factory.mktemp("generate") / "run"
  return runs.train(path, "smoke.py:model=continuous", *TINY, *FLAGS)


@pytest.fixture(scope="module")
def fixed_length(tmp_path_factory):
  """A model of four frames and no others."""
  path = tmp_path_factory.mktemp("generate") / "mlp"
  return runs.train(path, "smoke.py:model=mlp", *MLP, *FLAGS)


@pytest.fixture(scope="module")
def model(workdir):
  return sampler.load(workdir)


def run(workdir, *options):
  return cli.main(["generate", str(workdir), *map(str, options)])


@pytest.fixture
def draw(workdir, tmp_path):
  """Clips (N, T, H, W, 3) as the verb draws them, without loss."""

  def draw(*options, num=4):
    path = tmp_path / "strip.png"
    options = ("--strip", "--scale", 1, "--num", num, "--overwrite", *options)
    assert run(workdir, "--out", path, *options) == 0
    picture = np.asarray(Image.open(path))
    rows = picture.reshape(num, SIZE, -1, SIZE, 3)
    return rows.transpose(0, 2, 1, 3, 4)

  return draw


def same(a, b):
  """Alike but for the rounding of another batch size."""
  assert a.shape == b.shape
  gap = np.abs(a.astype(int) - b.astype(int))
  assert gap.max() <= 1 and gap.mean() < 0.05


def gap(a, b):
  return np.abs(a.astype(int) - b.astype(int)).mean()


# ------------------------------------------------------------------- outputs


def test_mp4(workdir, tmp_path, capsys, draw):
  path = tmp_path / "new" / "folder" / "a.mp4"
  assert run(workdir, "--out", path, "--num", 3, "--scale", 4) == 0
  line = capsys.readouterr().out
  assert "3 clips of 4 frames at 8 frames/s, step 4" in line
  assert str(path) in line
  info = read.probe(path)
  assert (info.height, info.width, info.fps) == (2 * 64, 2 * 64, FPS)
  frames = list(read.frames(path))
  np.testing.assert_allclose([f.time for f in frames], np.arange(4) / FPS)
  video = np.stack([f.image for f in frames])
  assert video.shape == (FRAMES, 128, 128, 3)
  clips = draw(num=3)
  for i, (y, x) in enumerate(((0, 0), (0, 64), (64, 0))):
    tile = video[:, y : y + 64, x : x + 64]
    tile = tile.reshape(FRAMES, SIZE, 4, SIZE, 4, 3).mean((2, 4))
    assert gap(tile, clips[i]) < 6  # Of H.264.
  assert video[:, 64:, 64:].mean() < 3  # The empty place is black.


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".GIF"])
def test_animations(workdir, tmp_path, suffix):
  path = tmp_path / f"a{suffix}"
  options = ("--num", 2, "--grid", 1, "--scale", 2, "--frames", 6, "--fps", 10)
  assert run(workdir, "--out", path, *options) == 0
  with Image.open(path) as image:
    assert image.size == (2 * SIZE, 2 * 2 * SIZE)
    assert image.n_frames == 6
    image.seek(1)
    image.load()
    assert image.info["duration"] == 100  # Milliseconds.


def test_png_grid(workdir, tmp_path, draw):
  path = tmp_path / "a.png"
  assert run(workdir, "--out", path, "--num", 5, "--scale", 1) == 0
  picture = np.asarray(Image.open(path))
  assert picture.shape == (2 * SIZE, 3 * SIZE, 3)
  first = draw(num=5)[:, 0]
  for i in range(5):
    y, x = SIZE * (i // 3), SIZE * (i % 3)
    same(picture[y : y + SIZE, x : x + SIZE], first[i])


def test_strips_are_enlarged_to_be_seen(workdir, tmp_path):
  path = tmp_path / "strip.png"
  assert run(workdir, "--out", path, "--num", 2, "--strip") == 0
  assert Image.open(path).size == (FRAMES * 128, 2 * 128)


def test_folder(workdir, tmp_path, draw, capsys):
  out = tmp_path / "clips"
  num = 18  # More than are written side by side.
  assert run(workdir, "--out", out, "--num", num, "--scale", 4) == 0
  assert sorted(p.name for p in out.iterdir()) == [
    f"clip_{i:04d}.mp4" for i in range(num)
  ]
  clips = draw(num=num)
  for i in (0, 15, 16, 17):
    frames = list(read.frames(out / f"clip_{i:04d}.mp4"))
    assert len(frames) == FRAMES
    video = np.stack([f.image for f in frames])
    video = video.reshape(FRAMES, SIZE, 4, SIZE, 4, 3).mean((2, 4))
    gaps = [gap(video, clip) for clip in clips]
    assert np.argmin(gaps) == i and gaps[i] < 6
  few = ("--out", out, "--num", 2)
  assert run(workdir, *few) == 1
  error = capsys.readouterr().err
  assert f"{out / 'clip_0000.mp4'}: is there already" in error
  assert len(list(out.iterdir())) == num
  assert run(workdir, *few, "--overwrite") == 0
  # Clips of two models are not mixed.
  assert sorted(os.listdir(out)) == ["clip_0000.mp4", "clip_0001.mp4"]


# ---------------------------------------------------------------------- time


def test_longer_than_trained(draw):
  short, long = draw(), draw("--frames", 14)
  assert long.shape[1] == 14
  same(long[:, :FRAMES], short)
  assert all(gap(long[:, t], long[:, t + 1]) > 0 for t in range(13))


def test_finer_than_trained(draw):
  fine = draw("--fps", 3 * FPS)
  assert fine.shape[1] == 3 * FRAMES
  same(fine[:, ::3], draw())
  assert gap(fine[:, 1], fine[:, 0]) > 0


def test_slow_reversed_and_later(draw):
  clips = draw("--frames", 6)
  same(draw("--frames", 11, "--speed", 0.5)[:, ::2], clips)
  same(draw("--frames", 6, "--speed", -1)[:, ::-1], clips)
  same(draw("--frames", 4, "--start", 2 / FPS), clips[:, 2:])


def test_parts_of_a_long_clip_are_the_clip(model):
  """Memory does not grow with the length: frames come in parts that fit."""
  num, times = 3, np.arange(4 * FRAMES + 2, dtype=np.float32) / FPS
  z = model.noise(0, np.arange(num), float(times.max()))
  given = {"label": np.zeros(num, np.int32)}
  whole = np.asarray(model.draw(z, given, times))
  # As many pixels a frame as make a part as short as it can be.
  large = dataclasses.replace(model, resolution=4096)
  parts = list(large.film(z, given, times))
  assert [p.shape[1] for p in parts] == [4, 4, 4, 4, 2]
  same(np.concatenate(parts, 1), whole)


# ---------------------------------------------------------- noise and labels


def test_the_seed_is_the_clip(workdir, tmp_path):
  files = []
  for name, seed in (("a.mp4", 3), ("b.mp4", 3), ("c.mp4", 4)):
    path = tmp_path / name
    assert run(workdir, "--out", path, "--num", 2, "--seed", seed) == 0
    files.append(path.read_bytes())
  assert files[0] == files[1] != files[2]


def test_a_clip_does_not_depend_on_the_others(model):
  given = model.ask(7)
  clips = model.clips(given, 5)
  assert clips.shape == (7, FRAMES, SIZE, SIZE, 3)
  assert clips.dtype == np.uint8
  np.testing.assert_array_equal(given["label"], [0, 1, 2, 3, 0, 1, 2])
  for num, batch in ((7, 2), (7, 7), (5, 3), (1, 64)):
    same(model.clips(model.ask(num), 5, batch=batch), clips[:num])
  parts = list(model.stream(given, 5, batch=3))
  assert [len(part) for part in parts] == [3, 3, 1]
  same(np.concatenate(parts), clips)
  some = np.array([6, 2])  # In any order: each has its number with it.
  same(model.clips(sampler.rows(given, some), 5), clips[some])
  assert gap(model.clips(given, 6), clips) > 1


MESH = """
import sys, jax, numpy as np
from vidgan_jax import sampler
from vidgan_jax.devices import sharding

here = sampler.load(sys.argv[1])
given = here.ask(6)  # Batches of 4, which four devices share, and of 2.
want = here.clips(given, 0, batch=4).astype(int)
mesh = sharding.make_mesh((("data", -1),))
cut = lambda x: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(
  *[None] * (x.ndim - 1), *["data"] * (x.ndim > 0 and x.shape[-1] % 4 == 0)))
spread = jax.tree.map(lambda x: jax.device_put(x, cut(x)), here.params)
assert any(not x.is_fully_replicated for x in jax.tree.leaves(spread))
there = here.with_params(spread, here.step)
got = there.clips(given, 0, batch=4)
index = given.pop("index")[:4]
z = there.noise(0, index, 1.0)
drawn = there.draw(z, sampler.rows(given, index), np.array(there.times))
assert len(drawn.sharding.device_set) == 4 and not drawn.is_fully_replicated
print(abs(got - want).max())
"""


def test_weights_on_a_mesh(workdir):
  """They are not gathered: each device draws its part of the clips."""
  flags = "--xla_force_host_platform_device_count=4"
  done = subprocess.run(
    [sys.executable, "-c", MESH, str(workdir)], capture_output=True, text=True,
    env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert int(done.stdout) <= 1


def test_wishes(workdir, model, tmp_path, capsys):
  want = model.ask(2, label="cross")
  for label in (3, "3"):
    np.testing.assert_array_equal(model.ask(2, label=label)["label"], [3, 3])
  np.testing.assert_array_equal(want["label"], [3, 3])
  with pytest.raises(errors.UserError) as error:
    model.ask(2, labl="cross")
  for word in ("labl='cross'", "'generate'", "Did you mean 'label'?"):
    assert word in str(error.value)
  out = tmp_path / "a.mp4"
  assert run(workdir, "--out", out, "--ask", "text=a red ball") == 1
  _check_error(capsys, "trained without texts", "config.data.text='words'")
  assert run(workdir, "--out", out, "--ask", "txt=a red ball") == 1
  _check_error(capsys, "txt='a red ball'", "Did you mean 'text'?")
  assert run(workdir, "--out", out, "--ask", "label=hexagon") == 1
  _check_error(capsys, "--label hexagon")
  assert run(workdir, "--out", out, "--ask", "label") == 1
  _check_error(capsys, "--ask label: give NAME=VALUE")
  bare = dataclasses.replace(model, num_classes=0)
  assert set(bare.ask(2)) == {"index"}
  with pytest.raises(errors.UserError, match="trained without classes"):
    bare.ask(2, label=0)


def test_labels(draw, workdir, tmp_path, capsys):
  turns = draw("--seed", 7)
  for number, name in enumerate(CLASSES):
    clips = draw("--label", name, "--seed", 7)
    same(draw("--label", number, "--seed", 7), clips)
    same(clips[number], turns[number])
    assert all(gap(clips[i], turns[i]) > 0 for i in range(4) if i != number)
  for label in ("4", "-1", "hexagon"):
    out = tmp_path / "bad.mp4"
    assert run(workdir, "--out", out, f"--label={label}") == 1
    text = capsys.readouterr().err
    assert f"--label {label}" in text
    for word in ("4 classes", "0 to 3", "disc, square, triangle, cross"):
      assert word in text
    assert not out.exists()


def test_truncation_is_of_the_content_alone(draw, model):
  full = draw("--label", 0)
  mean = draw("--label", 0, "--truncation", 0)
  # The same content, each with a motion of its own.
  same(mean, draw("--vary", "motion", "--truncation", 0))
  alike = draw("--vary", "content", "--truncation", 0)
  same(alike, np.repeat(alike[:1], 4, 0))
  spread = lambda clips: clips.astype(float).std(0).mean()
  assert 0 < spread(mean) < spread(full)
  assert gap(mean[:, 0], mean[:, -1]) > 0
  half = draw("--label", 0, "--truncation", 0.5)
  assert gap(half, mean) > 0 and gap(half, full) > 0
  # Each class has a mean of its own, and styles lie on the way to it.
  z, labels = model.noise(0, np.arange(4), 1.0), np.arange(4)
  given = {"label": labels}
  truncate = lambda scale: sampler.truncate(model, z, given, scale)
  styles = [truncate(scale)["style"] for scale in (0, 0.5, 0.999)]
  assert len(np.unique(np.asarray(styles[0]), axis=0)) == 4
  w = model.generator.style(model.params, given, z)
  np.testing.assert_allclose(styles[1], (styles[0] + w) / 2, atol=1e-5)
  np.testing.assert_allclose(styles[2], w, atol=1e-2)
  assert truncate(1) is z


def test_truncation_out_of_range(workdir, tmp_path, capsys):
  assert run(workdir, "--out", tmp_path / "x.mp4", "--truncation=1.5") == 1
  assert "--truncation 1.5" in capsys.readouterr().err


def test_vary(model, draw):
  z = model.noise(0, np.arange(3), 1.0)
  for what, fixed in (("content", "motion"), ("motion", "content")):
    varied = sampler.vary(z, what)
    for name in z:
      want = z[name] if name != fixed else np.repeat(z[name][:1], 3, 0)
      np.testing.assert_array_equal(varied[name], want)
  assert sampler.vary(z, "both") is z
  plain = draw("--label", 0)
  for what in ("content", "motion"):
    clips = draw("--vary", what)  # All of one class: they are compared.
    same(clips[0], plain[0])
    assert gap(clips[1], clips[0]) > 0 and gap(clips[1], plain[1]) > 0


def test_interpolation_leads_from_a_to_b(model, draw):
  way = draw("--interpolate", 3, 1, num=5)
  # Clip A as it is; the content of B moves as A does.
  clips = draw("--label", 0, num=4)
  same(way[0], clips[3])
  z = model.noise(0, np.array([3, 1]), float(max(model.times)))
  given = {"label": np.zeros(2, np.int32)}
  ends = model.draw(sampler.vary(z, "content"), given, np.array(model.times))
  same(way[[0, -1]], np.asarray(ends))
  steps = [gap(way[i], way[i + 1]) for i in range(4)]
  assert min(steps) > 0 and max(steps) < gap(way[0], way[-1])
  path = sampler.interpolate(z, 5)["content"]
  lengths = np.linalg.norm(path, axis=-1)
  # A straight line would be shortest in the middle, by a factor of 0.7.
  assert lengths.min() > 0.95 * min(lengths[0], lengths[-1])
  same(draw("--interpolate", 2, 2, num=3), np.repeat(clips[2:3], 3, 0))


# --------------------------------------------------------------- checkpoints


def test_averaged_and_raw_weights_differ(workdir, draw):
  assert gap(draw(), draw("--weights", "raw")) > 0.5
  ema = sampler.load(workdir, weights="ema").params
  raw = sampler.load(workdir, weights="raw").params
  assert jax.tree.structure(ema) == jax.tree.structure(raw)


def test_one_checkpoint_without_its_workdir(workdir, model, tmp_path):
  step = workdir / "checkpoints" / "4"
  assert sampler.load(step).step == sampler.load(workdir, 4).step == 4
  copy = tmp_path / "4"
  shutil.copytree(step, copy)
  lone = sampler.load(copy)
  assert lone.class_names == CLASSES and lone.times == model.times
  given = model.ask(2)
  np.testing.assert_array_equal(lone.clips(given, 0), model.clips(given, 0))


# ----------------------------------------------------------------- bad input


def test_shipped_weights_draw_as_their_run(
  workdir, tmp_path, monkeypatch, capsys
):
  """In bfloat16: nearly as their run."""
  monkeypatch.setattr(zoo, "FOLDER", tmp_path)
  zoo_main.export(str(workdir), tmp_path / "small-run.safetensors")
  clips = []
  for name in (str(workdir), "small-run", f"{tmp_path}/small-run.safetensors"):
    out = tmp_path / f"{len(clips)}.png"
    assert cli.main(["generate", name, "--num", "4", "--out", str(out)]) == 0
    clips.append(np.asarray(Image.open(out)).astype(int))
  assert np.abs(clips[0] - clips[1]).mean() < 2
  assert np.array_equal(clips[1], clips[2])
  other = ("--num", "1", "--out", str(tmp_path / "other.png"))
  for options, words in (
    (("small-run", "--step", "4"), "leave both out"),
    (("small-run", "--from-data"), "come without data"),
    (("smal-run",), "Did you mean 'small-run'?"),
  ):
    assert cli.main(["generate", *options, *other]) == 1
    _check_error(capsys, *words.split())


@pytest.mark.parametrize(
  "options, words",
  [
    (("--out", "a.avi"), ".mp4, .gif, .webp"),
    (("--out", "a.mp4", "--num", "0"), "--num 0"),
    (("--out", "a.mp4", "--frames", "0"), "--frames 0"),
    (("--out", "a.mp4", "--frames", "-2"), "--frames -2"),
    (("--out", "a.mp4", "--grid", "0"), "--grid 0"),
    (("--out", "a.mp4", "--scale", "0"), "--scale 0"),
    (("--out", "a.mp4", "--fps", "0"), "--fps 0"),
    (("--out", "a.mp4", "--fps", "-5"), "--fps -5"),
    (("--out", "a.mp4", "--speed", "0"), "--speed 0"),
    (("--out", "a.mp4", "--start", "-1"), "--start -1"),
    (("--out", "a.mp4", "--step", "7"), "there is 4"),
  ],
)
def test_bad_options(workdir, tmp_path, monkeypatch, capsys, options, words):
  monkeypatch.chdir(tmp_path)
  assert run(workdir, *options) == 1
  _check_error(capsys, words)
  assert not list(tmp_path.iterdir())


def test_pixels_that_are_not_finite_are_refused(
  workdir, model, tmp_path, monkeypatch, capsys
):
  """As bytes they would be black, and metrics would give black a number."""
  nans = jax.tree.map(lambda x: x * np.nan, model.params)
  bad = model.with_params(nans, model.step)
  with pytest.raises(ValueError, match=f"step {model.step} .* not finite"):
    bad.clips(bad.ask(3), 1)
  with pytest.raises(ValueError, match="diverged"):
    next(bad.stream(bad.ask(3), 1))
  monkeypatch.setattr(sampler, "load", lambda *_: bad)
  out = tmp_path / "a.mp4"
  assert cli.main(["generate", str(workdir), "--out", str(out)]) == 1
  assert "not finite" in capsys.readouterr().err and not out.exists()


def test_nothing_to_draw_from(tmp_path, capsys):
  out = tmp_path / "a.mp4"
  (tmp_path / "empty").mkdir()
  for name, words in (("missing", "does not exist"), ("empty", "checkpoint")):
    assert run(tmp_path / name, "--out", out) == 1
    _check_error(capsys, words, str(tmp_path / name))
  assert {p.name for p in tmp_path.iterdir()} == {"empty"}


def test_a_model_of_fixed_length(fixed_length, tmp_path, capsys):
  for name in ("a.mp4", "folder", "a.png"):
    options = ("--out", tmp_path / name, "--num", 2)
    assert run(fixed_length, *options) == 0
  assert len(list(read.frames(tmp_path / "a.mp4"))) == FRAMES
  out = tmp_path / "not" / "made"
  for name, options in (
    ("a.mp4", ("--frames", 9)),
    ("a.png", ("--frames", 9, "--strip")),
    ("folder", ("--fps", 16)),
  ):
    assert run(fixed_length, "--out", out / name, *options) == 1
    _check_error(capsys, "config.model.frames is 4", "'continuous'")
  assert run(fixed_length, "--out", out / "a.mp4", "--vary", "motion") == 1
  _check_error(capsys, "content from motion", "'continuous'")
  assert not out.parent.exists()


def _check_error(capsys, *words):
  text = capsys.readouterr().err
  assert text.startswith("vidgan generate: ")
  for word in words:
    assert word in text, text
  assert "Traceback" not in text and "\n" not in text.rstrip("\n")


@pytest.fixture
def drums(tmp_path):
  """Two seconds in stereo: silence, and a beat at 0.5 and at 1.25 s."""
  t = np.arange(88200) / 44100
  beat = sum(
    np.exp(-(t - s).clip(0) / 0.1) * np.sin(600 * (t - s)) * (t >= s)
    for s in (0.5, 1.25)
  )
  samples = (np.stack([beat, beat], 1) * 20000).astype("<i2")
  path = tmp_path / "drums.wav"
  with wave.open(str(path), "wb") as file:
    file.setnchannels(2)
    file.setsampwidth(2)
    file.setframerate(44100)
    file.writeframes(samples.tobytes())
  return path


def test_clips_react_to_a_sound(workdir, drums, draw, tmp_path):
  out = tmp_path / "react.mp4"
  options = ("--sound", drums, "--react", "speed=onset:5", "--speed", 0.1)
  assert run(workdir, "--out", out, *options, "--num", 1, "--fps", 24) == 0
  with av.open(str(out)) as container:
    [picture], [heard] = container.streams.video, container.streams.audio
    assert picture.frames == 48 and heard.codec_context.name == "aac"
    seconds = lambda stream: float(stream.duration * stream.time_base)
    assert abs(seconds(picture) - 2) < 0.01 and abs(seconds(heard) - 2) < 0.1
  samples = sound.decode(out, 16000)
  loud = [abs(samples[int(s * 16000) :][:800]).max() for s in (0.2, 0.52, 1.27)]
  assert loud[0] < 0.02 < 0.3 < min(loud[1:])
  # The motion is quickest at the beats.
  still, moving = draw(*options, "--fps", 24, num=1), []
  for start in (12, 30):
    step = abs(np.diff(still[0].astype(float), axis=0)).mean((1, 2, 3))
    moving.append(step[start - 1 : start + 3].mean())
  quiet = step[[2, 4, 6, 20, 22, 40, 44]].mean()
  assert min(moving) > 2 * quiet
  # What cannot hold a sound says so; less than the whole is cut.
  assert run(workdir, "--out", tmp_path / "a.gif", *options, "--num", 1) == 0
  short = tmp_path / "short.mp4"
  assert run(workdir, "--out", short, *options, "--frames", 8) == 0
  assert len(sound.decode(short, 16000)) <= 1.1 * 16000


def test_sounds_that_cannot_be(workdir, drums, tmp_path, capsys):
  silent = tmp_path / "silent.mp4"
  write.write(silent, np.zeros((4, 16, 16, 3), np.uint8))
  out = tmp_path / "a.mp4"
  for options, words in (
    (("--react", "speed=onset:2"), ("--sound FILE",)),
    (("--sound", drums, "--react", "hue=bass:1"), ("speed=NAME:K",)),
    (("--sound", drums, "--react", "speed=onst:1"), ("'onset'",)),
    (("--sound", drums), ("trained without", "--react")),
    (("--sound", drums, "--speed", "2"), ("run away",)),
    (
      ("--sound", silent, "--react", "speed=onset:2"),
      (f"vidgan generate: {silent}: it has no sound",),
    ),
    (("--sound", tmp_path / "no.wav"), ("no.wav",)),
  ):
    assert run(workdir, "--out", out, *options) == 1
    _check_error(capsys, *words)
    assert not out.exists()


# ---------------------------------------------------------------------- maps


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
  """A run that was trained with maps for a step."""
  path = tmp_path_factory.mktemp("generate") / "maps"
  small = (
    "model.resolution=16",
    "data.options.resolution=16",
    "data.options.size=8",
    "model.variant=XS",
    "model.generator.blocks=1",
    "batch=2",
    "evals={}",
    "total=1steps",
    "cadence.sample=0steps",
    "cadence.eval=0steps",
    "cadence.save=1steps",
  )
  return runs.train(path, "translate.py", *small)


@pytest.fixture
def drawing(maps, tmp_path):
  """A disc of the run's colour on its ground, and the same elsewhere."""
  palette = sampler.load(maps).task.palette
  picture = np.full((64, 64, 3), palette["ground"], np.uint8)
  picture[8:40, 8:40] = palette["disc"]
  Image.fromarray(picture).save(tmp_path / "a.png")
  Image.fromarray(picture[::-1]).save(tmp_path / "b.png")
  (tmp_path / "all").mkdir()
  for i in range(4):
    Image.fromarray(np.roll(picture, 4 * i, 1)).save(tmp_path / f"all/{i}.png")
  write.write(tmp_path / "c.mp4", np.stack([picture] * 24), fps=12, scale=8)
  return tmp_path


@pytest.mark.parametrize(
  "options, frames",
  [
    (("a.png",), 12),
    (("a.png", "--frames", 20, "--still"), 20),
    (("a.png@0", "b.png@0.5"), 7),
    (("all",), 4),
    (("c.mp4",), 24),
  ],
)
def test_drawings_become_video(maps, drawing, options, frames):
  """As files in all forms, without the data; of an untrained net, the maps."""
  given = [
    f"{drawing}/{o}" if ".png" in str(o) or o in ("all", "c.mp4") else o
    for o in options
  ]
  out = drawing / "out.png"
  options = ("--strip", "--scale", 1, "--num", 1, "--out", out)
  assert run(maps, "--map", *given, *options) == 0
  strip = np.asarray(Image.open(out)).reshape(16, frames, 16, 3)
  # What is drawn is red; it is there in every frame, and moves or not.
  share = (strip[..., 0] > 100).mean((0, 2))
  np.testing.assert_allclose(share, 0.25, atol=0.07)
  moves = abs(np.diff(strip.astype(int), axis=1)).max() > 50
  assert moves != ("--still" in given or "c.mp4" in str(given))


@pytest.mark.parametrize(
  "options, words",
  [
    ((), "--map gives one"),
    (("--map", "no.png"), "no.png: there is no such picture"),
    (("--map", "a.png", "b.png"), "a.png@1.5"),
    (("--map", "all", "--frames", "9"), "shows 0.333 s"),
    (("--map", "d.png"), "d.png: 25% of the pixels"),
    (("--map", "e.png"), "one sees through 25%"),
    (("--still",), "--still: there is nothing"),
    (("--map", "a.png", "--first", "a.png"), "trained without"),
  ],
)
def test_drawings_that_cannot_be(maps, drawing, capsys, options, words):
  soft = np.asarray(Image.open(drawing / "a.png")).copy()
  soft[8:40, 8:40] //= 2
  Image.fromarray(soft).save(drawing / "d.png")
  clear = np.full((64, 64, 4), 255, np.uint8)
  clear[:32, :32, 3] = 9
  Image.fromarray(clear).save(drawing / "e.png")
  names = ("a.png", "b.png", "d.png", "e.png", "no.png", "all")
  given = [f"{drawing}/{o}" if o in names else o for o in options]
  assert run(maps, *given, "--out", drawing / "out.mp4") == 1
  said = capsys.readouterr().err
  assert words in " ".join(said.split())
  assert not (drawing / "out.mp4").exists()


def test_maps_are_refused_by_other_runs(workdir, drawing, capsys):
  given = ("--map", drawing / "a.png", "--out", drawing / "out.mp4")
  assert run(workdir, *given) == 1
  said = " ".join(capsys.readouterr().err.split())
  assert "map is asked for, but the task 'generate'" in said
