"""C3D beside an implementation in PyTorch with the same random weights."""

import jax
import numpy as np
import pytest

from vidgan_jax.nets import c3d
from vidgan_jax.nets import public

# 9 frames of 37 pixels: every pooling has a last window that hangs over.
TOY = dict(classes=7, width=4, frames=9, size=37)


@pytest.fixture
def torch():
  return pytest.importorskip("torch", reason="PyTorch is not installed")


def reference(torch, width, classes, frames, size):
  """C3D from Tran et al. (2015), figure 3, and the mean of its training set."""
  nn, F = torch.nn, torch.nn.functional

  class C3D(nn.Module):
    def __init__(self):
      super().__init__()
      c = 3
      for name, d in (
        ("conv1a", 1),
        ("conv2a", 2),
        ("conv3a", 4),
        ("conv3b", 4),
        ("conv4a", 8),
        ("conv4b", 8),
        ("conv5a", 8),
        ("conv5b", 8),
      ):
        setattr(self, name, nn.Conv3d(c, d * width, 3, padding=1))
        c = d * width
      for _ in range(5):
        size_after = -(-sizes[-1] // 2)
        sizes.append(size_after)
      for _ in range(4):
        lengths.append(-(-lengths[-1] // 2))
      flat = c * lengths[-1] * sizes[-1] ** 2
      self.fc6 = nn.Linear(flat, 64 * width)
      self.fc7 = nn.Linear(64 * width, 64 * width)
      self.fc8 = nn.Linear(64 * width, classes)
      self.register_buffer("mean", torch.zeros(3, frames, 128, 171))

    def outputs(self, x, top, left):
      found = {}
      x = x - self.mean[:, :, top : top + size, left : left + size]
      x = F.relu(self.conv1a(x))
      found["pool1"] = x = F.max_pool3d(x, (1, 2, 2), ceil_mode=True)
      x = F.relu(self.conv2a(x))
      found["pool2"] = x = F.max_pool3d(x, 2, ceil_mode=True)
      x = F.relu(self.conv3b(F.relu(self.conv3a(x))))
      found["pool3"] = x = F.max_pool3d(x, 2, ceil_mode=True)
      x = F.relu(self.conv4b(F.relu(self.conv4a(x))))
      found["pool4"] = x = F.max_pool3d(x, 2, ceil_mode=True)
      x = F.relu(self.conv5b(F.relu(self.conv5a(x))))
      found["pool5"] = x = F.max_pool3d(x, 2, ceil_mode=True)
      found["fc6"] = x = F.relu(self.fc6(x.flatten(1)))
      found["fc7"] = x = F.relu(self.fc7(x))
      found["logits"] = x = self.fc8(x)
      found["softmax"] = F.softmax(x, 1)
      return found

    def forward(self, x):
      return self.outputs(x, 8, 8)["logits"]

  sizes, lengths = [size], [frames]
  torch.manual_seed(0)
  module = C3D().eval()
  with torch.no_grad():
    for layer in module.children():
      bound = (6 / layer.weight[0].numel()) ** 0.5
      layer.weight.uniform_(-bound, bound)
      layer.bias.uniform_(-0.1, 0.1)
    module.mean.uniform_(80, 120)
  return module


def clip(frames, size):
  rng = np.random.default_rng(0)
  return rng.uniform(0, 255, (2, frames, size, size, 3)).astype(np.float32)


def compare(torch, module, params, options, protocol, corner):
  video = clip(options["frames"], options["size"])
  with torch.inference_mode():
    clips = torch.from_numpy(video.transpose(0, 4, 1, 2, 3))
    want = module.outputs(clips, *corner)
  network = c3d.Network(protocol=protocol, **options)
  got = jax.jit(network.apply)({"params": params}, video)
  assert got.keys() == want.keys()
  for name, value in want.items():
    value = value.numpy()
    value = value.transpose(0, 2, 3, 4, 1) if value.ndim == 5 else value
    assert got[name].shape == value.shape, name
    scale = np.abs(value).max()
    assert scale > 0.01, name
    rtol = 1e-4 if name == "softmax" else 1e-5
    np.testing.assert_allclose(
      got[name], value, rtol=0, atol=rtol * scale, err_msg=name
    )


# ---------------------------------------------------------------------- parity


@pytest.mark.parametrize(
  "protocol, corner", [("tgan2", (8, 8)), ("tgan", (8, 29))]
)
def test_overhanging_windows(torch, protocol, corner):
  module = reference(torch, **TOY)
  state = {name: value.numpy() for name, value in module.state_dict().items()}
  params = c3d.convert(state, c3d.Network(**TOY))
  compare(torch, module, params, TOY, protocol, corner)


@pytest.mark.slow
def test_the_published_widths(torch):
  """78 million numbers, at the published input; 2 GB."""
  options = dict(classes=101, width=64, frames=16, size=112)
  module = reference(torch, **options)
  state = {name: value.numpy() for name, value in module.state_dict().items()}
  params = c3d.convert(state)
  compare(torch, module, params, options, "tgan2", (8, 8))


def test_files_of_chainer_and_of_torchscript(torch, tmp_path):
  """Two files in Chainer's names, one in TorchScript's; sizes that divide."""
  options = dict(classes=5, width=3, frames=16, size=48)
  module = reference(torch, **options)
  state = {name: value.numpy() for name, value in module.state_dict().items()}
  chainer = {
    name.replace(".weight", "/W").replace(".bias", "/b"): value
    for name, value in state.items()
    if name != "mean"
  }
  np.savez(tmp_path / "model.npz", **chainer)
  np.savez_compressed(tmp_path / "mean2.npz", mean=state["mean"])
  found = public.read(tmp_path / "model.npz")
  found |= public.read(tmp_path / "mean2.npz")
  params = c3d.convert(found, c3d.Network(**options))
  compare(torch, module, params, options, "tgan2", (8, 8))
  example = torch.zeros(1, 3, 16, 48, 48)
  torch.jit.trace(module, example).save(tmp_path / "port.pt")
  again = c3d.convert(public.read(tmp_path / "port.pt"), c3d.Network(**options))
  jax.tree.map(np.testing.assert_array_equal, again, params)


def blank(network):
  video = jax.ShapeDtypeStruct(
    (1, network.frames, network.size, network.size, 3), np.float32
  )
  shapes = jax.eval_shape(network.init, jax.random.key(0), video)["params"]
  state = {}
  for name, value in shapes.items():
    if name == "mean":
      state["mean"] = np.zeros((3, *value.shape[:3]), np.float32)
      continue
    layer, part = name.split("_")
    shape = value.shape
    if len(shape) == 5:
      shape = (*shape[:2:-1], *shape[:3])
    state[f"{layer}/{'W' if part == 'kernel' else 'b'}"] = np.zeros(
      shape[::-1] if len(shape) == 2 else shape, np.float32
    )
  return state


def test_shapes_of_the_published_network():
  """Tran et al. (2015), and the shapes that Chainer's class declares."""
  network = c3d.Network()
  video = jax.ShapeDtypeStruct((1, 16, 112, 112, 3), np.float32)
  shapes = jax.eval_shape(network.init, jax.random.key(0), video)["params"]
  assert shapes["fc6_kernel"].shape == (512 * 4 * 4, 4096)
  assert shapes["fc8_kernel"].shape == (4096, 101)
  assert shapes["conv5b_kernel"].shape == (3, 3, 3, 512, 512)
  assert shapes["mean"].shape == (16, 128, 171, 3)
  out = jax.eval_shape(network.apply, {"params": shapes}, video)
  assert out["pool5"].shape == (1, 1, 4, 4, 512)
  assert out["softmax"].shape == (1, 101)


def test_refusals():
  network = c3d.Network(**TOY)
  state = blank(network)
  c3d.convert(state, network)
  without_mean = {k: v for k, v in state.items() if k != "mean"}
  with pytest.raises(ValueError, match="mean2.npz.*has no tensor 'mean'"):
    c3d.convert(without_mean, network)
  with pytest.raises(ValueError, match="unexpected tensor 'fc9/W'"):
    c3d.convert(state | {"fc9/W": np.zeros((1, 1))}, network)
  with pytest.raises(ValueError, match="'fc8/b' of shape"):
    c3d.convert(state | {"fc8/b": np.zeros(400, np.float32)}, network)
  video = jax.ShapeDtypeStruct((1, 8, 112, 112, 3), np.float32)
  with pytest.raises(ValueError, match="Cut it to 16 frames"):
    jax.eval_shape(c3d.Network().init, jax.random.key(0), video)


# ------------------------------------------------------------------- protocols


def video(h, w):
  rng = np.random.default_rng(4)
  return rng.integers(0, 256, (1, 2, h, w, 3)).astype(np.uint8)


@pytest.mark.parametrize("h, w", [(64, 64), (240, 320)])
def test_protocol_of_tgan2(torch, h, w):
  x = video(h, w)
  frames = torch.from_numpy(x[0, ..., ::-1].transpose(0, 3, 1, 2).copy())
  want = torch.nn.functional.interpolate(
    frames.float(), size=(112, 112), mode="bilinear", align_corners=True
  )
  got = c3d.preprocess(x)
  np.testing.assert_allclose(
    got[0], want.numpy().transpose(0, 2, 3, 1), rtol=1e-4, atol=2e-3
  )


def test_protocol_of_tgan():
  cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
  x = video(64, 64)
  got = c3d.preprocess(x, "tgan")
  for frame, mine in zip(x[0], got[0]):
    want = cv2.resize(
      frame.astype(np.float32), (128, 128), interpolation=cv2.INTER_CUBIC
    )
    want = want[8:120, 8:120, ::-1]
    np.testing.assert_allclose(mine, want, rtol=1e-4, atol=2e-3)


def test_bad_input():
  with pytest.raises(ValueError, match="tgan"):
    c3d.preprocess(video(8, 8), "tgan3")
  with pytest.raises(ValueError, match="C3D's protocols are not defined"):
    c3d.preprocess(video(8, 8) / 255)
