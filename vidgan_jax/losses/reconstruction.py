"""Distances between a generated clip and its target.

Each public function is one, and has the signature

  loss(fake, batch, extras, **options) -> (B,) float32, one value a clip,

with fake: (B, T, H, W, C) and a batch of the step: 'target' of the same shape,
'given', 'times' and perhaps 'weight' (B, T, H, W, 1), which says how much the
answer counts at a pixel: means are over what counts. Their own weights are the
step's. None but `perceptual` and `alignment` need a network that was trained
before.
"""

from collections.abc import Callable
from collections.abc import Mapping
import functools
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import errors
from vidgan_jax import experts
from vidgan_jax.models import condition
from vidgan_jax.models import layers
from vidgan_jax.store import archives
from vidgan_jax.store import tensors

Batch = Mapping[str, Any]


class Extras(NamedTuple):
  """What some losses need beside the clips.

  Attributes:
    real: scores of the real clips; None as long as D has not come in.
    fake: scores of the generated clips, or None.
    generate: (given, times) -> clip, the generator as it is now.
    z: the noise that the clips are drawn from.
    extra: what the generator returned beside them, `Drawn.extra`.
  """

  real: layers.Scores | None = None
  fake: layers.Scores | None = None
  generate: Callable[[Any, jax.Array], jax.Array] | None = None
  z: Mapping[str, jax.Array] = {}
  extra: Mapping[str, jax.Array] = {}


def charbonnier(
  fake: jax.Array, batch: Batch, extras: Extras, epsilon: float = 1e-3
) -> jax.Array:
  """Mean sqrt((G - x)^2 + epsilon^2) (Lai et al. 2017, section 3.3)."""
  del extras
  return _mean(
    _charbonnier(fake, batch["target"], epsilon), batch.get("weight")
  )


def l1(fake: jax.Array, batch: Batch, extras: Extras) -> jax.Array:
  """Mean |G - x| (Isola et al. 2017, eq. 3)."""
  del extras
  return _mean(_l1(fake, batch["target"]), batch.get("weight"))


def temporal_difference(
  fake: jax.Array, batch: Batch, extras: Extras
) -> jax.Array:
  """Mean |(G_t+1 - G_t) - (x_t+1 - x_t)|: what flickers costs.

  The plainest of the temporal losses (compare Lai et al. 2018, eq. 3, which
  needs flow). It counts where the answer counts in either of the two frames;
  a clip of one frame costs nothing.
  """
  del extras
  step = lambda x: x[:, 1:].astype(jnp.float32) - x[:, :-1]
  weight = batch.get("weight")
  if weight is not None:
    weight = jnp.maximum(weight[:, 1:], weight[:, :-1])
  return _mean(_l1(step(fake), step(batch["target"])), weight)


def ping_pong(fake: jax.Array, batch: Batch, extras: Extras) -> jax.Array:
  """Mean |G(given) - reversed G(reversed given)| (Chu et al. 2020, eq. 5).

  Played backwards a clip must not look otherwise, so nothing can pile up over
  time. The paper plays forwards and back in one go; here the way back starts
  anew, which asks the same of a network whose state fades. Not for tasks that
  have a direction, such as prediction.
  """
  given, times = batch["given"], batch["times"]
  # All that has a time axis: what is given by clip, such as a text, has none.
  turned = {
    name: x[:, ::-1]
    for name, x in given.items()
    if condition.KINDS.get(name) != "vector"
    and x.ndim > 2
    and x.shape[1] == times.shape[1]
  }
  back = extras.generate(given | turned, times[:, -1:] - times[:, ::-1])
  return _mean(_l1(fake, back[:, ::-1]), batch.get("weight"))


def feature_matching(
  fake: jax.Array, batch: Batch, extras: Extras
) -> jax.Array:
  """Mean over layers of |f(G) - f(x)| in D (Wang et al. 2018, eq. 4).

  The features of x are constants. They have no pixels to weigh: `weight` does
  not enter. Zero as long as D has not come in.
  """
  del batch
  if extras.real is None or extras.fake is None:
    return jnp.zeros(len(fake))
  losses = []
  pairs = zip(extras.fake.features, extras.real.features, strict=True)
  for head, other in pairs:
    for f, r in zip(head, other, strict=True):
      # Frames are folded into the batch, those of a clip in a row.
      error = _l1(f, jax.lax.stop_gradient(r))
      losses.append(error.reshape(len(fake), -1).mean(1))
  if not losses:
    raise errors.UserError(
      "The loss 'feature_matching' found no features in the discriminator's "
      "scores: choose a discriminator that returns them, or drop the loss."
    )
  return sum(losses) / len(losses)


