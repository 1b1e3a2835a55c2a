"""Weights of the networks: converted once, kept with sums, listed."""

import hashlib
import pathlib
import re
import types

import numpy as np
import pytest
import safetensors
from safetensors import numpy as safetensors_numpy

from vidgan_jax import cli
from vidgan_jax.nets import store

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "metrics.md"


@pytest.fixture
def toy(tmp_path, monkeypatch):
  """A network of one tensor, and a folder of weights."""
  monkeypatch.setenv("VIDGAN_WEIGHTS", str(tmp_path / "weights"))

  def convert(tensors):
    if set(tensors) != {"w", "b"}:
      raise ValueError("These are not the toy's.")
    return {"dense": {"kernel": tensors["w"].T, "bias": tensors["b"]}}

  module = types.SimpleNamespace(
    convert=convert,
    __doc__="A toy.\n\nMore.",
    SOURCE="w.npz and b.npz,\nboth at once\n\nOf nobody.\n",
  )
  monkeypatch.setattr(store, "names", lambda: ["toy", "toy2"])
  monkeypatch.setattr(store, "net", lambda name: module)
  one, two = tmp_path / "w.npz", tmp_path / "b.npz"
  np.savez(one, w=np.float32([[1, 2, 3], [4, 5, 6]]))
  np.savez(two, b=np.float32([7, 8]))
  return one, two


def test_convert_and_load(toy, tmp_path):
  with pytest.raises(store.Missing) as missing:
    store.load("toy")
  assert str(missing.value) == (
    f"not computed: put toy.safetensors at {tmp_path / 'weights'} "
    "(see docs/metrics.md): `vidgan weights convert toy FILE` makes it of "
    "w.npz and b.npz, both at once"
  )
  path = store.convert("toy", toy)
  assert path == tmp_path / "weights/toy.safetensors"
  assert [p.name for p in path.parent.iterdir()] == ["toy.safetensors"]
  params, sha = store.load("toy")
  np.testing.assert_array_equal(
    params["dense"]["kernel"], [[1, 4], [2, 5], [3, 6]]
  )
  np.testing.assert_array_equal(params["dense"]["bias"], [7, 8])
  with safetensors.safe_open(path, framework="numpy") as file:
    facts = file.metadata()
  assert (
    sha == facts["params_sha256"]
  )  # Not of the file: that has a name in it.
  sums = [hashlib.sha256(p.read_bytes()).hexdigest() for p in toy]
  assert facts["source_sha256"] == ", ".join(sums)
  assert facts["source_file"] == "w.npz, b.npz"
  assert (facts["network"], facts["format"]) == ("toy", "1")


def test_a_sum_that_is_not_known_is_told_of(tmp_path, monkeypatch):
  """One bit that flips leaves names and shapes as they are."""
  convert = lambda tensors: {"w": tensors["w"]}
  module = types.SimpleNamespace(convert=convert, SOURCE="a.npz\n")
  monkeypatch.setattr(store, "net", lambda name: module)
  good, lines = tmp_path / "good.safetensors", []
  safetensors_numpy.save_file({"w": np.float32([1, 2])}, good)
  data = good.read_bytes()
  make = lambda path: store.convert("toy", path, tmp_path, lines.append)
  make(good)
  known = hashlib.sha256(data).hexdigest()
  assert known in lines[0] and "none is known" in lines[0]
  bad = tmp_path / "bad.safetensors"
  bad.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
  # The whole sum, or its beginning in the name of a file of PyTorch's.
  for text in (f"a.npz, sha256\n{known}\n", f"net-{known[:8]}.pth by them"):
    module.SOURCE = text
    lines.clear()
    make(good)
    make(bad)
    assert lines[0] == "good.safetensors: a known file, by its sha256"
    assert lines[1].startswith("bad.safetensors: warning: sha256 ")
    assert "not one of the known files" in lines[1] and known[:8] in lines[1]


