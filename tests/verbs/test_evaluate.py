"""`vidgan evaluate`, and the evaluators that every run can use."""

import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap
import time
import types

import footage
import hostile
import numpy as np
import processes
import pytest
import runs

from vidgan_jax import cli
from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax.data import pipeline
from vidgan_jax.data import reference
from vidgan_jax.data import sprites
from vidgan_jax.evals import distribution
from vidgan_jax.evals import fd_self
from vidgan_jax.evals import frd_random
from vidgan_jax.evals import harness
from vidgan_jax.evals import speed
from vidgan_jax.reports import evaluation
from vidgan_jax.train import writer
from vidgan_jax.verbs import evaluations

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = (
  "model.generator.widths=(8,)",
  "model.discriminator.widths=(8,)",
  "cadence.sample=0steps",
  "cadence.eval=0steps",
  "cadence.save=2steps",
  "cadence.keep=9",
  "total=4steps",
  "evals={'frd_random': {'num': 4}, 'speed': {'num': 2, 'repeats': 1}}",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A run of four steps with checkpoints of the steps 2 and 4."""
  workdir = tmp_path_factory.mktemp("evaluate") / "run"
  runs.train(workdir, "smoke.py:model=mlp", *FLAGS)
  shutil.rmtree(workdir / "eval", ignore_errors=True)
  return workdir


@pytest.fixture
def workdir(trained, tmp_path):
  return shutil.copytree(trained, tmp_path / "run")


def run(*options):
  return cli.main(["evaluate", *map(str, options)])


def read(path):
  """Strict JSON: no bare NaN."""

  def refuse(name):
    raise AssertionError(f"{name} is no JSON")

  return json.loads(path.read_text(), parse_constant=refuse)


def error(capsys, *words):
  text = capsys.readouterr().err
  assert text.startswith("vidgan evaluate: ")
  for word in words:
    assert word in text, text
  assert "Traceback" not in text and "\n" not in text.rstrip("\n")


# ------------------------------------------------------------------ the verb


def test_the_newest_checkpoint(workdir, capsys):
  assert run(workdir) == 0
  text = capsys.readouterr().out
  assert "Step 4" in text and "frd_random" in text
  assert str(workdir / "eval" / "4.json") in text
  names = {p.name for p in (workdir / "eval").iterdir()}
  assert names == {"4.json", "report.html", "cache"}
  values = read(workdir / "eval" / "4.json")
  records = values.pop("records")
  assert values.pop("evaluators") == {
    "frd_random": {"num": 4},
    "speed": {"num": 2, "repeats": 1},
  }
  assert list(values) == [
    "step",
    *frd_random.NAMES.values(),
    "speed/clips_per_second",
    "speed/ms_per_frame",
    "speed/ms_per_single_clip",
    "speed/ms_to_first_frame",
    "speed/parameters",
    "speed/gflop_per_clip",
    "speed/peak_mib",
  ]
  assert values.pop("step") == 4
  assert list(records) == list(values)
  for name, record in records.items():
    assert record["value"] == values[name]
    assert set(record) == {
      *("value", "interval", "unit", "better", "num", "hash"),
      *("protocol", "note"),
    }
  record = records["frd_random"]
  assert record["num"] == {"real": 4, "generated": 4}
  assert record["protocol"]["generated"] == {"checkpoint": 4, "weights": "ema"}
  assert record["protocol"]["real"]["data"] == "sprites"
  assert "fewer clips than features" in record["note"]
  low, high = record["interval"]
  assert low <= record["value"] <= high


def test_results_add_up(workdir):
  path = workdir / "eval" / "4.json"
  assert run(workdir, "--metrics", "frd_random") == 0
  first = read(path)
  assert not any(name.startswith("speed") for name in first)
  first.pop("records")
  first.pop("evaluators")
  assert run(workdir, "--metrics", "frd_random", "--weights", "raw") == 0
  both = read(path)
  assert list(both.pop("evaluators")) == ["frd_random", "frd_random/raw"]
  assert set(both.pop("records")) == set(both) - {"step"}
  assert first.items() < both.items()
  raw = {name for name in both if name.endswith("/raw")}
  assert {n.removesuffix("/raw") for n in raw} == set(first) - {"step"}
  assert both["frd_random/raw"] != both["frd_random"]
  assert run(workdir, "--metrics", "speed") == 0
  assert both.items() < read(path).items()
  # The same again changes no number but the speed.
  assert run(workdir, "--metrics", "frd_random") == 0
  assert both.items() < read(path).items()


def test_all_checkpoints_and_one(workdir):
  assert run(workdir, "--all", "--metrics", "frd_random") == 0
  folder = workdir / "eval"
  assert {p.name for p in folder.glob("*.json")} == {"2.json", "4.json"}
  two, four = (read(folder / f"{step}.json") for step in (2, 4))
  assert (two["step"], four["step"]) == (2, 4)
  assert two["frd_random"] != four["frd_random"]
  shutil.rmtree(folder)
  assert run(workdir, "--step", 2, "--metrics", "frd_random") == 0
  assert {p.name for p in folder.glob("*.json")} == {"2.json"}
  assert read(folder / "2.json") == two


def test_one_checkpoint_by_its_folder(workdir, capsys):
  """Its results are the run's; nothing is written into it."""
  folder = workdir / "checkpoints" / "2"
  before = sorted(folder.rglob("*"))
  assert run(folder, "--metrics", "frd_random") == 0
  assert sorted(folder.rglob("*")) == before
  found = read(workdir / "eval" / "2.json")
  shutil.rmtree(workdir / "eval")
  assert run(workdir, "--step", 2, "--metrics", "frd_random") == 0
  assert read(workdir / "eval" / "2.json") == found
  assert run(folder.parent, "--metrics", "frd_random") == 0
  assert {p.name for p in folder.parent.iterdir()} == {"2", "4"}
  assert (workdir / "eval" / "4.json").exists()
  capsys.readouterr()
  assert run(folder, "--all") == 1
  error(capsys, "one checkpoint", "--all")


def test_what_is_not_finite_is_still_json(tmp_path):
  nan, inf = float("nan"), float("inf")
  path = pathlib.Path(harness.write(tmp_path, 3, {"a": nan, "b": -inf}))
  assert path == tmp_path / "eval" / "3.json"
  assert read(path) == {"step": 3, "a": "NaN", "b": "-Infinity"}
  harness.write(tmp_path, 3, {"a": 2.0, "c": 0.5})
  assert read(path) == {"step": 3, "a": 2.0, "b": "-Infinity", "c": 0.5}
  path.write_text('{"step": 3, "a"')  # The machine stopped.
  harness.write(tmp_path, 3, {"a": 1.0})
  assert read(path) == {"step": 3, "a": 1.0}
  assert [p.name for p in path.parent.iterdir()] == ["3.json"]


def test_a_run_and_an_evaluator_write_one_file(tmp_path):
  names = [f"v{i}" for i in range(40)]
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda name: harness.write(tmp_path, 3, {name: 1.0}), names))
  assert read(tmp_path / "eval" / "3.json").keys() == {"step", *names}


