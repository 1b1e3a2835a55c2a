"""Digests of values: what counts, and what has none."""

import numpy as np
import pytest

from vidgan_jax.store import digest


def test_digest():
  value = {
    "metric": "fvd2048_16f",
    "num": 2048,
    "resize": [224, 224],
    "share": 0.5,
    "none": None,
    "flag": True,
    "sha": b"ab",
    "times": np.arange(6, dtype=np.float32).reshape(2, 3),
  }
  name = digest.of(value)
  assert name == digest.of(dict(reversed(value.items())))
  # The same on every machine and for ever.
  assert name[:16] == "fcd0bb0065be5377"
  names = {name}
  for key in value:
    for other in (1, "1", 1.0, True, [1], [[1]], {"1": 1}, np.ones(1), "a", []):
      names.add(digest.of(value | {key: other}))
    names.add(digest.of({k: v for k, v in value.items() if k != key}))
  assert len(names) == 1 + len(value) * 11 - 1  # The flag is True already.
  times = value["times"]
  assert len({digest.of(x) for x in (times, times.T, times * 1.0)}) == 2
  assert digest.of(["ab", "c"]) != digest.of(["a", "bc"])
  with pytest.raises(TypeError, match="function"):
    digest.of({"apply": test_digest})
  with pytest.raises(TypeError, match="ndarray"):
    digest.of(np.array([object()]))
