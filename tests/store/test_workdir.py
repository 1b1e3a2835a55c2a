"""A workdir says which run it is of, and where things lie."""

import os
import socket

import hostile
import numpy as np
import pytest

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax.store import workdir


def config(**fields):
  return config_lib.complete(fields)


def begun(path, **fields):
  path.mkdir(parents=True, exist_ok=True)
  workdir.write_config(path, config(**fields))
  return path


def claim(path, **fields):
  with workdir.claimed(path, config(**fields)):
    pass


def test_a_run_goes_on_with_what_may_change_alone(tmp_path):
  path = tmp_path / "deep" / "run"
  claim(path)
  assert not path.exists()  # It never began.
  begun(path, batch=6)
  claim(path, batch=6, total="3steps", nan_limit=7)
  other = config(batch=7, seed=3, total="3steps", penalties={"r1": {}})
  other.optim.g.lr = 0.5
  with pytest.raises(errors.UserError, match="holds another run: ") as e:
    with workdir.claimed(path, other):
      pass
  text = str(e.value)
  for words in (
    "config.batch is 6 there and 7 here",
    "config.optim.g.lr is 0.0002 there and 0.5 here",
    "config.penalties.r1.weight is absent there and ",
    "Name another --workdir",
  ):
    assert words in text
  assert "config.total" not in text and "config.nan_limit" not in text
  (tmp_path / "photo.jpg").touch()
  with pytest.raises(workdir.WorkdirError, match="holds no run"):
    claim(tmp_path)
  assert not (tmp_path / "lock").exists()


def test_one_process_trains_in_a_workdir(tmp_path):
  with workdir.claimed(tmp_path / "run", config()):
    with pytest.raises(errors.UserError, match="in use by another") as e:
      claim(tmp_path / "run")
    for words in (str(os.getpid()), socket.gethostname(), "since 2"):
      assert words in str(e.value)
    # A process of the same run that does not write.
    with workdir.claimed(tmp_path / "run", config(), lock=False):
      pass
  claim(tmp_path / "run")


def test_a_run_that_was_killed_before_its_first_step_goes_on(tmp_path):
  path = tmp_path / "run"
  for name in ("checkpoints", "samples", "eval/cache"):
    (path / name).mkdir(parents=True)
  for name in ("lock", "log.txt", "metrics.jsonl", "samples/real_0000000.png",
               "events.out.tfevents.1.vm", "notes.txt"):  # fmt: skip
    (path / name).touch()
  claim(path)
  assert [p.name for p in path.iterdir()] == ["notes.txt"]  # The user's.


def test_what_holds_checkpoints_is_a_run(tmp_path):
  """Also where somebody has moved its config.json away."""
  (tmp_path / "checkpoints" / "5").mkdir(parents=True)
  (tmp_path / "lock").touch()
  with pytest.raises(workdir.WorkdirError, match="checkpoints .5. and no conf"):
    claim(tmp_path)
  assert (tmp_path / "checkpoints" / "5").exists()


def test_a_damaged_config_is_named_in_a_line(tmp_path):
  path = tmp_path / "config.json"
  good = config_lib.to_json(config_lib.complete({})).encode()
  rng = np.random.default_rng(0)
  texts = [
    *(b"", b"\xff", b"[]", b"3", b"null", b"[" * 99_999, b"9" * 9999),
    *(b'{"batch": "x"}', b'{"data": {"options": {"a.b": 1}}}'),
  ]
  for text in [*texts, *(hostile.damaged(good, rng) for _ in range(100))]:
    path.write_bytes(text)
    try:
      workdir.read_config(tmp_path)
    except errors.UserError as e:
      assert str(path) in str(e) and "\n" not in str(e)
    else:
      assert text not in texts


def test_differences():
  one, two = config(batch=2), config(batch=3)
  two.data.options = {"directory": "x" * 99}
  name = "data.options.directory"
  found = workdir.differences(one, two)
  assert found["batch"] == ("2", "3")
  assert found[name][0] == "absent" and found[name][1].endswith("xx...")
  assert len(found[name][1]) == 60
  assert workdir.differences(one, config(batch=2)) == {}


@pytest.mark.parametrize("inside", ["", "checkpoints", "checkpoints/5"])
def test_find(tmp_path, inside, monkeypatch):
  (tmp_path / "run" / "checkpoints" / "5" / "meta").mkdir(parents=True)
  (tmp_path / "run" / "checkpoints" / "12").mkdir()
  (tmp_path / "run" / "checkpoints" / "9.damaged").mkdir()
  begun(tmp_path / "run", batch=6)
  step = 5 if inside.endswith("5") else None
  assert workdir.find(tmp_path / "run" / inside) == (tmp_path / "run", step)
  assert workdir.read_config(tmp_path / "run" / inside).batch == 6
  assert workdir.steps(tmp_path / "run" / inside) == ([5] if step else [5, 12])
  monkeypatch.chdir(tmp_path / "run" / inside)
  assert workdir.find(".")[1] == step
  with pytest.raises(workdir.WorkdirError, match="no run"):
    workdir.read_config(tmp_path / "a" / "b" / "c")


def test_places(tmp_path):
  for step in (100, 20):
    workdir.evaluation(tmp_path, step).parent.mkdir(exist_ok=True)
    workdir.evaluation(tmp_path, step).touch()
  workdir.report(tmp_path).with_suffix(".json").touch()
  assert [p.name for p in workdir.evaluations(tmp_path)] == [
    "20.json",
    "100.json",
  ]
  assert workdir.sample(tmp_path, 3).name == "0000003"
  assert workdir.sample(tmp_path, 3, "real").name == "real_0000003"
