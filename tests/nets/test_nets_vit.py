"""VideoMAE and V-JEPA beside PyTorch's own transformer, with random weights."""

import re

import jax
import numpy as np
import pytest

from vidgan_jax.nets import public
from vidgan_jax.nets import videomae
from vidgan_jax.nets import vjepa

MAE = dict(width=24, depth=2, heads=3, hidden=40, classes=5)
JEPA = dict(width=24, depth=2, heads=4, hidden=96, classes=5)


@pytest.fixture
def torch():
  return pytest.importorskip("torch", reason="PyTorch is not installed")


# Scaled down, these make every norm's input so small that its epsilon tells.
FAINT = r".*(patch_embed|pos_embed|query|proj|fc2).*|norm\..*"


def state_of(network, rng, faint=1):
  """Random tensors under the names of the public files."""
  state = {}
  for name, shape in network.shapes.items():
    names = [name]
    if name.startswith("blocks."):
      names = [f"blocks.{i}{name[6:]}" for i in range(shape[0])]
      shape = shape[1:]
    for one in names:
      value = rng.normal(size=shape)
      if "norm" in one:
        value = one.endswith("weight") + 0.3 * value
      elif one.endswith("weight"):
        value = 1.5 * value / np.prod(shape[1:]) ** 0.5
      if re.fullmatch(FAINT, one):
        value = faint * value
      state[one] = value.astype(np.float32)
  return state


