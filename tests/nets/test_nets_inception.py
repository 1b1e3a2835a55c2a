"""Inception-V3 beside PyTorch's operations, its resize beside TensorFlow's."""

import jax
import numpy as np
import pytest

from vidgan_jax.nets import inception


@pytest.fixture(scope="module")
def torch():
  return pytest.importorskip("torch", reason="PyTorch is the reference here")


class Reference:
  """The network from Szegedy et al. 2016 with the quirks of its 2015 graph.

  In float64, channels first. Weights are drawn as they are met and kept under
  the names of both public files.

  Attributes:
    state: names of pytorch-fid's state dict -> arrays.
    script: names of the TorchScript port -> arrays; it has no scales.
  """

  def __init__(self, torch):
    self.torch = torch
    self.state, self.script = {}, {}
    self._rng = np.random.default_rng(0)

  def conv(self, x, name, other, channels, kernel, stride=1, padding=0):
    fn = self.torch.nn.functional
    if f"{name}.conv.weight" not in self.state:
      shape = (channels, x.shape[1], *kernel)
      scale = np.sqrt(2 / np.prod(shape[1:]))
      draw = lambda low, high: self._rng.uniform(low, high, channels)
      weight = self._rng.standard_normal(shape) * scale
      mean, var, shift = draw(-0.3, 0.3), draw(0.5, 1.5), draw(-0.3, 0.3)
      tensors = {"conv.weight": weight, "bn.weight": draw(0.5, 1.5)}
      tensors |= {"bn.bias": shift, "bn.running_mean": mean}
      tensors |= {"bn.running_var": var}
      for key, value in tensors.items():
        self.state[f"{name}.{key}"] = value.astype(np.float32)
      self.state[f"{name}.bn.num_batches_tracked"] = np.array(0)
      tensors = {"weight": weight, "beta": shift, "mean": mean, "var": var}
      for key, value in tensors.items():
        self.script[f"layers.{other}.{key}"] = value.astype(np.float32)
    get = lambda key: self.torch.from_numpy(
      self.state[f"{name}.{key}"]
    ).double()
    x = fn.conv2d(x, get("conv.weight"), stride=stride, padding=padding)
    x = fn.batch_norm(
      x, get("bn.running_mean"), get("bn.running_var"), get("bn.weight"),
      get("bn.bias"), eps=0.001,
    )  # fmt: skip
    return fn.relu(x)

  def chain(self, x, block, layers):
    """Layers: (name, other name, channels, kernel[, stride])."""
    for name, other, channels, kernel, *stride in layers:
      # Padded to keep the size, unless they stride.
      padding = (0, 0) if stride else (kernel[0] // 2, kernel[1] // 2)
      names = f"{block[0]}.{name}", f"{block[1]}.{other}"
      x = self.conv(x, *names, channels, kernel, *(stride or [1]), padding)
    return x

  def mean(self, x):
    return self.torch.nn.functional.avg_pool2d(
      x, 3, 1, 1, count_include_pad=False
    )

  def a(self, x, block, pooled):
    return [
      self.chain(x, block, [("branch1x1", "conv", 64, (1, 1))]),
      self.chain(x, block, [("branch5x5_1", "tower.conv", 48, (1, 1)),
                            ("branch5x5_2", "tower.conv_1", 64, (5, 5))]),
      self.chain(x, block, [("branch3x3dbl_1", "tower_1.conv", 64, (1, 1)),
                            ("branch3x3dbl_2", "tower_1.conv_1", 96, (3, 3)),
                            ("branch3x3dbl_3", "tower_1.conv_2", 96, (3, 3))]),
      self.chain(self.mean(x), block,
                 [("branch_pool", "tower_2.conv", pooled, (1, 1))]),
    ]  # fmt: skip

  def b(self, x, block):
    return [
      self.chain(x, block, [("branch3x3", "conv", 384, (3, 3), 2)]),
      self.chain(x, block, [("branch3x3dbl_1", "tower.conv", 64, (1, 1)),
                            ("branch3x3dbl_2", "tower.conv_1", 96, (3, 3)),
                            ("branch3x3dbl_3", "tower.conv_2", 96, (3, 3), 2)]),
      self.torch.nn.functional.max_pool2d(x, 3, 2),
    ]  # fmt: skip

  def c(self, x, block, n):
    return [
      self.chain(x, block, [("branch1x1", "conv", 192, (1, 1))]),
      self.chain(x, block, [("branch7x7_1", "tower.conv", n, (1, 1)),
                            ("branch7x7_2", "tower.conv_1", n, (1, 7)),
                            ("branch7x7_3", "tower.conv_2", 192, (7, 1))]),
      self.chain(x, block, [("branch7x7dbl_1", "tower_1.conv", n, (1, 1)),
                            ("branch7x7dbl_2", "tower_1.conv_1", n, (7, 1)),
                            ("branch7x7dbl_3", "tower_1.conv_2", n, (1, 7)),
                            ("branch7x7dbl_4", "tower_1.conv_3", n, (7, 1)),
                            ("branch7x7dbl_5", "tower_1.conv_4", 192, (1, 7))]),
      self.chain(self.mean(x), block,
                 [("branch_pool", "tower_2.conv", 192, (1, 1))]),
    ]  # fmt: skip

  def d(self, x, block):
    return [
      self.chain(x, block, [("branch3x3_1", "tower.conv", 192, (1, 1)),
                            ("branch3x3_2", "tower.conv_1", 320, (3, 3), 2)]),
      self.chain(x, block, [("branch7x7x3_1", "tower_1.conv", 192, (1, 1)),
                            ("branch7x7x3_2", "tower_1.conv_1", 192, (1, 7)),
                            ("branch7x7x3_3", "tower_1.conv_2", 192, (7, 1)),
                            ("branch7x7x3_4", "tower_1.conv_3", 192, (3, 3),
                             2)]),
      self.torch.nn.functional.max_pool2d(x, 3, 2),
    ]  # fmt: skip

  def e(self, x, block, pooled):
    one = self.chain(x, block, [("branch3x3_1", "tower_conv", 384, (1, 1))])
    two = self.chain(x, block, [("branch3x3dbl_1", "tower_1_conv", 448, (1, 1)),
                                ("branch3x3dbl_2", "tower_1_conv_1", 384,
                                 (3, 3))])  # fmt: skip
    wide, high = (1, 3), (3, 1)
    return [
      self.chain(x, block, [("branch1x1", "conv", 320, (1, 1))]),
      self.chain(one, block, [("branch3x3_2a", "tower_mixed_conv", 384, wide)]),
      self.chain(one, block,
                 [("branch3x3_2b", "tower_mixed_conv_1", 384, high)]),
      self.chain(two, block,
                 [("branch3x3dbl_3a", "tower_1_mixed_conv", 384, wide)]),
      self.chain(two, block,
                 [("branch3x3dbl_3b", "tower_1_mixed_conv_1", 384, high)]),
      self.chain(pooled, block, [("branch_pool", "tower_2_conv", 192, (1, 1))]),
    ]  # fmt: skip

  def __call__(self, frames):
    """Frames (N, H, W, 3) -> name -> array, as `Network` gives them."""
    torch, fn = self.torch, self.torch.nn.functional
    x = torch.from_numpy(frames).double().permute(0, 3, 1, 2)
    found = {}
    x = self.conv(x, "Conv2d_1a_3x3", "conv", 32, (3, 3), 2)
    x = self.conv(x, "Conv2d_2a_3x3", "conv_1", 32, (3, 3))
    x = self.conv(x, "Conv2d_2b_3x3", "conv_2", 64, (3, 3), padding=1)
    x = found["features_64"] = fn.max_pool2d(x, 3, 2)
    x = self.conv(x, "Conv2d_3b_1x1", "conv_3", 80, (1, 1))
    x = self.conv(x, "Conv2d_4a_3x3", "conv_4", 192, (3, 3))
    x = found["features_192"] = fn.max_pool2d(x, 3, 2)
    for name, other, pooled in [
      ("5b", "mixed", 32),
      ("5c", "mixed_1", 64),
      ("5d", "mixed_2", 64),
    ]:
      x = torch.cat(self.a(x, (f"Mixed_{name}", other), pooled), 1)
    x = torch.cat(self.b(x, ("Mixed_6a", "mixed_3")), 1)
    for name, other, n in [
      ("6b", "mixed_4", 128),
      ("6c", "mixed_5", 160),
      ("6d", "mixed_6", 160),
      ("6e", "mixed_7", 192),
    ]:
      x = torch.cat(self.c(x, (f"Mixed_{name}", other), n), 1)
    found["features_768"] = x
    x = torch.cat(self.d(x, ("Mixed_7a", "mixed_8")), 1)
    x = torch.cat(self.e(x, ("Mixed_7b", "mixed_9"), self.mean(x)), 1)
    pooled = fn.max_pool2d(x, 3, 1, 1)
    x = torch.cat(self.e(x, ("Mixed_7c", "mixed_10"), pooled), 1)
    found["features"] = x
    found = {name: x.mean((2, 3)) for name, x in found.items()}
    if "fc.weight" not in self.state:
      weight = self._rng.standard_normal((1008, 2048)) / 50
      self.state["fc.weight"] = self.script["output.weight"] = np.float32(
        weight
      )
      bias = np.float32(self._rng.standard_normal(1008))
      self.state["fc.bias"] = self.script["output.bias"] = bias
    logits = (
      found["features"] @ torch.from_numpy(self.state["fc.weight"]).double().T
    )
    found["logits"] = logits + torch.from_numpy(self.state["fc.bias"])
    found["logits_unbiased"] = logits
    return {name: x.numpy() for name, x in found.items()}


def uniform(*shape, seed=1):
  rng = np.random.default_rng(seed)
  return rng.uniform(-1, 1, shape).astype(np.float32)


@pytest.fixture(scope="module")
def reference(torch):
  reference = Reference(torch)
  reference(uniform(1, 75, 75, 3))
  return reference


# -------------------------------------------------------------------- network


# Odd sizes: blocks of 7 x 11 down to 1 x 2, smaller than their kernels.
@pytest.mark.parametrize("size", [(75, 107), (123, 91)])
def test_every_output_is_that_of_pytorch(reference, size):
  frames = uniform(2, *size, 3)
  params = inception.convert(reference.state)
  got = jax.jit(inception.Network().apply)({"params": params}, frames)
  want = reference(frames)
  assert set(got) == set(want)
  for name, x in want.items():
    assert got[name].shape == x.shape and got[name].dtype == np.float32
    assert x.std() > 0.01 * abs(x).max()  # There is something to compare.
    np.testing.assert_allclose(got[name], x, rtol=0, atol=1e-4 * abs(x).max())


def test_the_torchscript_port_gives_the_same_parameters(reference):
  plain = {
    name: np.ones_like(x) if name.endswith(".bn.weight") else x
    for name, x in reference.state.items()
  }
  one = inception.convert(plain)
  two = inception.convert(reference.script)
  assert jax.tree.structure(one) == jax.tree.structure(two)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two)):
    np.testing.assert_array_equal(a, b)