def test_mistakes(workdir, tmp_path, capsys):
  assert run(workdir, "--metrics", "frd_randm") == 1
  error(capsys, "'frd_randm'", "Did you mean 'frd_random'?")
  assert run(tmp_path / "nothing") == 1
  error(capsys, "does not exist", "workdir")
  assert run(workdir, "--step", 3) == 1
  error(capsys, "no checkpoint", "there is 2, 4")
  assert run(workdir, "--metrics", "oracle,,frd_random") == 1
  error(capsys, "oracle")
  assert not list(workdir.glob("eval/*.json"))
  config = config_lib.from_json((workdir / "config.json").read_text())
  config.evals = {}
  (workdir / "config.json").write_text(config_lib.to_json(config))
  assert run(workdir) == 1
  error(capsys, "names no evaluators", "--metrics", "frd_random", "speed")


def test_metrics_with_options(workdir, capsys):
  """Spelt as ops are; what the config says of them stays."""
  chosen = "frd_random(seed=7), swd(num=3, patches=512),"
  assert run(workdir, "--metrics", chosen) == 0
  values = read(workdir / "eval" / "4.json")
  assert values["evaluators"] == {
    "frd_random": {"num": 4, "seed": 7},
    "swd": {"num": 3, "patches": 512},
  }
  assert values["records"]["frd_random"]["protocol"]["seed"] == 7
  assert values["records"]["swd"]["protocol"]["patches"] == 512
  capsys.readouterr()
  for text, words in (
    ("fvd2048_16f", ("'fvd2048_16f'", "Did you mean 'fvd'?", "metrics.md")),
    ("frd", ("Did you mean 'frd_random'?",)),
    ("motion/order", ("'motion/order'", "Did you mean 'motion'?")),
    ("kvd2048_16f", ("Did you mean 'fvd'?",)),
    ("swd(patch=3)", ("--metrics: swd.patch", "Did you mean 'patches'?")),
    ("swd(3)", ("options have names",)),
    ("swd(num=n)", ("plain numbers or texts",)),
    ("swd,swd(num=3)", ("'swd' twice",)),
    ("swd,,memory", ("at character 5", "commas")),
    ("fvd(protocol='tfhab')", ("Did you mean 'tfhub'?",)),
  ):
    assert run(workdir, "--metrics", text) == 1
    error(capsys, *words)