class Reference:
  """Both papers' networks, of PyTorch's layers."""

  def __init__(self, torch, state, network):
    self.torch, self.network = torch, network
    self.state = {k: torch.from_numpy(v) for k, v in state.items()}

  def clip(self, video):
    return self.torch.from_numpy(video.transpose(0, 4, 1, 2, 3).copy())

  def tokens(self, clip):
    """(B, C, T', H', W')."""
    kernel = self.state["patch_embed.proj.weight"]
    return self.torch.nn.functional.conv3d(
      clip,
      kernel,
      self.state["patch_embed.proj.bias"],
      stride=kernel.shape[2:],
    )

  def blocks(self, x, biases):
    """`biases` gives those of queries, keys and values of a block."""
    n, s = self.network, self.state
    for i in range(n.depth):
      at = f"blocks.{i}."
      layer = self.torch.nn.TransformerEncoderLayer(
        n.width,
        n.heads,
        n.hidden,
        activation="gelu",
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=True,
      )
      layer.load_state_dict(
        {
          "self_attn.in_proj_weight": s[f"{at}attn.qkv.weight"],
          "self_attn.in_proj_bias": biases(at),
          "self_attn.out_proj.weight": s[f"{at}attn.proj.weight"],
          "self_attn.out_proj.bias": s[f"{at}attn.proj.bias"],
          "linear1.weight": s[f"{at}mlp.fc1.weight"],
          "linear1.bias": s[f"{at}mlp.fc1.bias"],
          "linear2.weight": s[f"{at}mlp.fc2.weight"],
          "linear2.bias": s[f"{at}mlp.fc2.bias"],
          "norm1.weight": s[f"{at}norm1.weight"],
          "norm1.bias": s[f"{at}norm1.bias"],
          "norm2.weight": s[f"{at}norm2.weight"],
          "norm2.bias": s[f"{at}norm2.bias"],
        }
      )
      x = layer.eval()(x)
    return x

  def norm(self, x, name, eps):
    return self.torch.nn.functional.layer_norm(
      x,
      x.shape[-1:],
      self.state[f"{name}.weight"],
      self.state[f"{name}.bias"],
      eps,
    )

  def dense(self, x, name):
    return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

  def videomae(self, video):
    """Wang et al. (2023); the table of Vaswani et al. (2017) as a spiral."""
    torch, n, s = self.torch, self.network, self.state
    x = self.tokens(self.clip(video))
    side, trained = n.size // n.patch, n.frames // 2
    count = trained * side**2
    even = torch.arange(0, n.width, 2, dtype=torch.float64)
    speed = 10000 ** (-even / n.width)
    turn = torch.outer(torch.arange(count, dtype=torch.float64), speed)
    table = torch.stack([turn.sin(), turn.cos()], -1).flatten(1).float()
    if x.shape[2] != trained:
      table = torch.nn.functional.interpolate(
        table.T.reshape(1, n.width, trained, side, side),
        scale_factor=((x.shape[2] + 0.1) / trained, 1, 1),
        mode="trilinear",
      )
      table = table[0].flatten(1).T
    x = x.flatten(2).transpose(1, 2) + table

    def biases(at):
      q, v = s[f"{at}attn.q_bias"], s[f"{at}attn.v_bias"]
      return torch.cat([q, torch.zeros_like(q), v])

    x = self.blocks(x, biases)
    features = self.norm(x.mean(1), "fc_norm", 1e-6)
    logits = self.dense(features, "head")
    return {"tokens": x, "features": features, "logits": logits}

  def vjepa(self, video):
    """Bardes et al. (2024), with PyTorch's attention for the probe."""
    torch, n, s = self.torch, self.network, self.state
    x = self.tokens(self.clip(video))
    table = s["pos_embed"].reshape(*n.grid, n.width).permute(3, 0, 1, 2)[None]
    if table.shape[2:] != x.shape[2:]:
      table = torch.nn.functional.interpolate(
        table, size=x.shape[2:], mode="trilinear"
      )
    x = (x + table).flatten(2).transpose(1, 2)
    x = self.norm(
      self.blocks(x, lambda at: s[f"{at}attn.qkv.bias"]), "norm", 1e-6
    )
    at = "pooler.cross_attention_block."
    attention = torch.nn.MultiheadAttention(n.width, n.heads, batch_first=True)
    attention.load_state_dict(
      {
        f"in_proj_{part}": torch.cat(
          [
            s[f"{at}xattn.q.{part}"],
            s[f"{at}xattn.kv.{part}"],
          ]
        )
        for part in ("weight", "bias")
      }
      | {f"out_proj.{p}": s[f"{at}xattn.proj.{p}"] for p in ("weight", "bias")}
    )
    query = s["pooler.query_tokens"].expand(len(x), -1, -1)
    keys = self.norm(x, f"{at}norm1", 1e-5)
    y = query + attention.eval()(query, keys, keys)[0]
    z = self.dense(self.norm(y, f"{at}norm2", 1e-5), f"{at}mlp.fc1")
    y = y + self.dense(torch.nn.functional.gelu(z), f"{at}mlp.fc2")
    return {
      "tokens": x,
      "mean": x.mean(1),
      "features": y[:, 0],
      "logits": self.dense(y[:, 0], "linear"),
    }


def compare(torch, module, network, shape, faint=1):
  rng = np.random.default_rng(0)
  state = state_of(network, rng, faint)
  video = rng.normal(size=shape).astype(np.float32)
  name = module.__name__.split(".")[-1]
  with torch.inference_mode():
    want = getattr(Reference(torch, state, network), name)(video)
  params = module.convert(state, network)
  got = jax.jit(network.apply)({"params": params}, video)
  assert got.keys() == want.keys()
  for name, value in want.items():
    value = value.numpy()
    assert got[name].shape == value.shape, name
    # The clips have to differ by far more than what is tolerated.
    scale = np.abs(value).max()
    assert np.ptp(value, 0).max() > 1e-3 * scale, name
    np.testing.assert_allclose(
      got[name], value, rtol=0, atol=1e-5 * scale, err_msg=name
    )


# ---------------------------------------------------------------------- parity


@pytest.mark.parametrize(
  "patch, size, trained, frames",
  [(7, 21, 8, 8), (4, 24, 4, 4), (4, 16, 8, 12), (4, 16, 8, 2)],
)
def test_videomae(torch, patch, size, trained, frames):
  """Two sizes, and two lengths to which the table is stretched."""
  network = videomae.Network(patch=patch, size=size, frames=trained, **MAE)
  compare(torch, videomae, network, (2, frames, size, size, 3))


