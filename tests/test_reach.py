"""How few files an addition takes: each is made, trained, drawn and measured.

The files of tests/reach are written into a copy of the package.
"""

import json
import pathlib

import extended
import numpy as np

from vidgan_jax.data import sound
from vidgan_jax.train import writer
from vidgan_jax.video import read

REACH = pathlib.Path(__file__).parent / "reach"
PENALTIES = "vidgan_jax/losses/penalties.py"
DRIFT = '''

def drift(real: jax.Array, fake: jax.Array, means: jax.Array) -> jax.Array:
  """E[D(x)^2]: scores stay near zero (Karras et al. 2018, appendix A.1)."""
  del fake, means
  return jnp.mean(jnp.square(real))
'''


def text(name):
  return (REACH / name).read_text()


def use(root, folder, *flags, frames=4, ask=(), config="smoke"):
  """Trains two steps, draws three clips and measures the generator.

  Returns:
    The losses of a step.
  """
  run, clips = folder / "run", folder / "clips"
  train = extended.training(run, "evals={}", *flags, config=config)
  draw = ["generate", str(run), "--out", str(clips), "--num", "3", *ask]
  draw += ["--frames", str(frames), "--scale", "1"]
  measure = ["evaluate", str(run), "--metrics"]
  measure += ["swd(num=8,patches=512,frames=2),speed(num=2,repeats=1)"]
  extended.run(root, train, draw, measure)
  values = json.loads((run / "eval" / "2.json").read_text())
  assert values["swd"] > 0 and values["speed/clips_per_second"] > 0
  videos = [list(read.frames(path)) for path in sorted(clips.iterdir())]
  assert [len(video) for video in videos] == [frames] * 3
  return next(row for row in writer.read(run) if "d/loss" in row)


def test_a_penalty_and_a_loss_on_codes(tmp_path):
  drift = {PENALTIES: (extended.ROOT / PENALTIES).read_text() + DRIFT}
  info = {"vidgan_jax/models/info.py": text("models/info.py")}
  root = extended.copy(tmp_path / "copy", drift | info)
  assert extended.changed(root) == sorted(drift | info)
  row = use(
    root,
    tmp_path,
    "model.name=info",
    "model.variant=S",
    "penalties={'drift': {'weight': 0.001}}",
    "reconstruction={'info': {'weight': 0.1}}",
  )
  assert row["d/drift"] > 0 and row["g/info"] > 0


def test_a_loss_of_an_encoder(tmp_path):
  name = "vidgan_jax/models/encoder.py"
  root = extended.copy(tmp_path / "copy", {name: text("models/encoder.py")})
  assert extended.changed(root) == [name]
  row = use(
    root,
    tmp_path,
    "model.name=encoder",
    "model.variant=S",
    "reconstruction={'kl': {'weight': 0.1}}",
  )
  assert row["g/kl"] > 0


def test_a_recurrent_model_draws_longer_clips(tmp_path):
  name = "vidgan_jax/models/mocogan.py"
  root = extended.copy(tmp_path / "copy", {name: text("models/mocogan.py")})
  assert extended.changed(root) == [name]
  use(root, tmp_path, "model.name=mocogan", "model.variant=S", frames=24)
  # A text and a sound reach both networks, as with every such model.
  tests = root / "tests"
  tests.mkdir()
  for path in ("browser.py", "conftest.py", "test_rooms.py"):
    (tests / path).write_text((extended.ROOT / "tests" / path).read_text())
  pytest = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
  out = extended.python(root, *pytest, "tests/test_rooms.py", "-k", "mocogan")
  assert "skipped" not in out, out


def test_a_task_of_sounds(tmp_path):
  files = {
    "configs/sound.py": text("configs/sound.py"),
    "vidgan_jax/tasks/sound.py": text("tasks/sound.py"),
  }
  root = extended.copy(tmp_path / "copy", files)
  assert extended.changed(root) == sorted(files) and len(files) <= 3
  path = tmp_path / "sound.npy"
  np.save(path, np.ones((6, sound.FEATURES), np.float32))
  use(
    root,
    tmp_path,
    "model.generator={'widths': (8,)}",
    "model.discriminator={'widths': (8,)}",
    config="sound",
    frames=6,  # As many as the sound has, and more than in training.
    ask=("--ask", f"sound={path}"),
  )