def test_metrics_of_files_with_options(tmp_path):
  rng = np.random.default_rng(0)
  for name in ("a", "b"):
    video = rng.integers(0, 256, (8, 12, 16, 16, 3), np.uint8)
    np.save(tmp_path / f"{name}.npy", video)
  out = tmp_path / "out.json"
  options = ("--generated", tmp_path / "a.npy", "--out", out, "--frames", 12)
  chosen = "swd(frames=1), fvd(protocol='tfhub', frames=9)"
  reference = ("--reference", tmp_path / "b.npy")
  assert run(*options, *reference, "--metrics", chosen) == 0
  found = read(out)
  assert found["settings"]["metrics"] == {
    "swd": {"frames": 1},
    "fvd": {"protocol": "tfhub", "frames": 9},
  }
  record = found["records"]["swd"]
  assert record["protocol"]["frames"] == 1
  # Nobody has asked for fewer than the evaluator takes by itself.
  assert record["note"].startswith("generated clips: asked 256, there are 8; ")


def test_options_are_checked():
  with pytest.raises(errors.UserError, match="Did you mean 'repeats'"):
    harness.make_evaluators({"speed": {"repeat": 3}})
  with pytest.raises(errors.UserError, match="Did you mean 'speed'"):
    harness.make_evaluators({"sped": {}})


def test_values_are_plain_numbers():
  def yields(model, source):
    yield "a", np.float32(0.5)
    yield "b", 3

  evaluators = {"some": types.SimpleNamespace(run=yields)}
  values = harness.run(evaluators, None, None)
  note = "no interval: its evaluator gives the number alone"
  assert values == {
    "a": evals.Value(0.5, note=note),
    "b": evals.Value(3.0, note=note),
  }
  assert harness.numbers(values) == {"a": 0.5, "b": 3.0}


def test_what_could_not_be_computed_is_told_once(tmp_path):
  def yields(model, source):
    yield "a", evals.missing("not computed: put X at Y")
    yield "b", evals.missing("not computed: put X at Y")
    facts = {"frames": 16}
    yield "c", evals.Value(1.0, 0.5, 2.0, 7, facts, "asked 9", "dB", "higher")

  lines = []
  some = {"some": types.SimpleNamespace(run=yields)}
  values = harness.run(some, None, None, lines.append)
  assert lines == ["some: not computed: put X at Y"]
  assert harness.numbers(values) == {"c": 1.0}
  row = read(pathlib.Path(harness.write(tmp_path, 5, values)))
  assert row["a"] == "NaN" and row["c"] == 1.0
  assert row["records"]["a"]["note"] == "not computed: put X at Y"
  assert row["records"]["c"] == {
    "value": 1.0,
    "interval": [0.5, 2.0],
    "unit": "dB",
    "better": "higher",
    "num": 7,
    "hash": evals.Value(9.0, protocol={"frames": 16}).hash,
    "protocol": {"frames": 16},
    "note": "asked 9",
  }
  assert evals.Value(1.0, protocol={"frames": 8}).hash != values["c"].hash
  hashed = lambda **facts: evals.Value(1.0, protocol={"real": facts}).hash
  assert hashed(files="a", content="1") == hashed(files="b", content="1")
  assert hashed(files="a", content="1") != hashed(files="a", content="2")
  text = harness.table(values | {"c/raw": evals.Value(3.0)})
  assert "not computed" in text and "[0.5, 2]" in text
  assert text.splitlines()[0].split() == ["ema", "raw"]
  assert text.splitlines()[-1].split() == ["c", "1", "[0.5,", "2]", "3"]