def test_small_frames_are_refused():
  with pytest.raises(ValueError, match="at least 75 pixels a side"):
    inception.Network().init(jax.random.key(0), uniform(1, 74, 90, 3))


def test_files_of_other_networks_are_refused(reference):
  good = reference.state
  name = "Mixed_6b.branch7x7_2.conv.weight"
  turned = good[name].transpose(0, 1, 3, 2)
  torchvision = {"fc.weight": good["fc.weight"][:1000]}
  nan = {"fc.bias": np.full(1008, np.nan, np.float32)}
  auxiliary = {"AuxLogits.fc.bias": np.zeros(1000, np.float32)}
  missing = {k: x for k, x in good.items() if k != name}
  for tensors, message in [
    ({}, "no tensor 'fc.weight'"),
    (missing, f"no tensor '{name}'"),
    (good | {name: turned}, r"of shape \(128, 128, 7, 1\), not"),
    (good | torchvision, r"of shape \(1000, 2048\), not \(1008, 2048\)"),
    (good | nan, "not finite"),
    (good | auxiliary, "unexpected tensor 'AuxLogits.fc.bias'"),
    (good | reference.script, "no tensor|unexpected tensor"),
  ]:
    with pytest.raises(ValueError, match=message):
      inception.convert(tensors)


# --------------------------------------------------------------------- resize

