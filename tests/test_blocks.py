"""Every shell block of the documents, executed as printed, in a clean shell.

In a copy of the repository with a few small files under the names that the
documents use. Its `vidgan` trains for two steps with networks of a few channels
and serves a study to one rater; its suite is one test. All else is as it is.
"""

import os
import pathlib
import re
import shutil
import site
import subprocess
import sys

import documents
import numpy as np
from PIL import Image
import pytest

from vidgan_jax.video import write

pytestmark = pytest.mark.slow
# Document -> blocks that are marked as not run.
NOT_RUN = {
  "README.md": 3,
  "CONTRIBUTING.md": 1,
  "docs/metrics.md": 3,
  "docs/editing.md": 1,
  "docs/study.md": 0,
  "docs/results.md": 23,
}
COMMAND = """\
import sys

from vidgan_jax import cli
from vidgan_jax.study import serve

SMALL = {"widths": (4, 4), "blocks": 1}
TINY = {  # Of the generator and of the discriminator.
  "continuous": (SMALL | {"style_dim": 8}, SMALL | {"joint": 4}),
  "trunk": ({"width": 8, "blocks": 1}, {"width": 8}),
}


def small(words):
  text = " ".join(words)
  trunk = "video_to_video" in text or "translate" in text
  name = "trunk" if trunk else "continuous"
  evals = {"frd_random": {"num": 8}}
  if "quickstart" in text:
    evals["oracle"] = {"num": 8}
  fields = {
    "total": "2steps",
    "batch": 4,
    "evals": evals if name == "continuous" else {},
    "penalties": {},
    "augment.policy": "",
    "model.generator": TINY[name][0],
    "model.discriminator": TINY[name][1],
    **{f"cadence.{k}": "0steps" for k in ("sample", "eval", "save")},
  }
  return [f"--config.{name}={value}" for name, value in fields.items()]


def serve_one_rater(server):
  token = server.answers.join()
  plan, _ = server.answers.progress(token)
  for trial in range(len(plan)):
    server.answers.answer(token, trial, "left", 1.0, 0)


if __name__ == "__main__":
  words = sys.argv[1:]
  serve.Server.serve_forever = serve_one_rater
  sys.exit(cli.main(words + (small(words) if words[0] == "train" else [])))
"""


