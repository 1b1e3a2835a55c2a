"""The loop, run as a user runs it: resume, signals, workdirs, bad input."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from vidgan_jax import cli
from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax.data import pipeline
from vidgan_jax.evals import swd
from vidgan_jax.store import checkpoint
from vidgan_jax.store import workdir as workdir_lib
from vidgan_jax.train import loop
from vidgan_jax.train import writer as metrics_lib

ROOT = pathlib.Path(__file__).parents[2]
SMOKE = f"{ROOT}/configs/smoke.py:model=mlp"


# Small, because some runs keep many checkpoints.
SMALL = (
  "evals={}",
  "cadence.sample=0steps",
  "model.generator.widths=(32,)",
  "model.discriminator.widths=(32,)",
)


def _flags(*flags):
  return [f"--config.{f}" for f in (*SMALL, *flags)]


def _config(*flags):
  config = config_lib.override(config_lib.load(SMOKE), _flags(*flags))
  return config_lib.validate(config)


def _leaves(workdir, step):
  path = pathlib.Path(workdir).resolve() / "checkpoints" / str(step) / "state"
  tree = ocp.StandardCheckpointer().restore(path)
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  host = lambda x: np.asarray(
    jax.random.key_data(x)
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    else x
  )
  return {jax.tree_util.keystr(path): host(leaf) for path, leaf in leaves}


def _same(a, b):
  assert a.keys() == b.keys() and len(a) > 20
  for name in a:
    np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  """Ten steps without a stop."""
  workdir = tmp_path_factory.mktemp("straight") / "run"
  assert loop.train(_config("total=10steps"), workdir)
  return workdir


def _rows(workdir):
  """What depends on the run and not on the clock."""
  rows = metrics_lib.read(workdir)
  return {
    row["step"]: {k: x for k, x in row.items() if k != "steps_per_second"}
    for row in rows
  }


def test_resume_is_exact(straight, tmp_path):
  workdir = tmp_path / "run"
  assert loop.train(_config("total=6steps"), workdir)
  assert loop.train(_config("total=10steps"), workdir)
  _same(_leaves(straight, 10), _leaves(workdir, 10))
  rows = _rows(workdir)
  assert set(rows.pop(6)) >= {"d/loss", "g/loss"}  # That of its end.
  assert rows == _rows(straight) and set(rows) == {5, 10}


def test_a_workdir_holds_what_is_said_and_nothing_else(tmp_path):
  workdir = tmp_path / "run"
  flags = [
    f"--config.{f}"
    for f in (
      "total=4steps",
      "cadence.sample=2steps",
      "cadence.eval=4steps",
      "cadence.log=1steps",
    )
  ]
  assert (
    cli.main(["train", "--config", SMOKE, "--workdir", str(workdir), *flags])
    == 0
  )
  names = {p.name for p in workdir.iterdir()}
  events = {n for n in names if n.startswith("events.out.tfevents")}
  assert len(events) == 1
  assert names - events == {
    "config.json",
    "lock",
    "checkpoints",
    "eval",
    "samples",
    "metrics.jsonl",
    "log.txt",
  }
  assert {p.name for p in (workdir / "checkpoints").iterdir()} == {"4"}
  result = json.loads((workdir / "eval" / "4.json").read_text())
  assert result["step"] == 4 and result["frd_random"] > 0
  assert (workdir / "samples" / "real_0000000.png").stat().st_size > 200
  rows = metrics_lib.read(workdir / "metrics.jsonl")
  assert [r["step"] for r in rows] == [0, 1, 2, 3, 4]
  text = (workdir / "log.txt").read_text()
  for word in ("GFLOP", "compiled in", "generator", "Finished: 4 steps"):
    assert word in text, word


def test_an_evaluator_may_have_a_cadence_of_its_own(tmp_path):
  flags = (
    "total=4steps",
    "cadence.eval=2steps",
    "evals={'swd': {'num': 8}, 'speed': {'num': 1, 'repeats': 1,"
    " 'cadence': '3steps'}}",
  )
  # The later flag of a name counts.
  assert loop.train(_config(*flags), tmp_path / "run")
  seen = {
    path.stem: json.loads(path.read_text())["evaluators"].keys()
    for path in (tmp_path / "run" / "eval").glob("*.json")
  }
  assert seen == {
    "0": {"swd", "speed"},
    "2": {"swd"},
    "3": {"speed"},
    "4": {"swd", "speed"},
  }
  with pytest.raises(errors.UserError, match="evals.swd.cadence"):
    _config("evals={'swd': {'cadence': 'often'}}")


def _spawn(workdir, *flags):
  code = (
    "import sys; from vidgan_jax import cli; sys.exit(cli.main(sys.argv[1:]))"
  )
  return subprocess.Popen(
    [
      sys.executable,
      "-c",
      code,
      "train",
      "--config",
      SMOKE,
      "--workdir",
      str(workdir),
      *_flags("cadence.log=1steps", *flags),
    ],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )


def _wait_for_step(workdir, process, step):
  path = pathlib.Path(workdir) / "metrics.jsonl"
  for _ in range(1200):
    if path.exists() and any(r["step"] >= step for r in metrics_lib.read(path)):
      return
    assert process.poll() is None, process.communicate()[0]
    time.sleep(0.1)
  raise AssertionError("the run made no steps")


LONG = (
  "total=1500steps",
  "optim.g.schedule=cosine",
  "cadence.save=0steps",
  "cadence.log=20steps",
)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
  """A run that takes seconds, without a stop."""
  workdir = tmp_path_factory.mktemp("long") / "run"
  assert loop.train(_config(*LONG), workdir)
  return workdir


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on(long, tmp_path, number):
  process = _spawn(tmp_path / "run", *LONG)
  _wait_for_step(tmp_path / "run", process, 40)
  process.send_signal(number)
  text, _ = process.communicate(timeout=120)
  assert process.returncode == 130, text
  assert "the same command goes on" in text
  done = [int(p.name) for p in (tmp_path / "run" / "checkpoints").iterdir()]
  assert len(done) == 1 and 0 < done[0] < 1500
  assert loop.train(_config(*LONG), tmp_path / "run")
  _same(_leaves(long, 1500), _leaves(tmp_path / "run", 1500))


def test_kill_and_go_on(long, tmp_path):
  """A killed run leaves a whole checkpoint, and ends where it would have."""
  workdir = tmp_path / "run"
  flags = (*LONG, "cadence.save=50steps", "cadence.keep=2")
  process = _spawn(workdir, *flags)
  _wait_for_step(workdir, process, 200)  # By then that of step 50 is whole.
  process.kill()
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  kept = [p.name for p in (workdir / "checkpoints").iterdir()]
  assert any(name.isdigit() for name in kept), kept
  assert loop.train(_config(*flags), workdir)
  _same(_leaves(long, 1500), _leaves(workdir, 1500))


class Replaced:
  """A source whose clips somebody has exchanged for others."""

  def __init__(self, source, change):
    self._source, self._change = source, change

  def __getattr__(self, name):
    return getattr(self._source, name)

  def __len__(self):
    return len(self._source)

  def read(self, indices):
    return [self._change(dict(e)) for e in self._source.read(indices)]


def test_other_clips_are_refused_when_a_run_goes_on(
  tmp_path, monkeypatch, capsys
):
  workdir, make = tmp_path / "run", pipeline.make_source
  assert loop.train(_config("total=2steps"), workdir)
  before = _leaves(workdir, 2)

  def brighter(example):
    return example | {"video": example["video"] // 2 + 127}

  monkeypatch.setattr(
    pipeline, "make_source", lambda *args: Replaced(make(*args), brighter)
  )
  flags = ["train", "--config", SMOKE, "--workdir", str(workdir)]
  flags += _flags("total=4steps")
  assert cli.main(flags) == 1
  text = capsys.readouterr().err
  assert "the video of its clips changed" in text and "--data-changed" in text
  _same(before, _leaves(workdir, 2))
  assert cli.main([*flags, "--data-changed"]) == 0
  assert cli.main([*flags[:-1], "--config.total=5steps"]) == 0


def test_an_address_is_no_workdir(capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  arguments = ["--config", SMOKE, "--workdir", "gs://bucket/run"]
  assert cli.main(["train", *arguments]) == 1
  assert "gs://bucket/run is an address" in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


def test_another_config_in_the_workdir_is_refused(straight, capsys):
  code = cli.main(
    [
      "train",
      "--config",
      SMOKE,
      "--workdir",
      str(straight),
      *_flags("optim.g.lr=0.5"),
    ]
  )
  text = capsys.readouterr().err
  assert code == 1
  assert "holds another run: config.optim.g.lr is 0.0002 there and 0.5" in text


@pytest.mark.parametrize("saved", [False, True])
def test_only_a_run_that_never_began_leaves_nothing(
  tmp_path, monkeypatch, saved
):
  """A checkpoint stays, also if somebody moved config.json away meanwhile."""

  def begin(config, workdir, *_):
    folder = workdir_lib.checkpoints(workdir)
    with checkpoint.Checkpoints(folder, every=1) as checkpoints:
      if saved:
        checkpoints.save(1, {"x": jax.numpy.ones(3)}, force=True)
    raise errors.UserError("no more")

  monkeypatch.setattr(loop.start_lib, "start", begin)
  with pytest.raises(errors.UserError, match="no more"):
    loop.train(_config(), tmp_path / "run")
  assert (tmp_path / "run" / "checkpoints" / "1").exists() == saved
  assert (tmp_path / "run").exists() == saved


def test_a_folder_of_other_things_is_refused(tmp_path):
  (tmp_path / "holiday.txt").write_text("sun")
  with pytest.raises(workdir_lib.WorkdirError, match="is not empty"):
    loop.train(_config(), tmp_path)
  assert {p.name for p in tmp_path.iterdir()} == {"holiday.txt"}


@pytest.mark.parametrize(
  "flags, words",
  [
    (["--config.optim.g.lrr=1"], "config.optim.g.lr"),
    (["--confg.batch=1"], "--config"),
    (["--config.batch=many"], "batch"),
    (["--config.objective=relativstic"], "relativistic"),
    (["--config.data.options.radus=1"], "radius"),
    (["--config.model.generator.widhts=1"], "config.model.generator"),
    (["--config.model.num_classes=7"], "has 4 classes"),
    (["--config.data.ops=clip(40) | value_range(-1, 1)"], "40"),
    (["--config.penalties.r3.weight=1"], "r1"),
  ],
)
def test_mistakes_are_told_with_a_way_out(tmp_path, capsys, flags, words):
  try:
    code = cli.main(
      ["train", "--config", SMOKE, "--workdir", str(tmp_path / "run"), *flags]
    )
  except SystemExit as e:
    code = e.code
  text = capsys.readouterr().err
  assert code not in (0, None)
  assert words in text, text
  assert "Traceback" not in text


def test_one_clip_trains_without_the_evaluators_that_need_more(tmp_path):
  """It is said before anything compiles."""
  evals = {n: {"num": 4} for n in ("frd_random", "memory", "swd", "motion")}
  flags = ("data.options.size=1", "data.memory=True", f"evals={evals}")
  config = _config("total=1steps", *flags)
  assert loop.train(config, tmp_path / "run")
  lines = (tmp_path / "run" / "log.txt").read_text().splitlines()
  left_out = [k for k, line in enumerate(lines) if "is left out" in line]
  assert [re.search(r"evals\.(\w+)", lines[k])[1] for k in left_out] == [
    *("frd_random", "memory")
  ]
  text = lines[left_out[0]]
  assert "at least 2 held-out clips, and there is 1: prepare more" in text
  assert "at least 2 training clips" in lines[left_out[1]]
  assert max(left_out) < min(k for k, x in enumerate(lines) if "compiled" in x)
  for step in (0, 1):
    values = json.loads((tmp_path / f"run/eval/{step}.json").read_text())
    assert values["swd"] > 0 and values["motion/order"] > 0
    assert not {"frd_random", "memory"} & set(values)


def test_a_run_of_nans_stops_and_says_why(tmp_path, monkeypatch):
  closed, close = [], checkpoint.Checkpoints.close
  monkeypatch.setattr(
    checkpoint.Checkpoints,
    "close",
    lambda self: (close(self), closed.append(self)),
  )
  flags = ("optim.g.lr=1e30", "optim.d.lr=1e30", "nan_limit=3", "total=50steps")
  with pytest.raises(errors.UserError, match="not finite.*config.nan_limit"):
    loop.train(_config(*flags), tmp_path / "run")
  assert len(closed) == 1  # An error closes them as an end does.


def test_a_run_that_diverges_says_so_and_how_to_go_on(straight, tmp_path):
  """The rate grows by 1 a step, so the losses grow too."""
  run = tmp_path / "run"
  rates = [
    f"optim.{n}.{k}" for n in "gd" for k in ("lr=1e3", "warmup=1000steps")
  ]
  assert loop.train(
    _config(*rates, "total=40steps", "cadence.save=1steps", "cadence.keep=40"),
    run,
  )
  lines = (run / "log.txt").read_text().splitlines()
  first, last = [line for line in lines if "the run has diverged" in line]
  assert lines[-1] == last and "Finished: 40 steps" in lines[-2]
  step = int(re.search(r"from step (\d+) on", first)[1])
  kept = int(re.search(r"--config.init_from=\S+/checkpoints/(\d+)", first)[1])
  assert (run / "checkpoints" / str(kept)).is_dir() and 0 < kept < step
  assert "diverged" not in (straight / "log.txt").read_text()


def test_what_is_due_at_a_stop_is_made_when_the_run_goes_on(
  tmp_path, monkeypatch
):
  """It was skipped as 'done before the stop', which was never so."""
  workdir = tmp_path / "run"
  flags = ("cadence.sample=2steps", "cadence.eval=2steps",
           "evals={'swd': {'num': 8}}")  # fmt: skip
  with monkeypatch.context() as patch:
    patch.setattr(
      checkpoint.Checkpoints, "preempted", lambda self, step: step == 2
    )
    assert not loop.train(_config("total=4steps", *flags), workdir)
  evaluation = workdir / "eval" / "2.json"
  sample = workdir / "samples" / "0000002.png"
  assert not evaluation.exists() and not sample.exists()
  assert loop.train(_config("total=4steps", *flags), workdir)
  assert "swd" in json.loads(evaluation.read_text())["evaluators"]
  assert sample.exists()
  # What was made before the end is not made again.
  made = workdir / "eval" / "4.json", workdir / "samples" / "0000004.png"
  before = [path.stat().st_mtime_ns for path in made]
  assert loop.train(_config("total=5steps", *flags), workdir)
  assert [path.stat().st_mtime_ns for path in made] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_an_evaluation_at_once(tmp_path, monkeypatch, number):
  workdir = tmp_path / "run"
  flags = ("cadence.eval=2steps", "cadence.save=0steps", "cadence.log=3steps",
           "evals={'speed': {'num': 1, 'repeats': 1}, 'swd': {'num': 8}}",
           "total=4steps")  # fmt: skip

  def hang(self, model, source):
    if model.step:
      for _ in range(2):  # A terminal that closes sends it twice.
        signal.raise_signal(number)
      time.sleep(600)
    yield "swd", 0.0

  with monkeypatch.context() as patch:
    patch.setattr(swd.Evaluator, "run", hang)
    before = time.monotonic()
    assert not loop.train(_config(*flags), workdir)
    assert time.monotonic() - before < 300
  assert workdir_lib.steps(workdir) == [2]
  first = workdir / "eval" / "2.json"
  assert list(json.loads(first.read_text())["evaluators"]) == ["speed"]
  assert (
    f"Stopped by {signal.Signals(number).name} at step 2"
    in (workdir / "log.txt").read_text()
  )
  rate = json.loads(first.read_text())["speed/ms_per_frame"]
  assert loop.train(_config(*flags), workdir)
  both = json.loads(first.read_text())
  assert list(both["evaluators"]) == ["speed", "swd"]
  assert both["speed/ms_per_frame"] == rate  # It was not measured again.
  assert list(_rows(workdir)) == [0, 2, 3, 4]


def test_a_signal_in_the_last_evaluation(tmp_path, monkeypatch):
  """The same command makes it, and finds the run finished."""
  workdir = tmp_path / "run"
  flags = ("cadence.eval=3steps", "evals={'swd': {'num': 8}}", "total=2steps")
  run = swd.Evaluator.run

  def interrupted(self, model, source):
    if model.step:
      signal.raise_signal(signal.SIGTERM)
    yield from run(self, model, source)

  with monkeypatch.context() as patch:
    patch.setattr(swd.Evaluator, "run", interrupted)
    assert not loop.train(_config(*flags), workdir)
  assert workdir_lib.steps(workdir) == [2]
  assert not workdir_lib.evaluation(workdir, 2).exists()
  assert loop.train(_config(*flags), workdir)
  assert "swd" in json.loads(workdir_lib.evaluation(workdir, 2).read_text())
  assert "Finished already: 2 steps" in (workdir / "log.txt").read_text()


def test_a_signal_before_the_first_step_stops_at_once(tmp_path, monkeypatch):
  def lower(*_):
    signal.raise_signal(signal.SIGHUP)
    raise AssertionError("it goes on")

  monkeypatch.setattr(loop.start_lib.compile_lib, "variants", lower)
  assert not loop.train(_config("total=2steps"), tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_a_finished_run_whose_last_checkpoint_is_damaged(straight, tmp_path):
  """It is found out, and the steps since the one before are made again."""
  workdir = tmp_path / "run"
  shutil.copytree(straight, workdir)
  assert loop.train(_config("total=12steps"), workdir)
  want = _leaves(workdir, 12)
  data = workdir / "checkpoints" / "12" / "state"
  big = max(data.rglob("*"), key=lambda p: p.is_file() and p.stat().st_size)
  content = bytearray(big.read_bytes())
  content[len(content) // 2] ^= 1
  big.write_bytes(content)
  assert loop.train(_config("total=12steps"), workdir)
  _same(want, _leaves(workdir, 12))
  log = (workdir / "log.txt").read_text()
  assert log.count("is damaged") == 1 and "Resumed at step 10" in log
  assert loop.train(_config("total=12steps"), workdir)
  assert "Finished already: 12 steps" in (workdir / "log.txt").read_text()


def test_output_that_nobody_reads_is_dropped(tmp_path, monkeypatch):
  reader, writer = os.pipe()
  with open(writer, "w") as stream, monkeypatch.context() as patch:
    os.close(reader)
    patch.setattr(sys, "stdout", stream)
    patch.setattr(sys, "stderr", stream)
    arguments = ["--config", SMOKE, "--workdir", str(tmp_path / "run")]
    flags = _flags("total=2steps", "cadence.log=1steps")
    assert cli.main(["train", *arguments, *flags]) == 0
  assert list(_rows(tmp_path / "run")) == [1, 2]
  assert "Finished: 2 steps" in (tmp_path / "run" / "log.txt").read_text()


def test_a_failing_evaluator_does_not_end_the_training(tmp_path, monkeypatch):
  calls = []

  def fail(self, model, source):
    calls.append(model.step)
    raise ValueError("no such thing")
    yield

  monkeypatch.setattr(swd.Evaluator, "run", fail)
  flags = ("cadence.eval=2steps", "evals={'swd': {}, 'speed': {'num': 1,"
           " 'repeats': 1}}")  # fmt: skip
  workdir = tmp_path / "run"
  assert loop.train(_config("total=4steps", *flags), workdir)
  result = json.loads((workdir / "eval" / "4.json").read_text())
  assert result["records"]["swd"]["note"] == "not computed: no such thing"
  assert result["swd"] == "NaN" and list(result["evaluators"]) == ["speed"]
  assert "no such thing" in (workdir / "log.txt").read_text()
  assert loop.train(_config("total=5steps", *flags), workdir)
  assert calls == [0, 2, 4, 5]  # Step 4 is not tried again.
