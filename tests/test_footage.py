"""Trained generators on real footage: from config to processed file."""

import dataclasses
import fractions
import json
import time
import types

import flax
import flax.linen as nn
import jax
import numpy as np
import pytest

from vidgan_jax import cli
from vidgan_jax import errors
from vidgan_jax import footage as stage_lib
from vidgan_jax import sampler as sampler_lib
from vidgan_jax import tasks
from vidgan_jax import zoo
from vidgan_jax.data import sound
from vidgan_jax.models import trunk
from vidgan_jax.verbs import process
from vidgan_jax.video import phases
from vidgan_jax.video import read
from vidgan_jax.video import stages
from vidgan_jax.video import stream
from vidgan_jax.video import write
from vidgan_jax.zoo import __main__ as zoo_main

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

CONFIG = "configs/video_to_video.py"
TINY = (
  "data.options.resolution=24",
  "data.options.frames=5",
  "data.options.size=16",
  "batch=4",
  "model.generator.width=8",
  "model.generator.blocks=1",
  "model.discriminator.width=8",
  "cadence.sample=0steps",
  "evals={}",
)


def train(folder, task, *flags, model="trunk"):
  """A workdir of a tiny model of a task, after two steps."""
  workdir = folder / f"{task}_{model}"
  flags = [f"--config.{flag}" for flag in (*TINY, *flags)]
  arguments = f"{CONFIG}:task={task},data=sprites,total=2steps,model={model}"
  code = cli.main(
    ["train", "--config", arguments, "--workdir", str(workdir), *flags]
  )
  assert code == 0
  return workdir


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
  folder = tmp_path_factory.mktemp("stage")
  # An evaluator of clips out of noise, which there are none of.
  evals = "evals={'frd_random': {'num': 4}}"
  return {
    "denoise": train(folder, "denoise", evals),
    "enhance": train(folder, "enhance"),
  }


def test_training_draws_no_clips_where_they_are_given(workdirs):
  row = json.loads((workdirs["denoise"] / "eval" / "2.json").read_text())
  note = row["records"]["frd_random"]["note"]
  assert "task 'denoise'" in note and "works on given ones" in note


@pytest.fixture(scope="module")
def clip():
  rng = np.random.default_rng(0)
  small = rng.integers(0, 256, (12, 8, 10, 3)).astype(np.uint8)
  return small.repeat(5, 1).repeat(5, 2)  # 40 x 50


def shaken(stage, much=0.05):
  """The same stage with a last layer that is not zero."""
  params = jax.tree.map(
    lambda x: x + much * np.random.default_rng(1).standard_normal(x.shape),
    stage.sampler.params,
  )
  sampler = stage.sampler.with_params(params, 0)
  return dataclasses.replace(stage, sampler=sampler)


def film(clip, cut=10**9, mask=None):
  return [
    stream.Frame(
      time=fractions.Fraction(i, 10),
      duration=fractions.Fraction(1, 10),
      shot=int(i >= cut),
      image=x,
      mask=None if mask is None else mask[i],
    )
    for i, x in enumerate(clip)
  ]


def run(stage, clip, tile, chunk=0, cut=10**9, mask=None):
  runner = stream.Runner(stage, tile=tile, chunk=chunk)
  frames = runner(film(clip, cut, mask))
  return np.stack([f.image for f in frames]).astype(int)


@pytest.mark.parametrize("task", ["denoise", "enhance"])
def test_tiles_and_chunks_are_the_whole(workdirs, clip, task):
  stage = shaken(stage_lib.load(str(workdirs[task]), {}))
  whole = run(stage, clip, tile=64, chunk=32)
  assert np.abs(whole - clip).mean() > 1
  # Equal but for a level of rounding.
  assert np.abs(run(stage, clip, tile=16, chunk=3) - whole).max() <= 1


class Borderless(stage_lib.Stage):
  """The stage, shown what comes in as it is."""

  border = 0


def test_mirrored_frames_leave_the_inside(workdirs):
  stage = shaken(stage_lib.load(str(workdirs["denoise"]), {}))
  fields = {f.name: getattr(stage, f.name) for f in dataclasses.fields(stage)}
  reach = stage.halo[0]
  clip = np.random.default_rng(0).integers(
    0, 256, (2, 2 * reach + 12, 2 * reach + 20, 3), np.uint8
  )
  with_border = run(stage, clip, tile=128)
  without = run(Borderless(**fields), clip, tile=128)
  assert with_border.shape == clip.shape
  assert stages.Mixed(stages.Mirrored(stage), 0.5).border == stage.border > 0
  inside = (slice(None), *[slice(reach, -reach)] * 2)
  assert np.abs(with_border - without)[inside].max() <= 1  # Of rounding.
  assert np.abs(with_border - without).max() > 1


