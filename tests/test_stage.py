"""Trained generators on real footage: from config to processed file."""

import dataclasses
import fractions

import jax
import numpy as np
import pytest

from vidgan_jax import cli
from vidgan_jax import config as config_lib
from vidgan_jax import generate
from vidgan_jax import stage as stage_lib
from vidgan_jax import zoo
from vidgan_jax.video import read
from vidgan_jax.video import stream
from vidgan_jax.video import write

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


def train(folder, task, *flags):
  """A workdir of a tiny model of a task, after two steps."""
  workdir = folder / task
  flags = [f"--config.{flag}" for flag in (*TINY, *flags)]
  arguments = f"{CONFIG}:task={task},data=sprites,total=2steps"
  code = cli.main(
    ["train", "--config", arguments, "--workdir", str(workdir), *flags]
  )
  assert code == 0
  return workdir


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
  folder = tmp_path_factory.mktemp("stage")
  return {name: train(folder, name) for name in ("denoise", "enhance")}


@pytest.fixture(scope="module")
def clip():
  rng = np.random.default_rng(0)
  small = rng.integers(0, 256, (12, 8, 10, 3)).astype(np.uint8)
  return small.repeat(5, 1).repeat(5, 2)  # 40 x 50


def shaken(stage):
  """The same stage with a last layer that is not zero."""
  params = jax.tree.map(
    lambda x: x + 0.05 * np.random.default_rng(1).standard_normal(x.shape),
    stage.model.params,
  )
  model = stage.model.with_params(params, 0)
  return dataclasses.replace(stage, model=model)


def run(stage, clip, tile, chunk=0):
  frames = [
    stream.Frame(
      time=fractions.Fraction(i, 10),
      duration=fractions.Fraction(1, 10),
      image=x,
    )
    for i, x in enumerate(clip)
  ]
  runner = stream.Runner(stage, tile=tile, chunk=chunk)
  return np.stack([f.image for f in runner(frames)]).astype(int)


@pytest.mark.parametrize("task", ["denoise", "enhance"])
def test_tiles_and_chunks_are_the_whole(workdirs, clip, task):
  stage = shaken(stage_lib.load(str(workdirs[task]), {}))
  whole = run(stage, clip, tile=64, chunk=32)
  assert np.abs(whole - clip).mean() > 1
  # Equal but for a level of rounding.
  assert np.abs(run(stage, clip, tile=16, chunk=3) - whole).max() <= 1


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


def write_clip(path, clip):
  with write.Writer(path, fps=10) as writer:
    for frame in clip:
      writer.append(frame)


def test_options_are_checked(workdirs):
  assert stage_lib.load(str(workdirs["denoise"]), {"sigma": 10.0})
  with pytest.raises(config_lib.ConfigError, match="sigma"):
    stage_lib.load(str(workdirs["denoise"]), {"sigm": 10.0})


def test_weights_as_they_are_shipped(workdirs, tmp_path):
  path = tmp_path / "denoise.safetensors"
  zoo.export(str(workdirs["denoise"]), path)
  model, shipped = generate.load(workdirs["denoise"]), zoo.load(str(path))
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
  with pytest.raises(config_lib.ConfigError, match="the weights"):
    zoo.load("denoize")


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
  with pytest.raises(config_lib.ConfigError, match="vidgan generate"):
    stage_lib.load(str(workdir), {})


@pytest.mark.parametrize("name", zoo.names())
def test_shipped_weights(name):
  """Each is small, has its card, and starts from a task that exists."""
  model = zoo.load(name)
  assert (zoo.FOLDER / f"{name}.safetensors").stat().st_size < 3e6
  card = (zoo.FOLDER / f"{name}.md").read_text()
  for word in ("data", "figures", "limits", "vidgan train"):
    assert word in card.lower(), word
  assert name.startswith(model.task.name)