SIZES = [(64, 64), (75, 131), (299, 299), (310, 641)]


def frames_of(size):
  rng = np.random.default_rng(sum(size))
  return rng.integers(0, 256, (2, *size, 3), dtype=np.uint8)


def interpolate(frames, places):
  """Linear, one axis after the other, at (rows, columns); float64."""
  x = frames.astype(np.float64)
  for axis, at in zip((1, 2), places):
    size = x.shape[axis]
    # Triangles of width 1 about the places; edges are held.
    near = np.clip(at, 0, size - 1)[:, None] - np.arange(size)
    weights = np.maximum(1 - abs(near), 0)
    x = np.moveaxis(np.tensordot(weights, x, (1, axis)), 0, axis)
  return x


# The libraries have places in float32: 4e-5 pixels, of at most 2 in value.
PLACES = 1e-4


@pytest.mark.parametrize("size", SIZES)
def test_tensorflows_rule(size):
  frames = frames_of(size)
  places = [np.arange(299) * n / 299 for n in size]
  want = (interpolate(frames, places) - 128) / 128
  got = inception.preprocess(frames)
  assert got.shape == (2, 299, 299, 3) and got.dtype == np.float32
  np.testing.assert_allclose(got, want, atol=PLACES)


@pytest.mark.parametrize("size", SIZES)
def test_pytorchs_rule(size):
  frames = frames_of(size)
  places = [(np.arange(299) + 0.5) * n / 299 - 0.5 for n in size]
  want = interpolate(frames, places) / 127.5 - 1
  got = inception.preprocess(frames, "pytorch_fid")
  np.testing.assert_allclose(got, want, atol=PLACES)