def mode_seeking(
  fake: jax.Array, batch: Batch, extras: Extras, bound: float = 0.2
) -> jax.Array:
  """-min(Mean |G(z) - G(z')| / Mean |z - z'|, bound) (Yang et al. 2019, eq. 2).

  It is least where other noise makes another clip of what is given. z' is that
  of the next clip of the batch; of one clip alone, or without noise, it is 0.
  """
  # The noise belongs to a place in the batch: what is given takes the places.
  turned = jax.tree.map(
    lambda x: jnp.roll(x, 1, 0), (batch["given"], batch["times"])
  )
  other = jnp.roll(extras.generate(*turned), -1, 0)
  apart = [jnp.abs(z - jnp.roll(z, -1, 0)) for z in extras.z.values()]
  if not apart or len(fake) == 1:
    return jnp.zeros(len(fake))
  apart = sum(x.reshape(len(fake), -1).mean(1) for x in apart) / len(apart)
  change = _mean(_l1(fake, other), batch.get("weight"))
  return -jnp.minimum(change / jnp.maximum(apart, 1e-6), bound)


def flow_warp(
  fake: jax.Array, batch: Batch, extras: Extras, sharpness: float = 50.0
) -> jax.Array:
  """Mean M |G_t - W(G_t+1)| along the data's flow (Lai et al. 2018, eq. 3).

    M = exp(-sharpness |x_t - W(x_t+1)|^2)

  is 1 where the target itself follows the flow and fades where it does not
  (occlusion). batch['flow'] is (B, T-1, H, W, 2): pixels, (x, y), that the
  point seen in frame t moves by frame t + 1, as `data/sprites.py` gives it.
  """
  del extras
  if "flow" not in batch:
    raise errors.UserError(
      "config.reconstruction.flow_warp needs the field 'flow' of the data set, "
      "its optical flow, which these data do not give: with sprites set "
      "config.data.options.supervision='flow'; with others use "
      "config.reconstruction.temporal_difference in its place."
    )
  flow = batch["flow"]
  fold = lambda x: x.reshape(-1, *x.shape[2:]).astype(jnp.float32)

  def pull(video):  # Frame t + 1 as seen at t.
    next_ = layers.warp(fold(video[:, 1:]), fold(flow))
    return next_.reshape(video[:, 1:].shape)

  target = batch["target"]
  miss = jnp.square(target[:, :-1] - pull(target)).sum(-1, keepdims=True)
  weight = jnp.exp(-sharpness * miss)
  if "weight" in batch:
    weight = weight * batch["weight"][:, :-1]
  return _mean(_l1(fake[:, :-1], pull(fake)), weight)


def fft(fake: jax.Array, batch: Batch, extras: Extras) -> jax.Array:
  """Mean |F(G) - F(x)|, F the unitary 2-D transform (Cho et al. 2021, eq. 5).

  The mean is over the real and imaginary parts of all frequencies of a real
  transform. What does not count is zero in both clips.
  """
  del extras
  error = fake.astype(jnp.float32) - batch["target"]
  if "weight" in batch:
    error = error * batch["weight"]
  waves = jnp.fft.rfft2(error, axes=(2, 3), norm="ortho")
  size = jnp.abs(waves.real) + jnp.abs(waves.imag)
  return size.mean((1, 2, 3, 4)) / 2


def perceptual(
  fake: jax.Array,
  batch: Batch,
  extras: Extras,
  weights: str = "",
  taps: tuple[str, ...] = ("conv1_2", "conv2_2", "conv3_3", "conv4_3"),
) -> jax.Array:
  """Mean over taps of |f(G) - f(x)| in a VGG network (Johnson et al. 2016).

  Args:
    fake: generated clips.
    batch: of the step; pixels that do not count are the target's in both.
    extras: not used.
    weights: path of lpips_vgg.safetensors, which `vidgan weights convert` makes
      of public files, or of an .npz file of your own: for every layer
      'convI_J' (Simonyan and Zisserman 2015, table 1) from conv1_1 to the last
      tap the arrays 'convI_J/kernel' (3, 3, in, out) and 'convI_J/bias'
      (out,), for RGB in [0, 1] less the mean and over the deviation of
      ImageNet, as torchvision's VGG-16 and VGG-19 are.
    taps: layers whose outputs, after their ReLU, are compared.
  """
  del extras
  net = _vgg(weights, tuple(taps))
  target = batch["target"].astype(jnp.float32)
  fake = fake.astype(jnp.float32)
  if "weight" in batch:
    fake = target + batch["weight"] * (fake - target)
  fold = lambda x: x.reshape(-1, *x.shape[2:])
  ours = _vgg_features(net, taps, fold(fake))
  theirs = _vgg_features(net, taps, jax.lax.stop_gradient(fold(target)))
  losses = [
    _l1(a, b).reshape(len(fake), -1).mean(1) for a, b in zip(ours, theirs)
  ]
  return sum(losses) / len(losses)