def film(path, frames=16, size=64, fps=8, shots=1, width=None, seed=0):
  """Coarse noise that moves by a pixel a frame; another one in each shot."""
  path.parent.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(seed)
  parts = []
  for _ in range(shots):
    rows = -(-size // 8), -(-(width or size) // 8), 3
    texture = rng.integers(0, 256, rows).astype(np.uint8)
    texture = texture.repeat(8, 0).repeat(8, 1)[:size, : width or size]
    parts += [np.roll(texture, t, 1) for t in range(frames)]
  write.write(path, np.stack(parts), fps)


def make_files(root):
  """What the documents suppose that a reader has."""
  for name in ("FOLDER_OF_VIDEOS", "FOLDER_OF_GOOD_VIDEOS"):
    for i in range(3):
      film(root / name / f"{i}.mp4", 20, shots=10, seed=i)
  # Frames of one shot; the first is as long as `--start 10 --end 20` wants.
  film(root / "noisy.mp4", 21, size=32, fps=1)
  film(root / "small.mp4", 4, size=32)
  film(root / "in.mp4", 8, size=32, fps=15)
  film(root / "wide.mp4", 4, size=360, width=640)
  (root / "wide.mp4").rename(root / "in.mkv")  # What is in it counts.
  mask = np.zeros((32, 32), np.uint8)
  mask[8:16, 8:16] = 255
  Image.fromarray(mask).save(root / "hide.png")
  for i, name in enumerate(("drawing", "a", "b")):
    picture = Image.new("RGB", (48, 48))
    picture.paste((214, 27, 27), (8 * i, 8, 8 * i + 16, 24))  # a disc's colour
    picture.save(root / f"{name}.png")
  for folder, num in (("clips", 8), ("OUT", 8), ("REAL", 8), ("FOLDER", 2)):
    for i in range(num):
      film(root / folder / f"{i}.mp4", seed=i)
  for folder in ("restored", "originals", "REF", "runs/ours/clips"):
    for i in range(8):
      film(root / folder / f"{i}.mp4", seed=i)
  shutil.copytree(root / "runs/ours/clips", root / "theirs/clips")


def make_environment(root):
  """What launch/env.sh leaves, with the packages of this environment."""
  venv = root / ".venv"
  subprocess.run(
    [sys.executable, "-m", "venv", "--without-pip", venv], check=True
  )
  python = venv / "bin" / "python"
  [packages] = venv.glob("lib/python*/site-packages")
  paths = [str(root), *site.getsitepackages()]
  (packages / "outer.pth").write_text("\n".join(paths))
  (venv / "bin" / "vidgan").write_text(f"#!{python}\n{COMMAND}")
  (venv / "bin" / "vidgan").chmod(0o755)
  (venv / "bin" / "ruff").symlink_to(
    pathlib.Path(sys.executable).parent / "ruff"
  )
  setup = (root / "setup.py").read_bytes()
  digest = subprocess.run(["cksum"], input=setup, capture_output=True).stdout
  mark = [str(venv), digest.decode().strip(), "tf", "test"]
  (venv / "installed").write_text("\n".join(mark) + "\n")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """The copy. The documents share it, in the order of `NOT_RUN`."""
  root = tmp_path_factory.mktemp("clone").resolve()
  ignore = shutil.ignore_patterns("__pycache__")
  for folder in ("vidgan_jax", "configs", "launch", "benchmarks"):
    shutil.copytree(documents.ROOT / folder, root / folder, ignore=ignore)
  for name in ("setup.py", "pyproject.toml", "README.md"):
    shutil.copy(documents.ROOT / name, root)
  for name in ("losses/test_losses.py", "test_rooms.py"):
    path = root / "tests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('"""One."""\n\n\ndef test_one():\n  pass\n')
  make_files(root)
  make_environment(root)
  return root


def shell(root, script):
  """Runs a script in a shell that knows nothing; returns all that it prints."""
  env = {
    "HOME": str(root / "home"),
    "PATH": os.defpath,
    "TERM": "dumb",
    "VIDGAN_EXTRAS": "tf",  # Also where there is an accelerator.
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
  }
  result = subprocess.run(
    ["bash", "--noprofile", "--norc", "-eu"],
    cwd=root,
    env=env,
    input=script,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    timeout=1800,
  )
  assert result.returncode == 0, result.stdout[-6000:]
  noise = re.findall(
    r"^[IWEF]\d{4} .*|.*(?:oneDNN|InitializeLog|Very slow).*",
    result.stdout,
    re.M,
  )
  assert not noise, noise
  return result.stdout


@pytest.mark.parametrize("path", NOT_RUN)
def test_blocks_do_what_they_say(path, root):
  printed = documents.printed((documents.ROOT / path).read_text())
  assert sum(bool(why) for _, why in printed) == NOT_RUN[path]
  script = "".join(
    f"echo '$ block {i}' </dev/null\n{block}"
    for i, (block, why) in enumerate(printed)
    if not why
  )
  if path.startswith("docs/"):  # They are read after README.
    script = f". .venv/bin/activate\n{script}"
    shutil.rmtree(root / "studies", ignore_errors=True)  # README's own.
  # A command may not read the rest of the script as its input.
  out = shell(root, f"main() {{\n{script}\n}}\nmain </dev/null\n")
  assert out.count("$ block") == len(printed) - NOT_RUN[path]


def test_no_document_has_other_blocks():
  """All that have shell blocks are known; nothing else looks like one."""
  for path in documents.ROOT.glob("**/*.md"):
    name = str(path.relative_to(documents.ROOT))
    if name.startswith((".", "vidgan_jax/zoo")):
      continue
    text = path.read_text()
    assert (name in NOT_RUN) == bool(documents.printed(text)), name
    assert not re.search(r"^```(bash|shell|console)", text, re.M), name


def test_what_the_quickstart_prints_next(root):
  text = (root / "launch" / "quickstart.sh").read_text()
  [block] = re.findall(r"^Next: .*?\n(.*?)^END", text, re.M | re.S)
  assert block.count("vidgan") == 2
  out = shell(root, block)
  assert "is finished already" in out and "Finished already" in out