def test_the_rule_is_pytorchs_own(torch):
  for size in SIZES:
    frames = frames_of(size)
    x = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    x = torch.nn.functional.interpolate(
      x, (299, 299), mode="bilinear", align_corners=False
    )
    want = (2 * x - 1).permute(0, 2, 3, 1).numpy()
    got = inception.preprocess(frames, "pytorch_fid")
    np.testing.assert_allclose(got, want, atol=PLACES)


def test_the_rule_is_tensorflows_own():
  tf = pytest.importorskip("tensorflow", reason="TensorFlow is the reference")
  for size in SIZES:
    frames = frames_of(size)
    x = tf.compat.v1.image.resize_bilinear(
      frames.astype(np.float32), (299, 299), align_corners=False
    )
    want = (x.numpy() - 128) / 128
    np.testing.assert_allclose(inception.preprocess(frames), want, atol=1e-5)


def test_the_protocols_differ():
  """By more than their tests allow; and only in place and range."""
  frames = frames_of((64, 64))
  one = np.asarray(inception.preprocess(frames))
  two = np.asarray(inception.preprocess(frames, "pytorch_fid"))
  assert abs(one - two).max() > 0.1
  same = frames_of((299, 299))
  np.testing.assert_allclose(
    inception.preprocess(same), (same - 128.0) / 128, atol=1e-6
  )


def test_what_preprocess_refuses():
  for frames in (
    uniform(1, 80, 80, 3),
    np.zeros((80, 80, 3), np.uint8),
    np.zeros((1, 80, 80, 1), np.uint8),
  ):
    with pytest.raises(ValueError, match="uint8 RGB"):
      inception.preprocess(frames)
  with pytest.raises(ValueError, match="'tensorflow' or 'pytorch_fid'"):
    inception.preprocess(frames_of((80, 80)), "clean")