def test_damaged_values_are_named_in_a_line(tmp_path):
  values = {"a": evals.Value(1.0, 0.5, 2.0, num=3), "b": evals.Value(2.0)}
  path = pathlib.Path(harness.write(tmp_path, 4, values, {"swd": {}}))
  good, rng = path.read_bytes(), np.random.default_rng(0)
  for text in (
    *(b"[]", b"3", b'{"records": 3}', b'{"step": 4, "a": []}', b"[" * 99_999),
    b'{"step": 4, "a": 1, "records": {"a": {"value": 1, "num": []}}}',
    *(hostile.damaged(good, rng) for _ in range(100)),
  ):
    path.write_bytes(text)
    try:
      records = harness.records(tmp_path)
      if any(records.values()):
        evaluation.render(records, {}, {}, tmp_path / "page.html")
    except errors.UserError as e:
      assert "\n" not in str(e) and ("4.json" in str(e) or "step 4" in str(e))
    harness.write(tmp_path, 4, {"c": evals.Value(3.0)})
    assert harness.read(path)["c"] == 3


def test_what_is_not_told_apart_is_said():
  one = evals.Value(1.0, 0.6, 1.4)
  for other, apart in (
    (evals.Value(1.5, 1.2, 1.8), True),  # 0.5 is sqrt(0.4^2 + 0.3^2).
    (evals.Value(1.49, 1.19, 1.79), False),
    (evals.Value(1.01), True),  # Nothing says that it is not.
    (evals.missing("not computed"), True),
    (evals.Value(0.7, 0.2, 0.95), False),  # 0.3 < hypot(0.4, 0.25)
  ):
    assert evals.told_apart(one, other) == evals.told_apart(other, one) == apart
    text = harness.table({"c": one, "c/raw": other})
    assert text.endswith(evals.NOT_APART) != apart
  assert evals.NOT_APART not in harness.table({"c": one})


def test_cards_stand_under_the_table(workdir, capsys):
  """One line a distance; a note that such a line has is not told again."""
  assert run(workdir, "--metrics", "frd_random(num=999),swd(num=999)") == 0
  lines = capsys.readouterr().out.splitlines()
  values = read(workdir / "eval" / "4.json")
  for name in ("frd_random", "krd_random"):
    record = values["records"][name]
    [line] = [row for row in lines if row.startswith(f"  {name}: ")]
    num = record["num"]
    for part in (
      f"{num['generated']} generated, {num['real']} real",
      f"4 frames of 16 x 16, hash {record['hash']}",
      record["protocol"]["network"],
      f"real clips: asked 999, there are {num['real']}",
    ):
      assert part in line, line
  assert sum("asked 999" in row for row in lines) == 2


def test_both_weights_side_by_side(workdir, capsys):
  assert run(workdir, "--metrics", "frd_random", "--weights", "both") == 0
  lines = capsys.readouterr().out.splitlines()
  assert ["ema", "raw"] in [line.split() for line in lines]
  values = read(workdir / "eval" / "4.json")
  assert values["frd_random"] != values["frd_random/raw"]
  for name, side in (("frd_random", "ema"), ("frd_random/raw", "raw")):
    protocol = values["records"][name]["protocol"]
    assert protocol["generated"]["weights"] == side