def test_a_failed_conversion_changes_nothing(toy, tmp_path):
  path = store.convert("toy", toy)
  before = path.read_bytes()
  with pytest.raises(ValueError, match="w.npz: These are not the toy's"):
    store.convert("toy", toy[0])
  with pytest.raises(ValueError, match="'w' is in an earlier file too"):
    store.convert("toy", [toy[0], toy[0]])
  assert path.read_bytes() == before
  assert len(list(path.parent.iterdir())) == 1
  other = store.convert("toy", toy, tmp_path / "elsewhere")
  assert other == tmp_path / "elsewhere/toy.safetensors"


def test_damaged_and_exchanged_files(toy):
  path = store.convert("toy", toy)
  good = path.read_bytes()
  store.where("toy2").write_bytes(good)
  with pytest.raises(ValueError, match="holds the weights of 'toy'.*'toy2'"):
    store.load("toy2")
  at = good.index(np.float32(5).tobytes())
  for bad, why in (
    (good[:at] + b"\x01" + good[at + 1 :], "numbers are not those"),
    (good[:-4], "is damaged"),
    (b"", "is damaged"),
  ):
    path.write_bytes(bad)
    with pytest.raises(ValueError, match=f"{why}.*vidgan weights convert toy"):
      store.load("toy")
  safetensors_numpy.save_file({"w": np.float32([1])}, path)  # Nobody's.
  with pytest.raises(ValueError, match="weights of None"):
    store.load("toy")


def test_the_folder(monkeypatch):
  monkeypatch.delenv("VIDGAN_WEIGHTS", raising=False)
  monkeypatch.setenv("HOME", "/home/someone")
  assert str(store.folder()) == "/home/someone/.cache/vidgan_jax/weights"
  monkeypatch.setenv("VIDGAN_WEIGHTS", "~/w")
  assert str(store.folder()) == "/home/someone/w"


# -------------------------------------------------------------------- the verb


def test_the_verb(toy, capsys):
  assert cli.main(["weights"]) == 0
  out = capsys.readouterr().out
  assert "toy   missing  A toy.\n    w.npz and b.npz" in out
  assert "    Of nobody." in out and str(store.folder()) in out
  assert cli.main(["weights", "convert", "toy", *map(str, toy)]) == 0
  out = capsys.readouterr().out
  assert out.startswith("toy: 0.0 MiB -> ") and str(store.where("toy")) in out
  assert cli.main(["weights"]) == 0
  there = capsys.readouterr().out.split("toy2")[0]
  assert "toy   there    A toy." in there and "w.npz" not in there
  assert cli.main(["weights", "convert", "toy", str(toy[0])]) == 1
  assert "not the toy's" in capsys.readouterr().err
  assert cli.main(["weights", "convert", "toy", "nothing.pt"]) == 1
  assert "nothing.pt" in capsys.readouterr().err


def test_every_network_is_listed(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("VIDGAN_WEIGHTS", str(tmp_path))
  names, rows = store.names(), DOCS.read_text().splitlines()
  assert {"i3d", "c3d"} <= set(names) and "conv" not in names
  assert cli.main(["weights"]) == 0
  out = capsys.readouterr().out
  for one in names:
    assert f"\n  {one} " in out
    module = store.net(one)
    assert module.__doc__
    # The file that the refusal names has its row in the table of the docs.
    file = module.SOURCE.split()[0]
    assert f"    {file}" in out
    with pytest.raises(store.Missing, match=f"put {one}.* of {file}"):
      store.load(one)
    (row,) = [line for line in rows if line.startswith(f"| `{one}` |")]
    assert f"`{file}`" in row
    for known in re.findall(r"\b[0-9a-f]{64}\b", module.SOURCE):
      assert known in row
  assert cli.main(["weights", "convert", "i3", "x"]) == 1
  assert "i3d" in capsys.readouterr().err