@pytest.mark.parametrize(
  "patch, size, frames, shape",
  [
    (8, 24, 4, (4, 24, 24)),
    (4, 24, 6, (6, 24, 24)),
    (4, 16, 8, (12, 20, 28)),
    (4, 16, 8, (2, 16, 8)),
  ],
)
def test_vjepa(torch, patch, size, frames, shape):
  """Two sizes, and two to which the table is stretched."""
  network = vjepa.Network(patch=patch, size=size, frames=frames, **JEPA)
  compare(torch, vjepa, network, (2, *shape, 3))


def test_epsilons_of_vjepa(torch):
  network = vjepa.Network(patch=8, size=16, frames=4, **JEPA)
  compare(torch, vjepa, network, (2, 4, 16, 16, 3), faint=0.01)


# --------------------------------------------------------------------- weights


def test_file_of_videomae(torch, tmp_path):
  network = videomae.Network(patch=4, size=8, frames=4, **MAE)
  state = state_of(network, np.random.default_rng(1))
  want = videomae.convert(state, network)
  tensors = {name: torch.from_numpy(value) for name, value in state.items()}
  for i, content in enumerate([{"module": tensors, "epoch": 3}, tensors]):
    torch.save(content, tmp_path / f"{i}.pth")
    found = public.read(tmp_path / f"{i}.pth")
    got = videomae.convert(found, network)
    jax.tree.map(np.testing.assert_array_equal, got, want)
  wrapped = {f"module.{name}": value for name, value in state.items()}
  got = videomae.convert(wrapped, network)
  jax.tree.map(np.testing.assert_array_equal, got, want)


def test_files_of_vjepa(torch, tmp_path):
  """The state of a training and a probe, as their trainers wrap them."""
  network = vjepa.Network(patch=4, size=8, frames=4, **JEPA)
  state = state_of(network, np.random.default_rng(1))
  want = vjepa.convert(state, network)
  encoder, probe = {}, {}
  for name, value in state.items():
    value = torch.from_numpy(value)
    if name.startswith(("pooler.", "linear.")):
      probe[f"module.{name}"] = value
    else:
      encoder[f"module.backbone.{name}"] = value
  other = {name: value + 1 for name, value in encoder.items()}
  moments = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{}]}
  training = {
    "encoder": other,
    "predictor": {"module.backbone.predictor_norm.weight": torch.ones(2)},
    "opt": moments,
    "scaler": {"scale": 65536.0},
    "target_encoder": encoder,
    "epoch": 300,
  }
  torch.save(training, tmp_path / "vith16.pth.tar")
  torch.save({"classifier": probe, "opt": moments}, tmp_path / "full.pth.tar")
  torch.save({"classifier": probe, "epoch": 20}, tmp_path / "short.pth.tar")
  for name in ("full", "short"):
    found = public.read(tmp_path / "vith16.pth.tar")
    found |= public.read(tmp_path / f"{name}.pth.tar")
    got = vjepa.convert(found, network)
    jax.tree.map(np.testing.assert_array_equal, got, want)
  found = public.read(tmp_path / "vith16.pth.tar")
  with pytest.raises(ValueError, match="both given, but.*pooler.query_tokens"):
    vjepa.convert(found, network)
  # Not in place of its moving average.
  del training["target_encoder"]
  torch.save(training, tmp_path / "old.pth.tar")
  found = public.read(tmp_path / "old.pth.tar")
  with pytest.raises(ValueError, match="no tensor 'patch_embed.proj.weight'"):
    vjepa.convert(found, network)