@pytest.mark.parametrize(
  "name",
  [
    name if name == "enhance" else pytest.param(name, marks=pytest.mark.slow)
    for name in zoo.names()
    if "-" not in name  # see vidgan_jax/zoo
  ],
)
def test_no_shipped_model_draws_a_rim(name, monkeypatch):
  """What the border does is what the inside does."""
  task, _, scale = name.partition("_x")
  scale = int(scale or 1)
  stage = stage_lib.load(task, {"scale": scale} if scale > 1 else {})
  clip = np.full((2, 72, 80, 3), 77, np.uint8)
  mask = np.zeros((2, 72, 80), bool)
  mask[:, 4:8, 4:8] = mask[:, 24:28, 24:28] = True

  def answer(clip, mask):
    return run(stage, clip, tile=128, mask=mask if task == "inpaint" else None)

  # Of a plain frame, the border comes out as the middle.
  out = answer(clip, mask)
  middle = out[:, 36 * scale, 40 * scale][:, None, None]
  assert np.abs(out - middle).max() <= 2
  # Of a frame that moves, mirrored where it comes in, the answer moves.
  t, y, x, c = np.ogrid[:2, :72, :80, :3]
  wave = np.sin(0.3 * x + 0.2 * y * (c + 1) - t) * np.cos(0.01 * x * y)
  clip = np.uint8(127.5 + 100 * wave)
  moved = lambda a: np.pad(
    a, ((0, 0), (8, 0), (16, 0)) + ((0, 0),) * (a.ndim - 3), "reflect"
  )[:, :72, :80]
  frames = film(clip)
  stage = stage.look(frames, frames[0])  # As bright, wherever it is.
  monkeypatch.setattr(stage_lib.Stage, "look", lambda self, *_: self)
  here, there = answer(clip, mask), answer(moved(clip), moved(mask))
  reach = 20 * scale  # The far borders have moved: they differ.
  there = there[:, 8 * scale : -reach, 16 * scale : -reach]
  wrong = np.abs(there - here[:, : there.shape[1], : there.shape[2]])
  assert wrong[:, reach:, reach:].max() <= 1  # Of rounding.
  assert not stage.border or wrong.max() <= 3  # Others do differ there.


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory):
  folder = tmp_path_factory.mktemp("recurrent")
  flags = (
    "model.generator.flow_width=4",
    # Each frame more is as much again to be compiled.
    "data.ops=clip(2) | value_range(-1, 1)",
    "model.frames=2",
  )
  return train(folder, "super_resolve", *flags, model="recurrent")


def test_a_recurrent_model_remembers_through_the_stream(recurrent, clip):
  """As it was trained on whole clips, so it works frame by frame."""
  stage = shaken(stage_lib.load(str(recurrent), {}))
  video, times = clip / np.float32(127.5) - 1, np.arange(len(clip)) / 10
  whole = stage.sampler.apply({"video": video[None]}, times[None])[0]
  for portion in (1, 3, len(clip)):
    state, parts = None, []
    for i in range(0, len(clip), portion):
      cut = slice(i, i + portion)
      part, state = stage(video[cut], times[cut], None, state)
      parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4)
  wanted = stream.to_integer(whole, np.uint8).astype(int)
  for chunk in (1, 3, len(clip)):
    got = run(stage, clip, tile=64, chunk=chunk)
    assert np.abs(got - wanted).max() <= 1
  alone = run(stage, clip[-1:], tile=64)
  assert np.abs(got[-1:] - alone).mean() > 0.1


def test_a_recurrent_model_forgets_at_a_cut(recurrent, clip):
  stage = shaken(stage_lib.load(str(recurrent), {}))
  got = run(stage, clip, tile=64, cut=7)
  np.testing.assert_array_equal(got[:7], run(stage, clip[:7], tile=64))
  np.testing.assert_array_equal(got[7:], run(stage, clip[7:], tile=64))
  assert np.abs(got - run(stage, clip, tile=64))[7:].mean() > 0.1


