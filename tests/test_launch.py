"""The scripts of launch/: what the quickstart shows, and its environment."""

import os
import pathlib
import subprocess
import sys

import documents
import numpy as np
from PIL import Image
import pytest

sys.path.insert(0, str(documents.ROOT / "launch"))

import look  # noqa: E402

VALUES = {
  "oracle/generated_clips": 128.0,
  "oracle/count_accuracy": 116 / 128,
  "oracle/class_accuracy": 1.0,
  "oracle/speed_ratio": 0.912,
}


def test_figures_in_words():
  count, right, speed = look.words(VALUES)
  assert count.startswith("116 of 128 clips show the right number of shapes")
  assert right.startswith("128 of 128 clips show the shape that was asked for")
  assert "0.91 times" in speed
  assert look.words(VALUES | {"oracle/speed_ratio": "NaN"})[2].startswith("No")


def test_still_is_drawn_in_half_blocks(tmp_path, monkeypatch):
  """The upper pixel is the character's colour, the lower its background."""
  size = os.terminal_size((4, 24))
  monkeypatch.setattr(os, "get_terminal_size", lambda: size)
  picture = np.zeros((8 * look.STRIPS, 16, 3), np.uint8)
  picture[:8] = 255, 0, 0  # The first strip of the two that are shown.
  picture[8:16] = 0, 0, 255
  Image.fromarray(picture).save(tmp_path / "a.png")
  lines = look.still(tmp_path / "a.png").split("\n")
  assert len(lines) == 2 and all(line.count("▀") == 4 for line in lines)
  assert "38;2;255;0;0" in lines[0] and "48;2;0;0;255" in lines[1]


@pytest.fixture
def environment(tmp_path):
  """Runs env.sh on a tree whose interpreter is a stub that logs its calls."""
  (tmp_path / "launch").mkdir()
  for name in ("launch/env.sh", "setup.py"):
    (tmp_path / name).write_text((documents.ROOT / name).read_text())
  stub = tmp_path / "python"
  # venv copies the stub into the environment; pip writes what it was asked.
  stub.write_text(
    "#!/bin/sh\n"
    f'echo "$@" >> {tmp_path}/log\n'
    'case "$*" in\n'
    '  "-m venv"*) for last; do :; done; mkdir -p "$last/bin"\n'
    f"    cp {stub} $last/bin/python ;;\n"
    "esac\n"
  )
  stub.chmod(0o755)

  def run(folder=tmp_path):
    (tmp_path / "log").write_text("")
    env = {k: v for k, v in os.environ.items() if not k.startswith("VIDGAN_")}
    env |= {"VIDGAN_PYTHON": str(stub), "VIDGAN_EXTRAS": "tf"}
    subprocess.run(
      ["bash", "-euc", ". launch/env.sh"], cwd=folder, env=env, check=True
    )
    log = (tmp_path / "log").read_text()
    return "-m venv" in log, "-m pip install" in log

  return run


def test_environment_is_made_once_where_it_stays(environment, tmp_path):
  assert environment() == (True, True)
  assert environment() == (False, False)
  # One that a stop has left half made has no mark.
  (tmp_path / ".venv" / "installed").unlink()
  assert environment() == (True, True)
  # In a clone that was moved the scripts point to where it was.
  moved = tmp_path / "moved"
  moved.mkdir()
  for name in ("launch", "setup.py", ".venv"):
    (tmp_path / name).rename(moved / name)
  assert environment(moved) == (True, True)
  # Another setup.py asks for an install, not for another environment.
  (moved / "setup.py").write_text("# Another.")
  assert environment(moved) == (False, True)


def test_folders_of_a_user_do_not_change_what_ruff_says(tmp_path):
  """After the quickstart there is runs/, named as a module of the tests."""
  ruff = pathlib.Path(sys.executable).parent / "ruff"
  if not ruff.exists():
    pytest.skip("ruff is not installed: it comes with the extra 'test'")
  settings = (documents.ROOT / "pyproject.toml").read_text()
  (tmp_path / "pyproject.toml").write_text(settings)
  (tmp_path / "tests").mkdir()
  text = (documents.ROOT / "tests" / "verbs" / "test_generate.py").read_text()
  assert "import runs\n" in text
  (tmp_path / "tests" / "test_generate.py").write_text(text)
  for folder in ("vidgan_jax", "runs"):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "__init__.py").touch()
    done = subprocess.run([ruff, "check", "tests"], cwd=tmp_path)
    assert done.returncode == 0, folder
