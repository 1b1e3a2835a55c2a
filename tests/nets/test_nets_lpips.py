"""AlexNet, VGG-16 and LPIPS beside PyTorch's operations in float64."""

import jax
import numpy as np
import pytest

from vidgan_jax.evals import perceptual
from vidgan_jax.nets import lpips
from vidgan_jax.nets import lpips_alex
from vidgan_jax.nets import lpips_vgg
from vidgan_jax.nets import store
from vidgan_jax.nets import trunks

# The networks as torchvision numbers their 'features': a convolution is
# (channels, side, stride, padding), 'tap' what is compared, a pool (side, 2).
ALEX = {0: (64, 11, 4, 2), 1: "tap", 2: (3, 2), 3: (192, 5, 1, 2), 4: "tap",
        5: (3, 2), 6: (384, 3, 1, 1), 7: "tap", 8: (256, 3, 1, 1), 9: "tap",
        10: (256, 3, 1, 1), 11: "tap"}  # fmt: skip
VGG = {}
for depth, width in [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]:
  for _ in range(depth):
    VGG |= {len(VGG): (width, 3, 1, 1), len(VGG) + 1: "relu"}
  VGG |= {len(VGG) - 1: "tap", len(VGG): (2, 2)}
SPECS = {"alex": ALEX, "vgg": VGG}
CONVERTERS = {"alex": lpips_alex, "vgg": lpips_vgg}


def uniform(*shape, seed=1, low=-1):
  rng = np.random.default_rng(seed)
  return rng.uniform(low, 1, shape).astype(np.float32)


def draw(trunk, bias=0.2):
  """Weights under the public names: of the trunk, of the heads."""
  rng = np.random.default_rng(0)
  tensors, heads, below = {}, {}, 3
  for i, layer in SPECS[trunk].items():
    if layer == "tap":
      head = rng.uniform(0, 1, (1, below, 1, 1)).astype(np.float32)
      heads[f"lin{len(heads)}.model.1.weight"] = head
    elif len(layer) == 4 and layer != "relu":
      shape = (layer[0], below, layer[1], layer[1])
      weight = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
      tensors[f"features.{i}.weight"] = weight.astype(np.float32)
      shift = rng.uniform(-bias, bias, layer[0])
      tensors[f"features.{i}.bias"] = shift.astype(np.float32)
      below = layer[0]
  tensors["classifier.6.bias"] = np.zeros(1000, np.float32)
  return tensors, heads


@pytest.fixture(scope="module")
def files():
  """What the public files hold: trunk -> (trunk's tensors, heads')."""
  return {trunk: draw(trunk) for trunk in SPECS}


@pytest.fixture(scope="module")
def params(files):
  return {
    trunk: CONVERTERS[trunk].convert(one | two)
    for trunk, (one, two) in files.items()
  }


@pytest.fixture(scope="module")
def reference(files):
  """(trunk, clip, clip) -> taps of the first, and LPIPS of each frame."""
  torch = pytest.importorskip("torch", reason="PyTorch is the reference here")
  fn = torch.nn.functional

  def taps(trunk, video):
    tensors = {
      k: torch.from_numpy(x).double() for k, x in files[trunk][0].items()
    }
    x = torch.from_numpy(np.asarray(video, np.float64)).permute(0, 3, 1, 2)
    column = lambda *x: torch.tensor(x, dtype=torch.float64).reshape(1, 3, 1, 1)
    x = (x - column(-0.030, -0.088, -0.188)) / column(0.458, 0.448, 0.450)
    found = []
    for i, layer in SPECS[trunk].items():
      if layer in ("tap", "relu"):
        x = torch.relu(x)
        found += [x] if layer == "tap" else []
      elif len(layer) == 2:
        x = fn.max_pool2d(x, *layer)
      else:
        weight, bias = (
          tensors[f"features.{i}.{k}"] for k in ("weight", "bias")
        )
        x = fn.conv2d(x, weight, bias, stride=layer[2], padding=layer[3])
      if len(found) == 5:
        return found

  def value(trunk, video, target):
    ours, theirs = taps(trunk, video), taps(trunk, target)
    total = 0
    for i, (a, b) in enumerate(zip(ours, theirs)):
      unit = lambda x: x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)
      head = torch.from_numpy(
        files[trunk][1][f"lin{i}.model.1.weight"]
      ).double()
      total = total + fn.conv2d((unit(a) - unit(b)) ** 2, head).mean((1, 2, 3))
    return [x.permute(0, 2, 3, 1).numpy() for x in ours], total.numpy()

  return value