def test_tiles_of_a_recurrent_model_differ_little(recurrent, clip):
  stage = shaken(stage_lib.load(str(recurrent), {}))
  assert stage.halo == (stage.sampler.generator.margin, 0, 0) == (13, 0, 0)
  wide = np.concatenate([clip, clip[:, :, ::-1], clip], 2)
  whole, tiles = run(stage, wide, tile=200), run(stage, wide, tile=32)
  # The first frame sees no further than the margin: it is the same.
  assert np.abs(whole[0] - tiles[0]).max() <= 1
  assert 0 < np.abs(whole - tiles).mean() < 0.1


def bare(task, options=None, fps=None, **fields):
  """A stage of a tiny trunk that starts as its base, without training."""
  fields = dict(width=4, blocks=1, temporal="none") | fields
  generator = trunk.Generator(**fields)
  task = tasks.create({"name": task, "options": options or {}})
  given = {"video": np.zeros((1, 2, 8, 8, 3), np.float32)}
  given["mask" if fields.get("compose") else "map"] = given["video"][..., :1]
  if task.footage.hears:
    given["sound"] = np.zeros((1, 2, sound.FEATURES), np.float32)
  params = generator.init(jax.random.key(0), given, {}, np.zeros((1, 2)))
  sampler = sampler_lib.Sampler(
    generator=generator, params=params["params"], step=0, task=task,
    times=(0.0, 0.1), resolution=8,
  )  # fmt: skip
  return stage_lib.Stage(name="bare", sampler=sampler, options={}, fps=fps)


def test_a_map_of_noise_goes_through_tiles(clip):
  """What a mask says of a place stays with it."""
  stage = bare("denoise", {"spatial": True})
  assert np.abs(run(stage, clip, tile=64) - clip).max() == 0
  stage = shaken(stage, 0.1)
  mask = np.zeros(clip.shape[:3], bool)
  mask[:, 10:30, 20:32] = True
  whole = run(stage, clip, tile=64, mask=mask)
  assert (
    np.abs(run(stage, clip, tile=16, chunk=3, mask=mask) - whole).max() <= 1
  )
  far = np.zeros_like(mask)
  halo = stage.halo[0]
  far[:, 10 - halo : 30 + halo, 20 - halo : 32 + halo] = True
  clean = run(stage, clip, tile=64, mask=0 * mask)
  assert np.abs(whole - clean)[mask].mean() > 0.5
  np.testing.assert_array_equal(whole[~far], clean[~far])
  # No mask: the same everywhere, and not nowhere.
  every = run(stage, clip, tile=64)
  np.testing.assert_array_equal(every, run(stage, clip, 64, mask=mask | True))


@pytest.mark.parametrize(
  ("task", "fields"),
  [("inpaint", dict(base="fill", compose=True, motion=2.0)),
   ("colorize", dict(base="paint", compose=True))],
)  # fmt: skip
def test_whole_frames_are_filled_for_small_windows(task, fields):
  """A base that looks far in a frame costs no window a large halo."""
  rng = np.random.default_rng(0)
  small = rng.integers(0, 256, (10, 5, 8, 3)).astype(np.uint8)
  clip = small.repeat(20, 1).repeat(20, 2)[:, :, :150]  # 100 x 150
  mask = np.zeros(clip.shape[:3], bool)
  mask[:, 30:90, 40:140] = mask[4] = True
  if task == "colorize":
    mask = rng.random(mask.shape) > 0.002
  stage = shaken(bare(task, **fields))
  pixels = stage.sampler.generator.halo[0]
  assert (stage.halo[0], stage.align) == (pixels - 140, 2)
  # 72 frames of 4K, a window of inpaint, are kept in 2.4 GB.
  kept = stage.masked(clip[0], mask[0])
  assert kept.nbytes == 4 * mask[0].size
  np.testing.assert_array_equal(kept[..., 0] > 0, mask[0])
  # All at once, by the generator alone, which fills by itself.
  edge, size = stage.border, stage.multiple
  pad = lambda x: np.pad(
    np.pad(x, ((0, 0), *[(edge, edge)] * 2, *[(0, 0)] * (x.ndim - 3)),
           "reflect"),
    ((0, 0), *[(0, -(n + 2 * edge) % size) for n in x.shape[1:3]],
     *[(0, 0)] * (x.ndim - 3)), "edge")  # fmt: skip
  frames = film(clip)
  whole = stage.look(frames, frames[0])(
    stream.to_float(pad(clip)),
    np.arange(10, dtype=np.float32) / 10,
    pad(mask)[..., None].astype(np.float32),
  )
  whole = whole[:, edge : edge + 100, edge : edge + 150]
  whole = stream.to_integer(whole, np.uint8).astype(int)
  got = run(stage, clip, tile=32, mask=mask)
  assert np.abs(got - whole).max() <= 1  # Of rounding.
  assert np.abs(got - clip)[mask].mean() > 1


