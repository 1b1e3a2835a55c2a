"""Public files of weights: read as data, refused with reasons."""

import argparse
import datetime
import io
import os
import pickle
import struct
import tracemalloc
import types
import zipfile

import hostile
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from vidgan_jax import errors
from vidgan_jax.nets import public
from vidgan_jax.nets import store


@pytest.fixture
def torch():
  return pytest.importorskip("torch", reason="PyTorch is not installed")


def same(got, want):
  assert got.keys() == want.keys()
  for name, value in want.items():
    assert got[name].dtype == np.asarray(value).dtype, name
    np.testing.assert_array_equal(got[name], value, err_msg=name)


# ------------------------------------------------- PyTorch's archives, by hand


def name(text):
  return b"X" + struct.pack("<I", len(text)) + text.encode()


def number(value):
  return b"J" + struct.pack("<i", value)


def numbers(values):
  return b"(" + b"".join(map(number, values)) + b"t"


def tensor(key, kind, offset, size, stride, count):
  """What torch.save writes for a tensor, by the protocol of its pickle."""
  storage = (
    b"(("[:1]
    + name("storage")
    + b"ctorch\n"
    + kind.encode()
    + b"\n"
    + name(key)
    + name("cpu")
    + number(count)
    + b"tQ"
  )
  return (
    b"ctorch._utils\n_rebuild_tensor_v2\n("
    + storage + number(offset) + numbers(size) + numbers(stride)
    + b"\x89" + b"ccollections\nOrderedDict\n)R" + b"tR"
  )  # fmt: skip


def archive(path, entries, storages, byteorder=b"little"):
  """An archive whose pickle is a dict of the entries (bytes of opcodes)."""
  body = b"".join(name(key) + value for key, value in entries.items())
  with zipfile.ZipFile(path, "w") as file:
    file.writestr("file/data.pkl", b"\x80\x02}(" + body + b"u.")
    file.writestr("file/byteorder", byteorder)
    for key, value in storages.items():
      file.writestr(f"file/data/{key}", value)
  return path


def test_an_archive_of_pytorch(tmp_path):
  base = np.arange(12, dtype=np.float32)
  half = np.float16([0.5, -2, 65504])
  brain = np.float32([1, -3.140625, 2.0**100])
  path = archive(
    tmp_path / "model.bin",  # What its name says is of no matter.
    {
      "plain": tensor("0", "FloatStorage", 0, (3, 4), (4, 1), 12),
      "turned": tensor("0", "FloatStorage", 0, (4, 3), (1, 4), 12),
      "part": tensor("0", "FloatStorage", 5, (2, 2), (4, 1), 12),
      "scalar": tensor("0", "FloatStorage", 7, (), (), 12),
      "none": tensor("0", "FloatStorage", 0, (0, 3), (3, 1), 12),
      "half": tensor("1", "HalfStorage", 0, (3,), (1,), 3),
      "brain": tensor("2", "BFloat16Storage", 0, (3,), (1,), 3),
      "long": tensor("3", "LongStorage", 0, (1,), (1,), 1),
      "epoch": number(3),
    },
    {
      "0": base.tobytes(),
      "1": half.tobytes(),
      "2": (brain.view(np.uint32) >> 16).astype("<u2").tobytes(),
      "3": np.int64([-7]).tobytes(),
    },
  )
  same(
    public.read(path),
    {
      "plain": base.reshape(3, 4),
      "turned": base.reshape(3, 4).T,
      "part": base[[[5, 6], [9, 10]]],
      "scalar": base[7],
      "none": np.zeros((0, 3), np.float32),
      "half": half.astype(np.float32),
      "brain": brain,
      "long": np.int64([-7]),
    },
  )


def test_tensors_that_do_not_lie_in_their_storage(tmp_path):
  data = np.arange(12, dtype=np.float32).tobytes()
  for offset, size, stride in (
    (0, (3, 5), (5, 1)),
    (1, (3, 4), (4, 1)),
    (-1, (2,), (1,)),
    (0, (3,), (-1,)),
    (0, (4,), (1000000,)),
    (0, (10**6,), (0,)),  # A small file must not become a large array.
    (0, (2, 2), (1,)),
  ):
    path = archive(
      tmp_path / "a.pt",
      {"w": tensor("0", "FloatStorage", offset, size, stride, 12)},
      {"0": data},
    )
    with pytest.raises(ValueError, match="a.pt is refused: "):
      public.read(path)