def test_a_running_job_is_followed(trained, workdir, capsys, monkeypatch):
  """Checkpoint 4 appears while 2 is looked at; the run ends with it."""
  late = workdir / "checkpoints" / "4"
  shutil.rmtree(late)

  def sleep(seconds):
    assert not late.exists()
    shutil.copytree(trained / "checkpoints" / "4", late)

  monkeypatch.setattr(time, "sleep", sleep)
  assert run(workdir, "--metrics", "frd_random", "--follow") == 0
  text = capsys.readouterr().out
  assert text.index("until step 4") < text.index("Step 2:")
  assert text.index("Step 2:") < text.index("Step 4:")
  names = {p.name for p in (workdir / "eval").glob("*.json")}
  assert names == {"2.json", "4.json"}
  # Started again it finds all there; another option, or another metric, is new.
  before = (workdir / "metrics.jsonl").read_text()
  with monkeypatch.context() as patch:
    patch.setattr(harness, "run", None)
    assert run(workdir, "--metrics", "frd_random", "--follow") == 0
  assert "Step 4: its values are in" in capsys.readouterr().out
  assert (workdir / "metrics.jsonl").read_text() == before
  asked = []
  with monkeypatch.context() as patch:
    patch.setattr(harness, "run", lambda todo, *_: asked.append([*todo]) or {})
    options = ("--follow", "--num", 4, "--metrics")
    assert run(workdir, *options, "frd_random,swd") == 0
    assert run(workdir, *options, "frd_random,swd", "--num", 5) == 0
  assert asked == [["swd"]] * 2 + [["frd_random", "swd"]] * 2


def test_values_are_added_to_the_metrics(workdir):
  path = workdir / "metrics.jsonl"
  before = {row["step"]: row for row in writer.read(workdir)}
  assert run(workdir, "--all", "--metrics", "frd_random") == 0
  text = path.read_text()
  for step in (2, 4):
    values = read(workdir / "eval" / f"{step}.json")
    [row] = [row for row in writer.read(workdir) if row["step"] == step]
    assert before.get(step, {}).items() <= row.items()
    assert row["frd_random"] == values["frd_random"]
    assert "recall_random" not in row  # Four clips are too few.
  assert run(workdir, "--step", 2, "--metrics", "frd_random") == 0
  assert path.read_text() == text  # Never twice.


def test_memory_in_training_and_after_it(tmp_path):
  """Both have the training clips, and one protocol."""
  flags = [f for f in FLAGS if not f.startswith("evals")]
  flags += ["cadence.eval=4steps", "evals={'memory': {'num': 24}}"]
  flags += ["data.options.size=40"]
  workdir = runs.train(tmp_path / "run", "smoke.py:model=mlp", *flags)
  first = read(workdir / "eval" / "4.json")
  record = first["records"]["memory/near_copies_features"]
  assert record["num"]["train"] > 0 and record["interval"]
  assert first["memory/latent_recall"] >= 0
  text = (workdir / "metrics.jsonl").read_text()
  assert run(workdir) == 0
  second = read(workdir / "eval" / "4.json")
  assert {n: r["hash"] for n, r in first["records"].items()} == {
    n: r["hash"] for n, r in second["records"].items()
  }
  assert (workdir / "metrics.jsonl").read_text() == text


def test_real_features_are_kept(workdir, monkeypatch):
  """They are read once; other data or another damage makes them anew."""
  path = workdir / "eval" / "4.json"
  assert run(workdir, "--metrics", "frd_random") == 0
  first = read(path)
  (kept,) = (workdir / "eval" / "cache").glob("*.npz")

  def fail(*args):
    raise AssertionError("read again")

  with monkeypatch.context() as patch:
    patch.setattr(distribution, "real_clips", fail)
    patch.setattr(evaluations, "_report", lambda *args: None)
    assert run(workdir, "--metrics", "frd_random") == 0
  assert read(path) == first
  kept.write_bytes(kept.read_bytes()[:100])
  assert run(workdir, "--metrics", "frd_random") == 0
  assert read(path) == first
  config = config_lib.from_json((workdir / "config.json").read_text())
  config.data.options["size"] = 5
  (workdir / "config.json").write_text(config_lib.to_json(config))
  assert run(workdir, "--metrics", "frd_random") == 0
  assert len(list((workdir / "eval" / "cache").glob("*.npz"))) == 2