def alignment(
  fake: jax.Array,
  batch: Batch,
  extras: Extras,
  expert: experts.Expert | None = None,
) -> jax.Array:
  """Mean arccos(<a, b>)^2 of a clip and what it is to show (Sauer et al. 2023).

  a and b are the unit vectors that a frozen dual encoder makes of the clip and
  of its text, or of each frame and its sound: StyleGAN-T's guidance by CLIP.

  Args:
    fake: generated clips.
    batch: of the step: what is given, and the times.
    extras: not used.
    expert: in a config the workdir of a run of configs/align.py, or the
      .safetensors file of its weights.
  """
  del extras
  losses = []
  for pair in expert(fake, batch["given"], batch["times"]).values():
    cosine = jnp.prod(pair, -2).sum(-1)  # (B,) or (B, T)
    # At 1 and -1 the slope of arccos is not finite.
    angle = jnp.arccos(jnp.clip(cosine, -1 + 1e-6, 1 - 1e-6))
    losses.append(jnp.square(angle).reshape(len(fake), -1).mean(1))
  return sum(losses)


# -------------------------------------------------------------------- helpers


def _l1(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.abs(a.astype(jnp.float32) - b.astype(jnp.float32))


def _charbonnier(a: jax.Array, b: jax.Array, epsilon: float) -> jax.Array:
  gap = a.astype(jnp.float32) - b.astype(jnp.float32)
  return jnp.sqrt(gap * gap + epsilon**2)


def _mean(error: jax.Array, weight: jax.Array | None) -> jax.Array:
  """Means over what counts: (B, T, H, W, C), (B, T, H, W, 1) -> (B,).

  Zero where nothing counts.
  """
  if weight is None:
    weight = jnp.ones((*error.shape[:-1], 1), jnp.float32)
  weight = weight.astype(jnp.float32)
  axes = (1, 2, 3, 4)
  total = jnp.sum(error * weight, axes)
  return total / jnp.maximum(weight.sum(axes) * error.shape[-1], 1e-6)


@functools.cache
def _vgg(path: str, taps: tuple[str, ...]) -> dict[str, tuple]:
  """Layers in order up to the last tap: name -> (kernel, bias)."""
  how = (
    "give the loss 'perceptual' the option `weights`, the path of an .npz file "
    "with arrays 'conv1_1/kernel' (3, 3, 3, 64), 'conv1_1/bias' (64,) and so "
    f"on up to {max(taps)!r} of a trained VGG network, or of the file "
    "lpips_vgg.safetensors that `vidgan weights convert` makes of public ones"
  )
  if not path:
    raise errors.UserError(f"No weights: {how}.")
  try:
    if path.endswith(".safetensors"):
      arrays = {
        name.removeprefix("trunk/"): array
        for name, array in tensors.load(path)[0].items()
      }
    else:
      arrays = archives.arrays(path)
      arrays = {k: np.asarray(x, np.float32) for k, x in arrays.items()}
  except (OSError, ValueError) as e:
    raise errors.UserError(f"{path}: cannot be read ({e}); {how}.") from e
  names = sorted({k.split("/")[0] for k in arrays if k.startswith("conv")})
  names = [n for n in names if n <= max(taps)]
  for name in taps:
    for part in ("kernel", "bias"):
      if f"{name}/{part}" not in arrays:
        raise errors.UserError(f"{path} has no '{name}/{part}': {how}.")
  return {n: (arrays[f"{n}/kernel"], arrays[f"{n}/bias"]) for n in names}


def _vgg_features(net: dict, taps: tuple, x: jax.Array) -> list[jax.Array]:
  """Outputs of the taps for frames (N, H, W, 3) in [-1, 1]."""
  x = (x + 1) / 2
  x = (x - np.float32([0.485, 0.456, 0.406])) / np.float32(
    [0.229, 0.224, 0.225]
  )
  outputs, stage = [], "conv1"
  for name, (kernel, bias) in net.items():
    if not name.startswith(stage):  # A new stage begins at half the size.
      stage = name.split("_")[0]
      n, h, w, c = x.shape
      x = x[:, : h // 2 * 2, : w // 2 * 2]
      x = x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
    x = jax.nn.relu(layers.convolve(x, kernel) + bias)
    if name in taps:
      outputs.append(x)
  return outputs
