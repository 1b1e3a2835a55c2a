"""A run of version 0.1 is sampled and goes on.

workdir_0_1/ was written by `vidgan train` of that version with config_0_1.py,
without samples and TensorBoard files; frames_0_1.png is what its `vidgan
generate` drew of it. None of the three is ever made anew: what they hold is
what users have. Where the layout of the state changes, it is read as it was.
"""

import json
import pathlib
import shutil

import numpy as np
from PIL import Image
import pytest

from vidgan_jax import cli

HERE = pathlib.Path(__file__).parent
# What the third step of version 0.1 logged.
THIRD = {
  "augment_p": 0.20000000298023224,
  "d/ahead": 0.001798168639652431,
  "d/fake": 0.02730908989906311,
  "d/grad_norm": 4.931511878967285,
  "d/lecam": 0.09134747087955475,
  "d/loss": 0.6182434558868408,
  "d/r1": 2.8605456352233887,
  "d/real": 0.19859883189201355,
  "ema_decay": 0.009843134321272373,
  "g/grad_norm": 2.0494132041931152,
  "g/loss": 0.8088998794555664,
  "skipped": 0.0,
}


@pytest.fixture
def workdir(tmp_path):
  return shutil.copytree(HERE / "workdir_0_1", tmp_path / "run")


def test_it_is_sampled(workdir, tmp_path):
  out = tmp_path / "frames.png"
  words = ["--out", str(out), "--strip", "--num", "4", "--scale", "1"]
  assert cli.main(["generate", str(workdir), *words]) == 0
  with Image.open(out) as made, Image.open(HERE / "frames_0_1.png") as want:
    made, want = np.int32(made), np.int32(want)
  assert want.std() > 9  # Not grey, which any network would draw.
  assert np.abs(made - want).max() <= 1  # Rounded to other bytes.


def test_it_goes_on(workdir):
  """One more step, with the config as its owner has it."""
  config = f"{HERE}/config_0_1.py:total=3steps"
  where = ["--config", config, "--workdir", str(workdir)]
  assert cli.main(["train", *where]) == 0
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  rows = {row["step"]: row for row in map(json.loads, lines)}
  assert list(rows) == [1, 2, 3]
  made = {name: rows[3][name] for name in THIRD}
  # As far as other processors round (tests/train/test_golden.py).
  np.testing.assert_allclose([*made.values()], [*THIRD.values()], 1e-4)
  kept = {path.name for path in (workdir / "checkpoints").iterdir()}
  assert kept == {"2", "3"}