def test_lips_follow_what_is_heard_now(clip):
  """Windows are the whole; each shot has the mouth of its first frame."""
  beep = np.sin(np.arange(2 * sound.RATE) / 3).astype(np.float32)
  beep[: sound.RATE // 2] = 0  # It begins at half a second.
  stage = bare("lips", base="copy", compose=True, temporal="centred")
  still = run(stage.hear(beep), clip, tile=64, cut=7)
  np.testing.assert_array_equal(still[:, :20], clip[:, :20])
  np.testing.assert_array_equal(still[:7, 20:], clip[[0] * 7, 20:])
  np.testing.assert_array_equal(still[7:, 20:], clip[[7] * 5, 20:])
  stage = shaken(stage, 0.2)
  whole = run(stage.hear(beep), clip, tile=64, chunk=32)
  tiles = run(stage.hear(beep), clip, tile=16, chunk=2)
  assert np.abs(tiles - whole).max() <= 1
  np.testing.assert_array_equal(whole[:, :20], clip[:, :20])
  silent = run(stage.hear(0 * beep), clip, tile=64)
  # It sees a frame to either side: nothing moves before that.
  early, late = slice(0, 4), slice(6, None)
  np.testing.assert_array_equal(whole[early], silent[early])
  assert np.abs(whole - silent)[late, 20:].mean((1, 2, 3)).min() > 0.5
  mixed = stages.Mixed(stages.Mirrored(stage), 0.5).hear(beep)
  assert mixed.voice == stream.Voice() and mixed.looks_back
  assert np.abs(run(mixed, clip, tile=64) - whole)[:, 20:].mean() > 0.5
  # What a mask hides, and nothing else.
  mask = np.zeros(clip.shape[:3], bool)
  mask[:, 5:15, 30:40] = True
  out = run(stage.hear(beep), clip, tile=32, mask=mask)
  np.testing.assert_array_equal(out[~mask], clip[~mask])
  assert np.abs(out - clip)[mask].mean() > 1


def test_a_row_of_sound_is_that_of_the_whole_film():
  wave = np.random.default_rng(0).standard_normal(20 * sound.RATE)
  stage = bare("lips", base="copy", compose=True)
  stage = stage.hear(wave.astype(np.float32))
  for first in (-0.3, 0.0, 7.31, 19.9, 31.0):
    times = [first + 0.04 * i for i in range(5)]
    rows = sound.rows(stage.wave, times, 0.1)
    np.testing.assert_allclose(stage._rows(times), rows, atol=1e-6)


def test_options_of_a_sound_are_checked(monkeypatch):
  stage = bare("lips", base="copy", compose=True)
  monkeypatch.setattr(stage_lib, "_sampler", lambda *_: stage.sampler)
  load = lambda **options: stage_lib.load("runs/lips", options)
  assert load(sound="a.wav", offset=-0.5).voice == stream.Voice(
    path="a.wav", offset=-0.5
  )
  for options, words in (
    (dict(sound="a.wav", offset="late"), "offset is 'late'"),
    (dict(offset=1), "offset .*sound=FILE"),
    (dict(suond="a.wav"), "mean 'sound'"),
  ):
    with pytest.raises(errors.UserError, match=words):
      load(**options)


def test_windows_that_hide_nothing_are_copied(monkeypatch):
  stage = bare("inpaint", base="fill", compose=True)
  seen = []
  call = stage_lib.Stage.__call__
  monkeypatch.setattr(
    stage_lib.Stage, "__call__", lambda *a: seen.append(0) or call(*a)
  )
  clip = np.random.default_rng(0).integers(0, 256, (3, 96, 160, 3), np.uint8)
  mask = np.zeros(clip.shape[:3], bool)
  for stage_ in (stage, stages.Mixed(stage, 0.5)):
    np.testing.assert_array_equal(run(stage_, clip, 32, mask=mask), clip)
  assert not seen
  mask[:, 40:44, 40:44] = True
  out = run(stage, clip, tile=32, mask=mask)
  np.testing.assert_array_equal(out[~mask], clip[~mask])
  assert len(seen) == 1 and (out[mask] != clip[mask]).any()


INTERPOLATE = dict(base="temporal", compose=True)


def test_frames_at_any_phase(clip):
  """An untrained model mixes frames by their times, to the phase."""
  steps = phases.around(bare("interpolate", fps=25.0, **INTERPOLATE))
  out = np.stack([f.image for f in through(steps, clip)]).astype(float)
  at = np.minimum(np.arange(30) * 10 / 25, 11)
  low = np.minimum(at.astype(int), 10)
  share = (at - low)[:, None, None, None]
  want = (1 - share) * clip[low] + share * clip[low + 1]
  np.testing.assert_allclose(out, want, atol=1.01)
  steps = phases.around(shaken(steps[1]))
  whole = np.stack([f.image for f in through(steps, clip)]).astype(int)
  assert np.abs(whole - want).mean() > 1
  np.testing.assert_array_equal(whole[::5], clip[::2])  # They were given.
  tiles = np.stack([f.image for f in through(steps, clip, tile=16, chunk=3)])
  assert np.abs(tiles - whole).max() <= 1


@pytest.mark.parametrize("rate", [2, 4, 9])
def test_so_many_frames_for_one(clip, rate, monkeypatch):
  """Any rate, whatever the one that it was trained for."""
  trained = {"rate": 3, "arbitrary": True}
  sampler = bare("interpolate", trained, **INTERPOLATE).sampler
  monkeypatch.setattr(zoo, "load", lambda name: sampler)
  stage = stage_lib.load("interpolate", {"rate": rate})
  assert phases.around(stage) == [stage] and f"rate {rate}" in repr(stage)
  runner = stream.Runner(stage, tile=64)
  frames = list(runner(film(clip[:4])))
  assert [f.time for f in frames] == [
    fractions.Fraction(i, 10 * rate) for i in range(3 * rate + 1)
  ]
  out = np.stack([f.image for f in frames]).astype(float)
  at = np.arange(len(out)) / rate
  low = np.minimum(at.astype(int), 2)
  share = (at - low)[:, None, None, None]
  want = (1 - share) * clip[low] + share * clip[low + 1]
  np.testing.assert_allclose(out, want, atol=1.01)


def through(steps, clip, tile=64, chunk=0):
  ask, stage, pick = steps
  runner = stream.Runner(stage, tile=tile, chunk=chunk)
  return pick.frames(runner(ask.frames(film(clip))))


def test_a_file(workdirs, clip, tmp_path):
  path, out = tmp_path / "in.mkv", tmp_path / "out.mkv"
  write_clip(path.with_suffix(".mp4"), clip)
  arguments = [
    str(workdirs["denoise"]),
    str(path.with_suffix(".mp4")),
    str(out),
  ]
  assert cli.main(["process", *arguments]) == 0
  assert len(list(read.frames(out))) == len(clip)


def test_a_file_through_a_recurrent_model(recurrent, clip, tmp_path):
  path = tmp_path / "in.mp4"
  write_clip(path, clip)
  results = []
  for i, more in enumerate(([], ["--chunk", "1"], ["--resume"])):
    out = str(tmp_path / f"{i}.mkv")
    flags = ["--codec", "ffv1", *more]
    assert cli.main(["process", str(recurrent), str(path), out, *flags]) == 0
    results.append(np.stack([f.image for f in read.frames(out)]))
  assert results[0].shape == (12, 80, 100, 3)
  for other in results[1:]:
    np.testing.assert_array_equal(other, results[0])


def write_clip(path, clip):
  with write.Writer(path, fps=10) as writer:
    for frame in clip:
      writer.append(frame)


def test_options_are_checked(workdirs):
  assert stage_lib.load(str(workdirs["denoise"]), {"sigma": 10.0})
  with pytest.raises(errors.UserError, match="sigma"):
    stage_lib.load(str(workdirs["denoise"]), {"sigm": 10.0})
  for option in ("fps", "rate"):
    with pytest.raises(errors.UserError, match=option):
      stage_lib.load(str(workdirs["denoise"]), {option: 4})
  for wrong in (
    {"rate": 1},
    {"rate": 2.0},
    {"rate": 10},
    {"rate": 2, "fps": 9},
  ):
    with pytest.raises(errors.UserError, match="one becomes, 2 to 9"):
      stage_lib.load("interpolate", wrong)


def test_weights_as_they_are_shipped(workdirs, tmp_path):
  path = tmp_path / "denoise.safetensors"
  zoo_main.export(str(workdirs["denoise"]), path)
  model, shipped = sampler_lib.load(workdirs["denoise"]), zoo.load(str(path))
  assert (
    shipped.generator == model.generator and shipped.step == model.step == 2
  )
  assert shipped.task.name == "denoise"
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-8),
    shipped.params,
    model.params,
  )
  assert (
    path.stat().st_size
    < 2.2 * sum(x.size for x in jax.tree.leaves(model.params)) + 20_000
  )
  assert not list(tmp_path.glob(".*"))
  with pytest.raises(errors.UserError, match="the weights"):
    zoo.load("denoize")


