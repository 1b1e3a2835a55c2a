"""Files of safetensors: what the format's own library writes and reads."""

import json
import struct
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import safetensors
from safetensors import numpy as safetensors_numpy

from vidgan_jax import errors
from vidgan_jax.store import tensors

ARRAYS = {
  "a/half": np.float16([4, -0.5]),
  "a/one": np.float32(7).reshape(()),
  "b": np.arange(6, dtype=np.float64).reshape(2, 3).T,
  "byte": np.uint8([[1], [255]]),
  "long": np.int64([-3]),
  "none": np.zeros((3, 0), np.float32),
  "yes": np.array([True, False]),
}


def test_with_the_library(tmp_path):
  ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
  tensors.save(ours, ARRAYS, {"of": "tests"})
  safetensors_numpy.save_file(
    {k: np.ascontiguousarray(v).reshape(v.shape) for k, v in ARRAYS.items()},
    theirs,
  )
  assert sorted(p.name for p in tmp_path.iterdir()) == [ours.name, theirs.name]
  with safetensors.safe_open(ours, framework="numpy") as file:
    assert file.metadata()["of"] == "tests"
  for arrays in (
    safetensors_numpy.load_file(ours),
    tensors.load(ours)[0],
    tensors.load(ours, mapped=True)[0],
    tensors.load(theirs)[0],
  ):
    assert arrays.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
      assert (arrays[name].dtype, arrays[name].shape) == (
        *(value.dtype, value.shape),
      )
      np.testing.assert_array_equal(arrays[name], value)
  assert tensors.load(ours)[1] == {"of": "tests"}
  assert tensors.load(theirs)[1] == {}


def test_bfloat16_is_read_as_float32(tmp_path):
  path = tmp_path / "a.safetensors"
  values = np.array([1, -3.140625, 2.0**100], ml_dtypes.bfloat16)
  tensors.save(path, {"x": values}, {})
  arrays, _ = tensors.load(path)
  assert arrays["x"].dtype == np.float32
  np.testing.assert_array_equal(arrays["x"], values.astype(np.float32))
  with safetensors.safe_open(path, framework="numpy") as file:
    assert file.get_slice("x").get_dtype() == "BF16"


def test_what_is_damaged_is_refused(tmp_path):
  path = tmp_path / "a.safetensors"
  tensors.save(path, ARRAYS, {})
  good = path.read_bytes()
  entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
  headers = [
    *([], {"x": 1}, {"x": entry | {"dtype": "F8"}}, {"__metadata__": 3}),
    *({"x": entry | {"data_offsets": o}} for o in ([0, 12], [-8, 0], [8, 0])),
    *({"x": entry | {"shape": s}} for s in ([3], [-2, -1], [-1], [2**70, 0])),
    *({"x": entry | {"shape": s}} for s in ("2", [2.0], [[2]], None, {})),
    *({"x": entry, "y": entry}, {"x": entry | {"data_offsets": [0, 4]}}),
  ]
  texts = [*map(json.dumps, headers), "{", "[" * 100_000]
  files = [struct.pack("<Q", len(t)) + t.encode() + bytes(8) for t in texts]
  for data in (*files, b"", good[:7], good[:40], good[:-1]):
    path.write_bytes(data)
    for mapped in (False, True):
      with pytest.raises(ValueError, match="is damaged: .* safetensors"):
        tensors.load(path, mapped=mapped)
  with pytest.raises(FileNotFoundError):
    tensors.load(tmp_path / "nothing")


def test_any_flipped_bit_is_found(tmp_path):
  path = tmp_path / "a.safetensors"
  arrays = {"x": np.float32([1, 2]), "y": np.arange(3, dtype=np.uint8)}
  tensors.save(path, arrays, {"of": "tests"})
  good = path.read_bytes()
  for bit in range(8 * len(good)):
    bad = bytearray(good)
    bad[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bad)
    try:
      read, facts = tensors.load(path)
    except errors.UserError as error:
      assert "\n" not in str(error)
      continue
    # In the name of the digest: all else is as it was.
    assert len(facts) == 2 and facts["of"] == "tests", bit
    for name, value in arrays.items():
      np.testing.assert_array_equal(read[name], value)


def test_no_more_is_allocated_than_the_file_holds(tmp_path):
  """A thousand tensors of one place, which are read as float32."""
  path, size = tmp_path / "a.safetensors", 1 << 20
  entry = {"dtype": "BF16", "shape": [size], "data_offsets": [0, 2 * size]}
  text = json.dumps({f"x{i}": entry for i in range(1000)}).encode()
  path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(2 * size))
  tracemalloc.start()
  with pytest.raises(errors.UserError, match="is damaged"):
    tensors.load(path)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 20 * size


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
  path = tmp_path / "a.safetensors"
  tensors.save(path, {"x": np.float32([1])}, {})
  with pytest.raises(KeyError):
    tensors.save(path, {"x": np.array(["text"])}, {})
  np.testing.assert_array_equal(tensors.load(path)[0]["x"], [1])
  assert list(tmp_path.iterdir()) == [path]