# ------------------------------------------------------------------- networks


# The smallest that each can see, and an odd one, cut by strides and pools.
@pytest.mark.parametrize(
  "trunk, size",
  [
    ("alex", (31, 47)),
    ("alex", (64, 51)),
    ("vgg", (16, 33)),
    ("vgg", (37, 22)),
  ],
)
def test_activations_and_distances_are_those_of_pytorch(
  params, reference, trunk, size
):
  video, target = uniform(2, *size, 3), uniform(2, *size, 3, seed=2)
  # A frame near its target: small distances must be right as well.
  video[1] = 0.98 * target[1]
  taps, want = reference(trunk, video, target)

  @jax.jit
  def apply(params, frames):
    frames = lpips.preprocess(frames)
    found = lpips.Network(trunk).apply({"params": params}, frames)
    one, two = ({k: x[i : i + 2] for k, x in found.items()} for i in (0, 2))
    network = trunks.Network(lpips.TRUNKS[trunk])
    plain = network.apply({"params": params["trunk"]}, frames)
    return plain, lpips.distance(one, two)

  found, got = apply(params[trunk], np.concatenate([video, target]))
  assert set(found) == set(lpips.TRUNKS[trunk].taps)
  for name, tap in zip(lpips.TRUNKS[trunk].taps, taps, strict=True):
    x = found[name]
    assert x.shape == (4, *tap.shape[1:])
    np.testing.assert_allclose(x[:2], tap, rtol=0, atol=1e-4 * tap.max())
  assert got.shape == (2,) and got[0] > 10 * got[1] > 0
  np.testing.assert_allclose(got, want, rtol=1e-4)


def test_where_nothing_is_active_there_is_no_nan(files):
  """No activation at all: distance and slope are 0."""
  tensors = dict(files["alex"][0])
  tensors["features.0.weight"] = 0 * tensors["features.0.weight"]
  tensors["features.0.bias"] = -np.ones(64, np.float32)
  dark = lpips_alex.convert(tensors | files["alex"][1])
  for name in list(lpips.TRUNKS["alex"].taps)[1:]:
    dark["trunk"][name]["bias"] = -np.ones_like(dark["trunk"][name]["bias"])

  @jax.jit
  @jax.value_and_grad
  def value(frames):
    found = lpips.Network("alex").apply({"params": dark}, frames)
    one, two = (
      {k: x[i] for k, x in found.items()} for i in (slice(1), slice(1, 2))
    )
    return lpips.distance(one, two).sum()

  result, slope = value(uniform(2, 31, 31, 3))
  assert result == 0 and not np.any(slope)


@pytest.mark.parametrize("trunk, side", [("alex", 30), ("vgg", 15)])
def test_small_frames_are_refused(params, trunk, side):
  with pytest.raises(ValueError, match=f"at least {side + 1} pixels a side"):
    lpips.Network(trunk).apply(
      {"params": params[trunk]}, uniform(1, 60, side, 3)
    )