def test_features_are_learnt_from_the_training_clips(workdir, monkeypatch):
  asked = []

  def fit(path, source, *, ops, log):
    asked.append((path, source.read([0])[0]["video"], ops))

  monkeypatch.setattr(fd_self, "fit_features", fit)
  assert run(workdir, "--metrics", "frd_random", "--fit-features") == 0
  [(path, clip, ops)] = asked
  assert path.parent == workdir / "eval" / "cache"
  config = config_lib.from_json((workdir / "config.json").read_text())
  assert ops == config.data.eval_ops
  train = reference.Clips(pipeline.make_source(config.data, "train"), ops)
  np.testing.assert_array_equal(clip, train.read([0])[0]["video"])
  note = read(workdir / "eval" / "4.json")["records"]["fd_self"]["note"]
  assert note.startswith("not computed") and "--fit-features" in note


def test_options_that_do_not_belong_together(workdir, tmp_path, capsys):
  for options, words in (
    ((workdir, "--size", 64), ("--size", "WORKDIR")),
    (("--generated", "a"), ("belong together",)),
    (("--generated", "a", "--reference", "b", "--all"), ("--all",)),
    (("--generated", "a", "--reference", "b", "--num", 1), ("--num 1",)),
    (("--paired", "a", "b", "--size", 8), ("--size", "--paired")),
    (("--paired", "a", "b", "--frames", 0), ("--frames 0",)),
    ((workdir, "--all", "--step", 2), ("one of",)),
    (("--generated", "a", "--reference", "b"), ("a does not exist",)),
  ):
    assert run(*options) == 1
    error(capsys, *words)
  with pytest.raises(SystemExit):
    run(workdir, "--paired", "a", "b")


def test_an_error_names_its_evaluator(workdir, capsys):
  def fails(model, source):
    yield "good", 1.0
    raise KeyError("no such thing")

  evaluators = {"broken": types.SimpleNamespace(run=fails)}
  with pytest.raises(KeyError, match="no such thing'\n.*'broken'"):
    harness.run(evaluators, None, None)
  config = config_lib.from_json((workdir / "config.json").read_text())
  config.evals = {"frd_random": {"num": 1}}
  (workdir / "config.json").write_text(config_lib.to_json(config))
  assert run(workdir) == 1
  error(capsys, "'frd_random'", "at least 2 clips")


def test_others_go_on_when_one_fails(tmp_path, capsys):
  rng = np.random.default_rng(0)
  for name in ("a", "b"):
    video = rng.integers(0, 256, (8, 2, 16, 16, 3), np.uint8)
    np.save(tmp_path / f"{name}.npy", video)
  sets = ["--generated", tmp_path / "a.npy", "--reference", tmp_path / "b.npy"]
  out = tmp_path / "out.json"
  options = [*sets, "--frames", 2, "--out", out]
  assert run(*options, "--metrics", "restoration, swd") == 1
  error(capsys, "'restoration'", "--paired")
  row = read(out)
  assert row["swd"] > 0 and row["restoration"] == "NaN"
  note = row["records"]["restoration"]["note"]
  assert note.startswith("not computed: ") and "--paired" in note
  out.unlink()
  assert run(*options, "--metrics", "restoration") == 1
  error(capsys, "'restoration'", "--paired")
  assert read(out)["restoration"] == "NaN"