class Plain(nn.Module):
  """A generator that says no more than docs/contracts.md asks for."""

  align = 1
  halo = (0, 0, 0)

  def noise_spec(self, seconds):
    return {}

  @nn.compact
  def __call__(self, given, z, times):
    return given["video"] + 0.1


def of(generator):
  task = tasks.create({"name": "denoise", "options": {}})
  sampler = sampler_lib.Sampler(
    generator=generator, params={}, step=0, task=task, times=(), resolution=8
  )
  return stage_lib.Stage(name="of", sampler=sampler, options={})


def test_a_generator_of_the_least_contract(clip):
  stage = of(Plain())
  assert stage.cost == stream.Stage.cost and not stage.recurrent
  got = run(stage, clip // 2, tile=0)
  assert abs((got - clip // 2).mean() - 12.75) < 0.5


def test_what_a_generator_lacks_is_said_once(monkeypatch):
  class Blind(nn.Module):
    align = 1

  class Forgetful(Plain):
    def apply_step(self, params, given, state, z, times):
      pass

  for kind, words in (
    (Blind, r"'test_footage' .* not define `halo` \(pixels, frames before"),
    (Forgetful, r"not define `margin` \(pixels that one frame"),
  ):
    monkeypatch.setattr(zoo, "load", lambda name, kind=kind: of(kind()).sampler)
    with pytest.raises(errors.UserError, match=words):
      stage_lib.load("denoise", {})


def test_an_error_of_a_generator_is_not_swallowed(clip):
  class Wrong(Plain):
    @property
    def cost(self):
      return self.no_such_field

  with pytest.raises(flax.errors.DescriptorAttributeError):
    run(of(Wrong()), clip, tile=0)


def test_a_generator_of_noise_takes_no_footage(tmp_path):
  workdir = tmp_path / "run"
  flags = [
    "--config.total=1steps",
    "--config.evals={}",
    "--config.cadence.sample=0steps",
  ]
  arguments = [
    "--config",
    "configs/smoke.py:model=mlp",
    "--workdir",
    str(workdir),
  ]
  assert cli.main(["train", *arguments, *flags]) == 0
  with pytest.raises(errors.UserError, match="vidgan generate"):
    stage_lib.load(str(workdir), {})


@pytest.mark.parametrize(
  ("task", "masks"),
  [("inpaint", True), ("colorize", True), ("predict", True), ("lips", True),
   ("denoise", False), ("interpolate", False), ("super_resolve", False)],
)  # fmt: skip
def test_who_looks_at_a_mask(task, masks):
  task = tasks.create({"name": task, "options": {}})
  sampler = types.SimpleNamespace(task=task)
  stage = stage_lib.Stage(name="bare", sampler=sampler, options={})
  assert stage.masks == masks


def test_what_needs_a_mask_says_so_before_it_starts(tmp_path, capsys):
  source, out = tmp_path / "a.mp4", tmp_path / "b.mp4"
  write.write(source, np.full((2, 32, 32, 3), 90, np.uint8))
  argv = ["process", "colorize", str(source), str(out)]
  assert cli.main(argv) == 0
  said = capsys.readouterr().err
  missing = said.index("colorize: no colour is given")
  assert missing < said.index("colorize: compiling for 2 frames")
  argv[1] = "inpaint"
  assert cli.main([*argv, "--overwrite"]) == 1
  said = capsys.readouterr().err
  assert "--mask hide.png" in said and "compiling" not in said


def test_what_is_loaded_is_said_while_it_takes_time(monkeypatch, capsys):
  monkeypatch.setattr(stage_lib, "load", lambda *_: time.sleep(1.3))
  process._model("runs/x2", {})
  assert capsys.readouterr().err == "loading runs/x2\n"


@pytest.mark.parametrize("name", zoo.names())
def test_shipped_weights(name):
  """Each is small, has its card, and starts from a task that exists."""
  model = zoo.load(name)
  assert (zoo.FOLDER / f"{name}.safetensors").stat().st_size < 3e6
  card = (zoo.FOLDER / f"{name}.md").read_text()
  for word in ("data", "figures", "limits", "vidgan train"):
    assert word in card.lower(), word
  assert name.startswith(model.task.name) or "-" in name