EVIL = {
  "os.system": b"cos\nsystem\n(" + name("touch {marker}") + b"tR",
  "builtins.eval": b"c__builtin__\neval\n(" + name("1") + b"tR",
  "subprocess.Popen": name("subprocess") + name("Popen") + b"\x93"
  + b"(" + name("touch {marker}") + b"tR",
  "torch.hub.load": b"ctorch.hub\nload\n)R",
  "torch.load": b"ctorch\nload\n)R",
  "numpy.fromfile": b"cnumpy\nfromfile\n)R",
}  # fmt: skip


@pytest.mark.parametrize("call", EVIL)
def test_no_pickle_is_run(tmp_path, call):
  """By name, and before anything happens, wherever in the file it stands."""
  marker = tmp_path / "marker"
  text = b"touch {marker}"
  code = EVIL[call]
  if text in code:
    command = f"touch {marker}"
    code = code.replace(
      b"X" + struct.pack("<I", len(text)) + text, name(command)
    )
  good = tensor("0", "FloatStorage", 0, (1,), (1,), 1)
  path = archive(
    tmp_path / "model.pt", {"w": good, "x": code}, {"0": b"\0" * 4}
  )
  wanted = call.replace("builtins", "__builtin__").replace(".", r"\.")
  with pytest.raises(ValueError, match=f"wants to call {wanted}.*was run"):
    public.read(path)
  assert not marker.exists()


def test_an_evil_object_as_pickle_writes_it(tmp_path):
  marker = tmp_path / "marker"

  class Evil:
    def __reduce__(self):
      return os.system, (f"touch {marker}",)

  for protocol in range(6):
    data = pickle.dumps({"state_dict": {"w": Evil()}}, protocol)
    with zipfile.ZipFile(tmp_path / "new.pt", "w") as file:
      file.writestr("archive/data.pkl", data)
    why = r"wants to call \w+\.system" if protocol > 1 else "is refused"
    with pytest.raises(ValueError, match=why):
      public.read(tmp_path / "new.pt")
    (tmp_path / "old.pt").write_bytes(data)
    with pytest.raises(ValueError):
      public.read(tmp_path / "old.pt")
  assert not marker.exists()
  # The attack works where a pickle is opened as one.
  pickle.loads(data)
  assert marker.exists()


def test_pickled_arrays(tmp_path):
  """Dicts of NumPy arrays; anything else in them is refused, unread."""
  rng = np.random.default_rng(0)
  tree = {
    "params": {
      "conv": {"kernel": rng.standard_normal((2, 3)).astype(np.float32)},
      "half": rng.standard_normal(4).astype(np.float16),
      "columns": np.asfortranarray(rng.standard_normal((2, 3))),
      "count": np.array(7),
    },
    "stats": {"mean": np.float32([1, 2])},
  }
  path = tmp_path / "flax.ckpt"
  for protocol in (3, 4, 5):
    path.write_bytes(pickle.dumps(tree, protocol))
    found = public.read(path)
    assert found.keys() == {
      *("params.conv.kernel", "params.half", "params.columns", "params.count"),
      "stats.mean",
    }
    np.testing.assert_array_equal(
      found["params.columns"], tree["params"]["columns"]
    )
    assert found["params.half"].dtype == np.float32
  wrong = {
    "not of plain numbers": np.array([{}, "x"], object),
    "big-endian": np.array([1, 2], ">f4"),
    r"wants to call datetime\.date": datetime.date(2020, 1, 1),
  }
  for why, value in wrong.items():
    path.write_bytes(pickle.dumps(tree | {"x": value}, 4))
    with pytest.raises(ValueError, match=why):
      public.read(path)
  for cut in range(1, 300, 7):
    path.write_bytes(pickle.dumps(tree, 4)[:-cut])
    with pytest.raises(ValueError):
      public.read(path)