def test_no_number_at_all_is_no_success(workdir, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("VIDGAN_WEIGHTS", str(tmp_path))
  path = workdir / "eval" / "4.json"
  assert run(workdir, "--metrics", "fid") == 1
  error(capsys, "No value was computed", "put inception.safetensors at")
  assert read(path)["fid"] == "NaN"
  assert run(workdir, "--metrics", "fid,swd") == 0
  # What failed once and then did not leaves nothing behind.
  harness.write(workdir, 4, {"swd": evals.missing("not computed: a")})
  harness.write(workdir, 4, {"some": 1.0}, {"swd": {}})
  row = read(path)
  assert "swd" not in row and "swd" not in row["records"] and row["some"] == 1


def test_a_run_of_a_task(tmp_path, capsys):
  """Its page shows what it made of given clips; it draws none by itself."""
  workdir = runs.train(
    tmp_path / "run",
    "video_to_video.py:task=super_resolve,data=sprites",
    "total=1steps",
    "batch=1",
    "data.options.resolution=32",
    "data.options.background=black",
    "model.generator.width=8",
    "model.generator.blocks=1",
    "cadence.sample=0steps",
    "cadence.eval=0steps",
    "evals.restoration.num=3",
  )
  assert run(workdir) == 0
  assert "gain over" in capsys.readouterr().out
  assert read(workdir / "eval" / "1.json")["restoration/psnr"] > 10
  page = (workdir / "eval" / "report.html").read_text()
  assert "Base, model and target" in page and "Best by PSNR" in page
  assert run(workdir, "--metrics", "frd_random") == 1
  error(capsys, "'super_resolve'", "`vidgan process WORKDIR IN OUT`")
  out = tmp_path / "out.mp4"
  assert cli.main(["generate", str(workdir), "--out", str(out)]) == 1
  assert "`vidgan process WORKDIR IN OUT`" in capsys.readouterr().err
  assert not out.exists()


# ----------------------------------------------------------------- frd_random


class Sampler:
  """Draws the clips it was given, slowly."""

  flops = staticmethod(lambda: None)

  def __init__(self, video, seconds):
    self.video, self.seconds, self.asked = video, seconds, []
    self.times, self.fixed = (0.0, 0.1, 0.2, 0.3), False

  def ask(self, num):
    return {"index": np.arange(num)}

  def clips(self, given, seed, *, batch=32, times=None):
    num = len(given["index"])
    self.asked.append((num, batch, None if times is None else len(times)))
    if times is not None and self.fixed:
      raise ValueError("Clips of 4 frames, no others.")
    time.sleep(self.seconds * num * (1 if times is None else len(times) / 4))
    return self.video[:num]


def test_processes_share_a_checkpoint(workdir, tmp_path):
  """Two give the figures of one, and one of them writes."""
  shutil.rmtree(workdir / "eval", ignore_errors=True)
  alone = shutil.copytree(workdir, tmp_path / "alone")
  command = (sys.executable, "-m", "vidgan_jax", "evaluate")
  more = ("--metrics", "frd_random,motion", "--num", 8, "--weights", "both")
  for path, count in ((alone, 1), (workdir, 2)):
    started = processes.start([*command, path, *more], count, count)
    texts = processes.finish(started)
    assert sum("report.html" in text for text in texts) == 1
  one, two = (
    read(path / "eval" / "4.json")["records"] for path in (alone, workdir)
  )
  assert list(one) == list(two) and "frd_random/raw" in one
  for name in one:
    for key in ("value", "interval"):
      np.testing.assert_allclose(
        two[name][key], one[name][key], rtol=1e-5, atol=1e-7
      )
  started = processes.start([*command, workdir, "--follow"], 1, 2)
  with pytest.raises(AssertionError, match="--follow is for one process"):
    processes.finish(started)


@pytest.fixture(scope="module")
def world():
  source = sprites.make("test", resolution=16, frames=4, size=48)
  return np.stack([e["video"] for e in source.read(range(48))])


def frd(real, fake, **options):
  options = {"num": 24, "batch": 8} | options
  sets = (evals.Reference(clips=footage.Clips(video)) for video in (fake, real))
  values = dict(frd_random.Evaluator(**options).run(*sets))
  found = values["frd_random"]
  assert found.num == {
    "generated": min(len(fake), options["num"]),
    "real": min(len(real), options["num"]),
  }
  return float(found)


def test_distance_of_the_same_clips_is_zero(world):
  real, others = world[:24], world[24:]
  zero = frd(real, real)
  near = frd(real, others)
  noise = np.random.default_rng(0).integers(0, 256, real.shape, np.uint8)
  far = frd(real, noise)
  assert 0 <= zero < 1e-5 * near
  assert near < far / 10


def test_distance_grows_with_corruption(world):
  rng = np.random.default_rng(0)
  real = world[:24]
  noise = rng.normal(0, 1, real.shape)
  for corrupt in (
    lambda s: real + 128 * s * noise,  # Noise.
    lambda s: (1 - s) * real + s * 128,  # Fading to grey.
    lambda s: np.where(  # Ever more clips that are all one.
      np.arange(24)[:, None, None, None, None] < 24 * s, real[23:], real
    ),
  ):
    ladder = [
      frd(real, corrupt(s).clip(0, 255).astype(np.uint8))
      for s in (0.0, 0.05, 0.15, 0.4, 0.8)
    ]
    assert all(a < b for a, b in zip(ladder, ladder[1:])), ladder


def test_distance_sees_that_time_stands_still(world):
  still = np.repeat(world[24:, :1], 4, 1)
  assert frd(world[:24], still) > frd(world[:24], world[24:])


def test_distance_does_not_depend_on_the_batch(world):
  want = frd(world[:24], world[24:])
  for batch in (1, 5, 24, 32):
    got = frd(world[:24], world[24:], batch=batch)
    np.testing.assert_allclose(got, want, rtol=1e-5)


DEVICES = """
import jax, numpy as np, sys
from vidgan_jax import evals, sampler, tasks
from vidgan_jax.devices import sharding
from vidgan_jax.data import sprites
from vidgan_jax.evals import frd_random
from vidgan_jax.models import mlp

source = sprites.make("test", resolution=16, frames=4, size=16)
g = mlp.Generator(resolution=16, frames=4, widths=(8,))
times = np.arange(4, dtype=np.float32) / 8
z = {"z": np.zeros((1, 100), np.float32)}
params = g.init(jax.random.key(0), {}, z, times[None])["params"]
mesh = sharding.make_mesh((("data", -1),))
place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
model = sampler.Sampler(
  generator=g, params=jax.device_put(params, place), step=0, resolution=16,
  times=tuple(times), task=tasks.create({"name": "generate", "options": {}}))
reference = evals.Reference(clips=source)
values = dict(frd_random.Evaluator(num=16, batch=8).run(model, reference))
print(jax.device_count(), float(values["frd_random"]))
"""


def test_distance_does_not_depend_on_the_devices():
  results = []
  for devices in (1, 4):
    flags = f"--xla_force_host_platform_device_count={devices}"
    result = subprocess.run(
      [sys.executable, "-c", textwrap.dedent(DEVICES)],
      cwd=ROOT,
      env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
      capture_output=True,
      text=True,
      timeout=900,
    )
    assert result.returncode == 0, result.stderr
    count, value = result.stdout.split()
    assert int(count) == devices
    results.append(float(value))
  assert results[0] > 0
  np.testing.assert_allclose(*results, rtol=1e-5)


# ---------------------------------------------------------------------- speed


def test_speed_is_that_of_the_model(world):
  model = Sampler(world, seconds=0.004)
  model.params = {"a": np.zeros((3, 4)), "b": np.zeros(5)}
  values = dict(speed.Evaluator(num=8, repeats=3).run(model, None))
  for name, value in values.items():
    if "per_" in name and "gflop" not in name or "first" in name:
      assert value.low <= float(value) <= value.high
      assert value.low < value.high
  values = {name: float(value) for name, value in values.items()}
  # Sleeping takes at least as long as asked, more on a busy machine.
  assert 25 < values["speed/clips_per_second"] <= 250
  assert 4 <= values["speed/ms_per_single_clip"] < 40
  assert 1 <= values["speed/ms_per_frame"] < 10
  assert values["speed/parameters"] == 17
  assert values["speed/peak_mib"] > 10
  assert 1 <= values["speed/ms_to_first_frame"] < 4
  # One that may compile, and three that count.
  asked = [(8, 8, None)] * 4 + [(1, 1, None)] * 4
  assert model.asked == asked + [(1, 1, 1)] * 4
  model.fixed = True
  values = dict(speed.Evaluator(num=8, repeats=3).run(model, None))
  first = values["speed/ms_to_first_frame"]
  assert float(first) == float(values["speed/ms_per_single_clip"])
  assert "with its last" in first.protocol["estimator"]
