"""A workdir says which run it is of, and where things lie."""

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


def test_a_run_goes_on_with_what_may_change_alone(tmp_path):
  path = tmp_path / "deep" / "run"
  assert workdir.claim(path, config())  # It is new, and made.
  assert workdir.claim(path, config())  # Still empty.
  begun(path, batch=6)
  assert not workdir.claim(path, config(batch=6, total="3steps", nan_limit=7))
  other = config(batch=7, seed=3, total="3steps", penalties={"r1": {}})
  other.optim.g.lr = 0.5
  with pytest.raises(errors.UserError, match="holds another run: ") as e:
    workdir.claim(path, other)
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
    workdir.claim(tmp_path, config())


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