@pytest.mark.parametrize("module, sizes", [(videomae, MAE), (vjepa, JEPA)])
def test_refusals(module, sizes):
  network = module.Network(patch=4, size=8, frames=4, **sizes)
  state = state_of(network, np.random.default_rng(1))
  with pytest.raises(ValueError, match="unexpected tensor 'blocks.2.norm1.we"):
    module.convert(state | {"blocks.2.norm1.weight": np.ones(24)}, network)
  bias = {"patch_embed.proj.bias": np.ones(25)}
  with pytest.raises(ValueError, match=r"proj.bias' of shape \(25,\), not"):
    module.convert(state | bias, network)
  with pytest.raises(
    ValueError, match="'blocks.1.mlp.fc1.bias' that are not f"
  ):
    module.convert(
      state | {"blocks.1.mlp.fc1.bias": np.full(network.hidden, np.nan)},
      network,
    )
  with pytest.raises(ValueError, match="twice, once as 'module.blocks.0.norm1"):
    twice = {"module.blocks.0.norm1.weight": np.ones(24)}
    module.convert(state | twice, network)
  state.pop("blocks.1.attn.qkv.weight")
  with pytest.raises(ValueError, match="no tensor 'blocks.1.attn.qkv.weight'"):
    module.convert(state, network)


# ---------------------------------------------------------- published networks


@pytest.mark.parametrize(
  "module, width, tokens, millions",
  [(videomae, 1408, 8 * 16 * 16, 1011), (vjepa, 1280, 8 * 14 * 14, 653)],
)
def test_published_network(module, width, tokens, millions):
  """Sizes of the papers' tables: 1.0 billion, 0.63 billion without probe."""
  video = jax.ShapeDtypeStruct((2, 16, 224, 224, 3), np.float32)
  network = module.Network()
  out, state = jax.eval_shape(
    network.init_with_output, jax.random.key(0), video
  )
  assert out["tokens"].shape == (2, tokens, width)
  assert out["features"].shape == (2, width)
  assert out["logits"].shape == (2, 174)
  sizes = [np.prod(p.shape) for p in jax.tree.leaves(state["params"])]
  assert sum(sizes) // 10**6 == millions


def test_clips_that_do_not_fit():
  def shapes(module, *shape):
    video = jax.ShapeDtypeStruct(shape, np.float32)
    return jax.eval_shape(module.Network().init, jax.random.key(0), video)

  for shape in [
    (1, 16, 256, 256, 3),
    (1, 15, 224, 224, 3),
    (1, 0, 224, 224, 3),
  ]:
    with pytest.raises(ValueError, match="Cut it to 16 frames"):
      shapes(videomae, *shape)
  for shape in [
    (1, 16, 230, 224, 3),
    (1, 1, 224, 224, 3),
    (1, 16, 224, 224, 1),
  ]:
    with pytest.raises(ValueError, match="multiples of 16 pixels"):
      shapes(vjepa, *shape)


# ------------------------------------------------------------------- protocols


@pytest.mark.parametrize("h, w", [(48, 64), (240, 320)])
def test_protocols(torch, h, w):
  rng = np.random.default_rng(4)
  video = rng.integers(0, 256, (1, 2, h, w, 3)).astype(np.uint8)
  frames = torch.from_numpy(video[0].transpose(0, 3, 1, 2).copy()) / 255
  small = torch.nn.functional.interpolate(
    frames, size=(224, 224), mode="bilinear", align_corners=False
  )
  mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
  deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
  for got, want in [
    (videomae.preprocess(video), small),
    (vjepa.preprocess(video), (small - mean) / deviation),
    (vjepa.preprocess(video, "videojedi"), (frames - mean) / deviation),
  ]:
    want = want.numpy().transpose(0, 2, 3, 1)[None]
    # Places in a row of 320 pixels are float32: known to 2e-5 of a pixel, and
    # colours are spread by 1 / 0.224.
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


@pytest.mark.parametrize("module", [videomae, vjepa])
def test_bad_input(module):
  video = np.zeros((1, 2, 8, 8, 3), np.uint8)
  with pytest.raises(ValueError, match="the protocol of V"):
    module.preprocess(video, "imagenet")
  with pytest.raises(ValueError, match="^V.*'s protocols are not defined"):
    module.preprocess(video / 255)
