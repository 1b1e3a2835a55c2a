"""One record says where weights come from."""

import json

import jax
import pytest

import vidgan_jax
from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax.store import provenance


def test_a_record_comes_back_from_json():
  config = config_lib.complete({"batch": 6})
  record = provenance.make(
    config,
    seconds=0.5,
    times=(0.0, 0.25, 0.5),
    class_names=("a", "b"),
    data={"clips": 3},
    step=7,
  )
  fields = json.loads(json.dumps(record.to_json(), allow_nan=False))
  assert provenance.from_json(fields) == record
  assert fields["config"] == config_lib.to_json(config)
  assert record.versions["jax"] == jax.__version__
  assert record.versions["vidgan_jax"] == vidgan_jax.__version__
  assert len(record.code) == 16 and record.code == provenance.code()


def test_earlier_records_have_less():
  config = config_lib.complete({})
  old = {
    "seconds": 0.5,
    "times": [0, 0.5],
    "class_names": [],
    "config": config_lib.to_json(config),
  }
  record = provenance.from_json(old)
  assert record.times == (0, 0.5)
  assert (record.step, record.versions, record.code) == (None, {}, "")
  assert record.to_json().items() >= old.items()


def test_records_of_nobody_are_refused():
  good = {
    "seconds": 0.5,
    "times": [0, 0.5],
    "class_names": [],
    "config": config_lib.to_json(config_lib.complete({})),
  }
  assert provenance.from_json(good).seconds == 0.5
  for name, values in {
    "seconds": [None, [], "x"],
    "times": [[], [float("nan")], "x", 3, [None]],
    "class_names": [3, None],
    "config": [None, 3, "", "[]", "[" * 99_999, {}, '{"lr": 1}'],
  }.items():
    fields = {key: x for key, x in good.items() if key != name}
    for bad in (fields, *(fields | {name: value} for value in values)):
      with pytest.raises(errors.UserError) as e:
        provenance.from_json(bad)
      assert "\n" not in str(e.value), bad