def test_files_of_other_networks_are_refused(files):
  alex, alex_heads = files["alex"]
  vgg, vgg_heads = files["vgg"]
  without = {k: x for k, x in alex.items() if k != "features.10.bias"}
  negative = {k: -x for k, x in alex_heads.items()}
  nan = {"features.0.bias": np.full(64, np.nan, np.float32)}
  more = {"features.30.weight": vgg["features.0.weight"]}
  for net, tensors, message in [
    (
      lpips_alex,
      vgg | alex_heads,
      r"AlexNet.*\(64, 3, 3, 3\), not \(64, 3, 11",
    ),
    (lpips_vgg, alex | vgg_heads, r"VGG-16.*shape \(64, 3, 11, 11\), not"),
    (lpips_alex, without | alex_heads, "no tensor 'features.10.bias'"),
    (lpips_alex, alex | alex_heads | nan, "'features.0.bias' that are not fin"),
    (lpips_vgg, vgg | vgg_heads | more, "unexpected.*'features.30.weight'"),
    (lpips_alex, alex | vgg_heads, r"over 'alex'.*\(1, 128, 1, 1\), not"),
    (lpips_vgg, vgg | alex_heads, r"over 'vgg'.*\(1, 192, 1, 1\), not"),
    (lpips_vgg, vgg, "the heads did not come: give both"),
    (lpips_alex, alex_heads, "the trunk did not come: give both"),
    (lpips_alex, alex | negative, "negative numbers"),
  ]:
    with pytest.raises(ValueError, match=message):
      net.convert(tensors)


@pytest.mark.parametrize("trunk", SPECS)
def test_both_files_as_flax_has_them(files, params, trunk):
  tensors, heads = files[trunk]
  prefix = {"alex": "AlexNet_0", "vgg": "VGG16_0"}[trunk]
  kernels = [k for k in tensors if k.startswith("features") and "weight" in k]
  flax = {}
  for i, name in enumerate(kernels):
    kernel = tensors[name].transpose(2, 3, 1, 0)
    flax[f"{prefix}.Conv_{i}.kernel"] = kernel
    bias = tensors[name.replace("weight", "bias")]
    flax[f"{prefix}.Conv_{i}.bias"] = bias
  for i, head in enumerate(heads.values()):
    flax[f"NetLinLayer_{i}.Conv_0.kernel"] = head.transpose(2, 3, 1, 0)
  found = CONVERTERS[trunk].convert(flax)
  jax.tree.map(np.testing.assert_array_equal, found, params[trunk])
  more = flax | {f"{prefix}.Conv_13.bias": np.zeros(4, np.float32)}
  with pytest.raises(ValueError, match="unexpected tensor 'features.?"):
    CONVERTERS[trunk].convert(more)


# ---------------------------------------------------------------------- clips


@pytest.fixture
def loaded(monkeypatch, params, tmp_path):
  """The random weights, as if they had been put there."""
  load = lambda name: (params[name.removeprefix("lpips_")], f"sha-{name}")
  monkeypatch.setattr(store, "folder", lambda: tmp_path)
  monkeypatch.setattr(store, "load", load)


@pytest.fixture(scope="module")
def clips():
  """Six frames of one scene, and the same with rising faults."""
  target = np.cumsum(uniform(6, 31, 36, 3, seed=3) / 6, 0, dtype=np.float32)
  faults = 0.1 * np.arange(6)[:, None, None, None]
  video = target + faults * uniform(6, 31, 36, 3, seed=4)
  return video.clip(-1, 1).astype(np.float32), target.clip(-1, 1)


