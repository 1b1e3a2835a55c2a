"""What the documents say: commands parse, files exist, examples train."""

import json
import pathlib
import re
import shlex
import shutil
import subprocess

import documents
import extended
import pytest
import yaml

from vidgan_jax import cli

ROOT = documents.ROOT
DOCS = [
  "README.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  "SECURITY.md",
  "launch/README.md",
  *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").glob("*.md"))),
]
SCRIPTS = sorted(
  str(p.relative_to(ROOT))
  for p in (ROOT / "launch").iterdir()
  if p.suffix in (".sh", ".sbatch")
)
CODE = [
  str(p.relative_to(ROOT))
  for folder in ("configs", "vidgan_jax")
  for p in sorted((ROOT / folder).rglob("*.py"))
]


def read(path):
  return (ROOT / path).read_text()


def test_check_finds_mistakes():
  train = "train --config configs/smoke.py --workdir w"
  for right in (train + " --config.batch=16", "generate --help"):
    documents.check(shlex.split(right))
  for wrong in (
    "trian",
    "generate w",
    "evaluate w --stap 3",
    "generate w --out x --vary colour",
    "prepare a b --siez 3",
    train + " --config.bach=16",
    train.replace("smoke", "smoky"),
    train.replace("smoke.py", "smoke.py:res=3"),
  ):
    with pytest.raises(AssertionError):
      documents.check(shlex.split(wrong))


@pytest.mark.parametrize("path", [*DOCS, *SCRIPTS, *CODE])
def test_commands_parse(path):
  text = read(path)
  if path.endswith(".md"):
    text = "\n".join(documents.blocks(text))
  for words in documents.commands(text):
    if not any(word.startswith("$") for word in words[:3]):
      documents.check(words)


def test_there_are_commands():
  count = lambda path: len(documents.commands(read(path)))
  assert count("README.md") >= 8
  assert count("launch/quickstart.sh") >= 5
  assert all(count(path) for path in CODE if path.startswith("configs/"))


@pytest.mark.parametrize("path", DOCS)
def test_what_is_named_exists(path):
  text = read(path)
  folder = (ROOT / path).parent
  for link in re.findall(r"\]\(([^)#]+)", text):
    if not link.startswith(("http://", "https://")):
      assert (folder / link).exists(), f"{path} links to {link}"
  made = set(EXAMPLES)
  rooms = "configs|launch|colab|docs|benchmarks|tests|vidgan_jax"
  for name in re.findall(rf"\b(?:{rooms})/[\w./]+\.(?:py|sh|md|ipynb)", text):
    assert name in made or "NAME" in name or (ROOT / name).exists(), (
      f"{path} names {name}"
    )
  for verb in re.findall(r"`vidgan ([a-z]+)", text):
    assert verb in cli._VERBS, f"{path} names vidgan {verb}"


def test_tables_are_whole():
  text = read("README.md")
  for path in (ROOT / "configs").glob("*.py"):
    assert f"`{path.name}`" in text, f"README's table lacks {path.name}"
  text = read("launch/README.md")
  for path in (ROOT / "launch").iterdir():
    assert f"`{path.name}`" in text or path.name == "README.md", path.name
  text = read("docs/results.md")
  for path in (ROOT / "benchmarks").glob("*.py"):
    assert f"benchmarks/{path.name}" in text, path.name


@pytest.mark.parametrize("path", DOCS)
def test_text_is_of_the_project_alone(path):
  assert not re.search(r"/tmp/|/work/|/home/|/root/|TODO|FIXME", read(path))


@pytest.mark.parametrize("path", SCRIPTS)
def test_scripts_parse(path):
  subprocess.run(["bash", "-n", str(ROOT / path)], check=True)
  text = read(path)
  assert text.splitlines()[1].startswith("# ") or path == "launch/env.sh"
  assert "XLA_FLAGS" not in text


def test_job_set():
  job = yaml.safe_load(read("launch/jobset.yaml"))
  assert job["kind"] == "JobSet"
  [part] = job["spec"]["replicatedJobs"]
  spec = part["template"]["spec"]
  [container] = spec["template"]["spec"]["containers"]
  env = {e["name"]: e.get("value") for e in container["env"]}
  count = spec["parallelism"]
  assert spec["completions"] == count == int(env["JAX_NUM_PROCESSES"])
  host = f"{job['metadata']['name']}-{part['name']}-0-0"
  assert env["JAX_COORDINATOR_ADDRESS"].split(".")[0] == host
  [words] = documents.commands(container["command"][-1].removeprefix("exec "))
  documents.check(words)


# ----------------------------------------------------- examples of contracts

EXAMPLES = dict(
  re.findall(
    r"^`(vidgan_jax/\w+/\w+\.py)`:\n\n```python\n(.*?)^```",
    read("docs/contracts.md"),
    re.M | re.S,
  )
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """A copy of the package with the examples in it."""
  assert not any((ROOT / name).exists() for name in EXAMPLES)
  return extended.copy(tmp_path_factory.mktemp("extended"), EXAMPLES)


def _train(root, workdir, *flags):
  extended.run(root, extended.training(workdir, *flags))
  return pathlib.Path(workdir)


def test_examples_train(root, tmp_path):
  assert len(EXAMPLES) == 7
  workdir = _train(
    root,
    tmp_path / "run",
    "data.name=bars",
    "data.options={'size': 32}",
    "model.name=vae",  # Its halves are `tiny`.
    "model.variant=S",
    "reconstruction={'kl': {'weight': 0.01}, 'l1': {}}",
    "objective=smoothed",
    "evals={'brightness': {'num': 8}}",
  )
  result = (workdir / "eval" / "2.json").read_text()
  assert "brightness/generated" in result and "brightness/real" in result


def test_the_task_trains(root, tmp_path):
  _train(
    root,
    tmp_path / "run",
    "model.name=tiny",
    "model.variant=S",
    "task.name=first_frame",
    "evals={}",
  )


def test_the_model_of_a_given_clip_trains(root, tmp_path):
  workdir = _train(
    root,
    tmp_path / "run",
    "model.name=enlarge",
    "model.variant=S",
    "task.name=super_resolve",
    "data.memory=False",
    "reconstruction.l1.weight=1.0",
    "evals={'restoration': {'num': 2}}",
  )
  results = [
    json.loads((workdir / "eval" / f"{step}.json").read_text())
    for step in (0, 2)
  ]
  # It begins as its base, and leaves it.
  psnr, base = "restoration/psnr", "restoration/psnr/base"
  assert results[0][psnr] == pytest.approx(results[0][base], abs=1e-4)
  assert results[1][psnr] != pytest.approx(results[1][base], abs=1e-4)


def test_examples_keep_the_contracts(root):
  """Those that walk over the rooms' files."""
  shutil.copytree(ROOT / "tests", root / "tests", dirs_exist_ok=True)
  names = " or ".join(pathlib.Path(name).stem for name in EXAMPLES)
  # A source wants a line in a fixture there.
  names = f"({names}) and not layers and not bars"
  out = extended.python(
    root,
    *("-m", "pytest", "-q", "-p", "no:cacheprovider"),
    *("tests/test_rooms.py", "-k", names),
  )
  assert re.search(r"\b\d\d passed", out), out