def test_odd_pickles(tmp_path):
  """Loops, instructions without sense, no end: refused, no other error."""
  cases = {
    "holds no tensors": b"\x80\x02}q\x00(" + name("a") + b"h\x00u.",  # Itself.
    "no end|exhausted": b"\x80\x02}",
    "is refused": b"\x80\x02.",
    "is refused: ": b"\x80\x02h\x07.",
    "not to a storage": b"\x80\x02(" + name("x") + b"NNtQ.",
  }
  for message, data in cases.items():
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as file:
      file.writestr("a/data.pkl", data)
    with pytest.raises(ValueError, match=message):
      public.read(tmp_path / "a.pt")


def test_damaged_archives(tmp_path):
  good = archive(
    tmp_path / "good.pt",
    {"w": tensor("0", "FloatStorage", 0, (3,), (1,), 3)},
    {"0": np.float32([1.5, 2.5, 3.5]).tobytes()},
  ).read_bytes()
  bad = tmp_path / "bad.pt"
  at = good.index(np.float32(2.5).tobytes())
  bad.write_bytes(good[:at] + b"\xff" + good[at + 1 :])
  with pytest.raises(ValueError, match="bad.pt is a damaged archive"):
    public.read(bad)
  bad.write_bytes(good[: len(good) // 2])
  with pytest.raises(ValueError, match="bad.pt is a damaged archive"):
    public.read(bad)
  path = archive(
    bad, {"w": tensor("9", "FloatStorage", 0, (3,), (1,), 3)}, {"0": b""}
  )
  with pytest.raises(ValueError, match="refused: .*file/data/9"):
    public.read(path)
  archive(bad, {}, {}, byteorder=b"big")
  with pytest.raises(ValueError, match="big-endian"):
    public.read(bad)
  with zipfile.ZipFile(bad, "w") as file:
    file.writestr("readme.txt", "hello")
  with pytest.raises(ValueError, match="zip archive, but neither"):
    public.read(bad)


# ---------------------------------------------------- PyTorch's archives, real


def test_what_torch_saves(torch, tmp_path):
  base = torch.arange(24.0).reshape(4, 6)
  state = {
    "a.weight": base,
    "a.view": base[1:, ::2],
    "a.turned": base.T,
    "b.half": torch.tensor([0.5, 3]).half(),
    "b.brain": torch.tensor([0.5, -3]).bfloat16(),
    "b.double": torch.tensor([1 / 3], dtype=torch.float64),
    "b.bool": torch.tensor([True, False]),
    "b.num": torch.tensor(5),
    "p": torch.nn.Parameter(torch.tensor([2.0])),
  }
  want = {k: v.detach().float().numpy() for k, v in state.items()}
  want["b.double"] = np.float64([1 / 3])
  want["b.bool"], want["b.num"] = np.array([True, False]), np.int64(5)
  torch.save(state, tmp_path / "a.pt")
  same(public.read(tmp_path / "a.pt"), want)
  # As trainers save it, with things beside that no one needs.
  torch.save(
    {
      "model": state,
      "epoch": 7,
      "args": argparse.Namespace(lr=0.1),
      "best": np.float64(0.5),
      "optimizer": {"state": {0: {"exp_avg": base}}, "param_groups": [{}]},
    },
    tmp_path / "b.pt",
  )
  same(public.read(tmp_path / "b.pt"), want)
  torch.save({"model": state, "x": types.SimpleNamespace()}, tmp_path / "c.pt")
  with pytest.raises(ValueError, match="types.SimpleNamespace.*state_dict"):
    public.read(tmp_path / "c.pt")
  torch.save(state, tmp_path / "d.pt", _use_new_zipfile_serialization=False)
  same(public.read(tmp_path / "d.pt"), want)
  # Cut short, and another pickle of that format.
  data = (tmp_path / "d.pt").read_bytes()
  for end in (len(data) - 1, len(data) // 2, 40):
    (tmp_path / "e.pt").write_bytes(data[:end])
    with pytest.raises(ValueError, match="e.pt is refused"):
      public.read(tmp_path / "e.pt")


def test_torchscript_archives(torch, tmp_path):
  class Inner(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.norm = torch.nn.BatchNorm1d(3)
      self.layers = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
      self.register_buffer("table", torch.arange(6).reshape(2, 3))

    def forward(self, x, rescale: bool = False):
      if rescale:
        x = x * 2
      return self.norm(self.layers(x)) + self.table[0]

  class Outer(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.inner = Inner()
      self.sizes = [1, 2]
      self.rate = 0.5

    def forward(self, x):
      return self.inner(x) * self.rate

  module = Outer().eval()
  want = {k: v.numpy() for k, v in module.state_dict().items()}
  torch.jit.script(module).save(tmp_path / "a.pt")
  torch.jit.trace(module, torch.zeros(2, 4)).save(tmp_path / "b.pt")
  torch.jit.freeze(torch.jit.script(module)).save(tmp_path / "c.pt")
  same(public.read(tmp_path / "a.pt"), want)
  same(public.read(tmp_path / "b.pt"), want)
  with pytest.raises(ValueError, match="holds no tensors"):
    public.read(tmp_path / "c.pt")  # Its tensors are constants of the code.


# ----------------------------------------------------------------- other kinds


def test_npz(tmp_path):
  arrays = {"conv1/W": np.float32([[1, 2]]), "h": np.float16([3])}
  np.savez_compressed(tmp_path / "a.npz", **arrays)
  same(public.read(tmp_path / "a.npz"), arrays | {"h": np.float32([3])})
  np.savez(tmp_path / "b.npz", a=np.array([{"x": 1}], dtype=object))
  with pytest.raises(ValueError, match="b.npz is .*no array .*allow_pickle"):
    public.read(tmp_path / "b.npz")


def test_safetensors(tmp_path):
  arrays = {"a": np.float32([[1, 2]]), "b": np.int64([3]), "c": np.float16([4])}
  path = tmp_path / "a.safetensors"
  safetensors_numpy.save_file(arrays, path, metadata={"format": "pt"})
  same(public.read(path), arrays | {"c": np.float32([4])})
  header = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
  body = (np.float32([1, -2]).view("<u4") >> 16).astype("<u2").tobytes()
  path.write_bytes(struct.pack("<Q", len(header)) + header + body)
  same(public.read(path), {"x": np.float32([1, -2])})
  path.write_bytes(struct.pack("<Q", len(header)) + header + body[:2])
  with pytest.raises(ValueError, match="is damaged: .* safetensors"):
    public.read(path)


def test_tensorflow(tmp_path):
  tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
  arrays = {
    "RGB/inception_i3d/Logits/conv_3d/w": np.float32([[1, 2]]),
    "half": np.float16([3]),
    "global_step": np.int64(7),
  }

  def write(prefix):
    prefix.parent.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
      prefix=str(prefix),
      tensor_names=[*arrays, "_CHECKPOINTABLE_OBJECT_GRAPH"],
      shape_and_slices=[""] * (len(arrays) + 1),
      tensors=[*map(tf.constant, arrays.values()), tf.constant("graph")],
    )

  want = arrays | {"half": np.float32([3])}
  write(tmp_path / "model.ckpt")
  write(tmp_path / "hub/variables/variables")
  (tmp_path / "hub/saved_model.pb").write_bytes(b"")
  for path in ("model.ckpt", "model.ckpt.index", "hub", "hub/variables"):
    same(public.read(tmp_path / path), want)
  (data,) = (tmp_path / "hub/variables").glob("*.data*")
  data.write_bytes(data.read_bytes()[:3])
  with pytest.raises(ValueError, match="hub is a damaged checkpoint"):
    public.read(tmp_path / "hub")
  (tmp_path / "empty").mkdir()
  with pytest.raises(ValueError, match="not a TF-Hub module"):
    public.read(tmp_path / "empty")


def test_files_of_no_kind(tmp_path):
  for data in (
    b"",
    b"<!DOCTYPE html><html>Sign in",
    b"\x89PNG\r\n" + b"\0" * 99,
    b"\x08\x08\x12\x07pytorch:\x04\x2a\x02\x08\x01",  # ONNX.
  ):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ValueError, match="a web page saved in its place"):
      public.read(tmp_path / "file")
  with pytest.raises(FileNotFoundError):
    public.read(tmp_path / "nothing.pt")


ENTRIES = {
  "w": tensor("0", "FloatStorage", 0, (2, 3), (3, 1), 6),
  "h": tensor("1", "HalfStorage", 1, (4,), (1,), 5),
  "b": tensor("2", "BFloat16Storage", 0, (3,), (1,), 3),
}
STORAGES = {"0": bytes(24), "1": bytes(10), "2": bytes(6)}


def old_torch(entries, storages):
  """What PyTorch before 1.6 wrote: pickles in a row, then the numbers."""
  body = b"".join(name(key) + value for key, value in entries.items())
  facts = 0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}
  data = b"".join(pickle.dumps(x, 2) for x in facts)
  data += b"\x80\x02}(" + body + b"u." + pickle.dumps([*storages], 2)
  return data + b"".join(
    struct.pack("<q", len(x)) + x for x in storages.values()
  )


def test_random_damage_is_refused_or_harmless(tmp_path):
  """Nothing but a UserError of one line, whatever the bytes."""
  rng, path = np.random.default_rng(0), tmp_path / "file.npz"
  arrays = {"w": np.float32([1, 2]), "i": np.arange(3)}
  whole = {"torch": archive(path, ENTRIES, STORAGES).read_bytes()}
  np.savez(path, **arrays)
  whole["npz"] = path.read_bytes()
  whole |= {
    "old": old_torch(ENTRIES, STORAGES),
    "safetensors": safetensors_numpy.save(arrays),
    "pickle": pickle.dumps({"params": arrays}),
  }
  for kind, data in whole.items():
    path.write_bytes(data)
    assert public.read(path), kind
    opened = 0
    for _ in range(100):
      path.write_bytes(hostile.damaged(data, rng))
      try:
        public.read(path)
        opened += 1
      except errors.UserError as e:
        assert str(path) in str(e) and "\n" not in str(e)
    assert opened < 60, kind


def bombs():
  """Small files that ask for more than 256 MiB: name, bytes."""
  zeros, big = io.BytesIO(), 17 << 24
  with zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as file:
    with file.open("w.npy", "w") as inner:
      header = {"descr": "|u1", "fortran_order": False, "shape": (big,)}
      np.lib.format.write_array_header_1_0(inner, header)
      for _ in range(big >> 24):
        inner.write(bytes(1 << 24))
  yield "deflated", zeros.getvalue()
  claim = io.BytesIO()
  with zipfile.ZipFile(claim, "w") as file:
    with file.open("w.npy", "w") as inner:
      np.lib.format.write_array_header_1_0(inner, header)
  yield "claimed", claim.getvalue()
  once = {"0": bytes(1 << 20)}
  each = tensor("0", "HalfStorage", 0, (1 << 19,), (1,), 1 << 19)
  yield "shared", old_torch({f"w{i}": each for i in range(600)}, once)
  each = [
    tensor(f"{i}", "ByteStorage", 0, (9,), (1,), 1 << 19) for i in range(600)
  ]
  yield "storages", old_torch({f"w{i}": x for i, x in enumerate(each)}, once)


def test_bombs_are_refused_before_memory_is_taken(tmp_path):
  path = tmp_path / "w.npz"
  for kind, data in bombs():
    path.write_bytes(data)
    assert len(data) < 1 << 22, kind
    tracemalloc.start()
    try:
      with pytest.raises(errors.UserError, match="w.npz"):
        public.read(path)
      assert tracemalloc.get_traced_memory()[1] < 1 << 25, kind
    finally:
      tracemalloc.stop()


def test_a_conversion_takes_the_memory_of_its_result(tmp_path, monkeypatch):
  """Eight times as much lies unused in the file, as an optimizer's state."""
  num = 2**20
  rng = np.random.default_rng(0)
  values = rng.standard_normal((2, num), np.float32)
  place = lambda key, count: tensor(
    key, "FloatStorage", 0, (count,), (1,), count
  )
  path = archive(
    tmp_path / "state.pt",
    {"a": place("0", num), "b": place("1", num), "opt.a": place("2", 16 * num)},
    {"0": values[0].tobytes(), "1": values[1].tobytes(), "2": bytes(64 * num)},
  )
  convert = lambda tensors: {"ab": np.stack([tensors["a"], tensors["b"]])}
  module = types.SimpleNamespace(convert=convert, UNUSED=r"opt\..*", SOURCE="")
  monkeypatch.setattr(store, "net", lambda name: module)
  tracemalloc.start()
  try:
    out = store.convert("toy", path, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  np.testing.assert_array_equal(safetensors_numpy.load_file(out)["ab"], values)
  assert values.nbytes <= peak < 2 * values.nbytes
