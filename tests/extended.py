"""A copy of the package with files of a user's own in it, and its commands."""

from collections.abc import Mapping
import filecmp
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
_FOLDERS = ("vidgan_jax", "configs")


def copy(root: pathlib.Path, files: Mapping[str, str]) -> pathlib.Path:
  """Copies package and configs to `root`, and writes files: path -> text."""
  ignore = shutil.ignore_patterns("__pycache__", "*.safetensors")
  for folder in _FOLDERS:
    shutil.copytree(ROOT / folder, root / folder, ignore=ignore)
  for name, text in files.items():
    assert max(map(len, text.splitlines())) <= 80
    (root / name).write_text(text)
  return root


def changed(root: pathlib.Path) -> list[str]:
  """Files of a copy that were added or edited."""
  paths = [
    path.relative_to(root)
    for folder in _FOLDERS
    for path in (root / folder).rglob("*.py")
  ]
  same = lambda path: (
    (ROOT / path).exists() and filecmp.cmp(ROOT / path, root / path, False)
  )
  return sorted(path.as_posix() for path in paths if not same(path))


def run(root: pathlib.Path, *commands: list[str]) -> None:
  """Runs `vidgan ...` commands of a copy, one after the other, in a process."""
  code = (
    "import json, sys\n"
    "from vidgan_jax import cli\n"
    "for words in json.loads(sys.argv[1]):\n"
    "  if cli.main(words): sys.exit(' '.join(words))\n"
  )
  python(root, "-c", code, json.dumps(commands))


def python(root: pathlib.Path, *words: str) -> str:
  """Runs Python in a copy; what it printed.

  Raises:
    AssertionError: it failed.
  """
  result = subprocess.run(
    [sys.executable, *words],
    cwd=root,
    env=os.environ | {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  failed = f"{shlex.join(words)}\n{result.stdout}{result.stderr}"
  assert result.returncode == 0, failed
  return result.stdout


def training(workdir: pathlib.Path, *flags: str, config="smoke") -> list[str]:
  """The words of two steps of a config, without labels and augmentation."""
  return [
    *("train", "--config", f"configs/{config}.py", "--workdir", str(workdir)),
    *("--config.penalties={}", "--config.augment.policy="),
    *(f"--config.{flag}" for flag in flags),
    *("--config.total=2steps", "--config.model.num_classes=0"),
  ]