def test_a_clip(loaded, reference, clips):
  video, target = clips
  between = reference("alex", video, target)[1]
  ours = reference("alex", video[1:], video[:-1])[1]
  theirs = reference("alex", target[1:], target[:-1])[1]
  got = perceptual.compare(video, target)
  # The first frames are equal: for distances that are 0 but for rounding.
  close = dict(rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(got.between, between, **close)
  np.testing.assert_allclose(got.steps, ours, **close)
  np.testing.assert_allclose(got.target_steps, theirs, **close)
  np.testing.assert_allclose(got.lpips, between.mean(), rtol=1e-4)
  assert perceptual.lpips(video, target) == got.lpips
  want = abs(ours - theirs).mean()
  np.testing.assert_allclose(got.tlp, want, rtol=1e-3)
  assert perceptual.tlp(video, target) == got.tlp
  for batch in (1, 2, 3):  # 6 frames and 5 steps, cut in every way.
    part = perceptual.compare(video, target, batch=batch)
    for name in ("between", "steps", "target_steps"):
      np.testing.assert_allclose(
        getattr(part, name), getattr(got, name), rtol=1e-5, atol=1e-7
      )


def test_bytes_are_the_same_clip(loaded, clips):
  eight = [np.uint8(np.round((x + 1) * 127.5)) for x in clips]
  one = perceptual.compare(*eight)
  two = perceptual.compare(*[x / 127.5 - 1 for x in eight])
  np.testing.assert_allclose(one.between, two.between, rtol=1e-3, atol=1e-6)


def test_what_tlp_sees(loaded, clips):
  """Motion that is missing."""
  _, target = clips
  assert perceptual.tlp(target, target) < 1e-6
  still = np.repeat(target[:1], 6, 0)
  assert perceptual.tlp(still, target) > 0.01
  one = perceptual.compare(target[:1], target[:1])
  assert one.lpips < 1e-9 and np.isnan(one.tlp) and one.steps.shape == (0,)


def test_what_does_not_count(loaded, clips):
  video, target = clips
  weight = np.zeros((6, 31, 36, 1), np.float32)
  weight[3:, 10:20, 10:20] = 1
  got = perceptual.compare(video, target, weight)
  mixed = np.where(weight > 0, video, target)
  want = perceptual.compare(mixed, target)
  assert np.isnan(got.between[:3]).all() and np.isnan(got.steps[:2]).all()
  np.testing.assert_allclose(got.between[3:], want.between[3:], rtol=1e-5)
  np.testing.assert_allclose(got.steps[2:], want.steps[2:], rtol=1e-5)
  np.testing.assert_allclose(got.lpips, want.between[3:].mean(), rtol=1e-5)
  none = perceptual.compare(video, target, 0 * weight)
  assert np.isnan(none.lpips) and np.isnan(none.tlp)


def test_the_sha256_of_the_weights_is_told(loaded):
  assert perceptual.load("alex")[1] == "sha-lpips_alex"
  with pytest.raises(ValueError, match=r"'squeeze'.*\['alex', 'vgg'\]"):
    perceptual.load("squeeze")


def test_what_is_refused(loaded, clips):
  video, target = clips
  nan = video.copy()
  nan[2, 3, 4] = np.nan
  weight = np.ones((6, 31, 36, 1), np.float32)
  for args, message in [
    ((video[:4], target), r"The clip is \(4,.* same frames and size"),
    ((video[..., :1], target[..., :1]), "T, H, W, 3"),
    ((video[:0], target[:0]), "T, H, W, 3"),
    ((127 * video, target), "values from -1.* to"),
    ((video, target > 0), "not bool"),
    ((nan, target), "values from nan"),
    ((video[:, :20], target[:, :20]), "at least 31 pixels a side"),
    ((video, target, weight[..., 0]), r"must be \(6, 31, 36, 1\)"),
    ((video, target, 2 * weight), r"in \[0, 1\]"),
  ]:
    with pytest.raises(ValueError, match=message):
      perceptual.compare(*args)


def test_weights_on_disk(monkeypatch, tmp_path, files, params, clips):
  """Missing, then made of two files."""
  monkeypatch.setenv("VIDGAN_WEIGHTS", str(tmp_path / "there"))
  with pytest.raises(store.Missing, match="put lpips_alex.safetensors"):
    perceptual.compare(*clips)
  assert not perceptual.measurable((64, 64))
  for name, tensors in zip(("trunk", "heads"), files["alex"]):
    np.savez(tmp_path / f"{name}.npz", **tensors)
  both = tmp_path / "trunk.npz", tmp_path / "heads.npz"
  store.convert("lpips_alex", both)
  found, sha256 = perceptual.load("alex")
  assert len(sha256) == 64
  assert perceptual.measurable((31, 64))
  assert not perceptual.measurable((64, 30))
  want = jax.tree.leaves_with_path(params["alex"])
  got = jax.tree.leaves_with_path(found)
  for (path, a), (other, b) in zip(want, got, strict=True):
    assert path == other
    np.testing.assert_array_equal(a, b)
