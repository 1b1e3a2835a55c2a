"""The trunk with a memory: the output before, moved along, is an input.

Frames are made one after the other. A small network guesses the motion between
two given frames, the last output is warped along it and goes, folded to the
network's resolution, into the next frame's input (Sajjadi et al. 2018, FRVSR;
Chu et al. 2020, TecoGAN). What has once been seen sharply stays, and nothing
flickers by itself. For super-resolution and denoising.

The price: an output depends on the whole past and, through it, on the whole
picture. So the halo is unbounded, clips go through in order, as a whole or as a
stream (`apply_step`), and are not cut into tiles without loss.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidgan_jax import errors
from vidgan_jax.models import bases
from vidgan_jax.models import layers
from vidgan_jax.models import trunk

VARIANTS = {
  "XS": trunk.variant(32, 4, 24),  # 0.1 M parameters
  "S": trunk.variant(48, 4, 32),  # 0.2 M
  "M": trunk.variant(64, 6, 32),  # 0.5 M
  "L": trunk.variant(96, 10, 48),  # 1.8 M
  "XL": trunk.variant(128, 16, 64),  # 5 M
}

Discriminator = trunk.Discriminator
LOSSES = ("sync", "segment")  # See there.


class FlowNet(nn.Module):
  """Where the points of a frame were in the frame before, roughly.

  Attributes:
    width: channels.
    reach: the longest motion, in pixels of its input.
  """

  width: int = 24
  reach: float = 4.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, now: jax.Array, before: jax.Array) -> jax.Array:
    """Two pictures (N, H, W, C) -> (N, H, W, 2) float32, zero at first."""
    x = jnp.concatenate([now, now - before], -1).astype(self.dtype)
    for _ in range(3):
      x = layers.leaky_relu(layers.conv(self.width, dtype=self.dtype)(x))
    x = layers.conv(2, gain=0, dtype=self.dtype)(x)
    return self.reach * jnp.tanh(x.astype(jnp.float32))


class Generator(trunk.Base):
  """Improves a cheap estimate, frame after frame; see the module's text.

  Attributes:
    flow_width: channels of the network that guesses motion.
    flow_reach: the longest motion from frame to frame, in its pixels, each of
      which is `patch` of the given clip's.
  """

  flow_width: int = 24
  flow_reach: float = 4.0

  @property
  def halo(self) -> tuple[int, int, int]:
    """All pixels and all frames before (`bases.FOREVER`), none after."""
    return bases.FOREVER, bases.FOREVER, 0

  @property
  def margin(self) -> int:
    """Pixels of the given clip that one frame's step looks at.

    What lies further off comes in through the output before alone.
    """
    body = trunk.Body(self.width, self.blocks, 1, parent=None).halo[0]
    # The flow network's four convolutions, and what is warped.
    return self._halo(body + 4 + math.ceil(self.flow_reach) + 1, 0, 0)[0]

  def apply_step(
    self,
    params: Any,
    given: dict,
    state: dict | None,
    z: dict,
    times: jax.Array,
  ) -> tuple[jax.Array, dict]:
    """The next frames of a stream.

    Args:
      params: the generator's.
      given: of the next n frames, (B, n, h, w, ...).
      state: what the call before returned; None begins a clip, as after a cut.
      z: noise, the same for all frames of a clip.
      times: (B, n) seconds.

    Returns:
      The frames (B, n, H, W, C) float32, and the state for the next call:
      'given' (B, h, w, n) and 'output' (B, H, W, C) of the last frame. Frames
      in any portions give what all at once give.
    """
    return self.apply(
      {"params": params}, given, state, z, times, method="advance"
    )

  def __call__(self, given: dict, z: dict, times: jax.Array) -> jax.Array:
    """Given (B, T, h, w, ...), times (B, T) -> (B, T, H, W, C) float32."""
    return self.advance(given, None, z, times)[0]

  @nn.compact
  def advance(
    self, given: dict, state: dict | None, z: dict, times: jax.Array
  ) -> tuple[jax.Array, dict]:
    """See `apply_step`."""
    if bases.HALO[self.base][1:] != (0, 0):
      raise errors.UserError(
        f"The model 'recurrent' takes no base that looks at other frames, as "
        f"{self.base!r} does: set config.model.generator.base to 'copy' or "
        "'lanczos', or choose the model 'trunk'."
      )
    b, t = times.shape
    base, inputs = self._inputs(given, times)
    style = self._style(given, z, times)
    if style is not None:
      style = style.reshape(b, t, *style.shape[1:])
    pixels = self.patch * self.scale
    flow_net = FlowNet(
      self.flow_width, self.flow_reach, self.dtype, name="flow"
    )
    body = trunk.Body(
      self.width,
      self.blocks,
      pixels**2 * self.channels,
      dtype=self.dtype,
      name="body",
    )
    if state is None:
      # The frame before the first is the first, and its estimate the base.
      state = {"given": inputs[:, 0], "output": base[:, 0]}
    # Unrolled: a scan makes convolutions ten times slower on a CPU.
    outputs = []
    for i in range(t):
      now, before = map(self._to_patches, (inputs[:, i], state["given"]))
      flow = flow_net(now, before)
      past = self._warp(state["output"], flow)
      past = self._fold(past, now.shape)
      y = body(
        jnp.concatenate([now, past], -1),
        None if style is None else style[:, i],
        1,
      )
      one = slice(i, i + 1)
      output = self._add(
        base[:, one],
        self._to_pixels(y, base[:, one]),
        {k: x[:, one] for k, x in given.items() if k == "mask"},
      )
      outputs.append(output)
      state = {"given": inputs[:, i], "output": output[:, 0]}
    return jnp.concatenate(outputs, 1), state

  def _warp(self, output: jax.Array, flow: jax.Array) -> jax.Array:
    """Moves a picture (B, H, W, C) along a coarse flow (B, h, w, 2)."""
    size = self.patch * self.scale
    flow = size * jnp.repeat(jnp.repeat(flow, size, 1), size, 2)
    return layers.warp(output, flow[:, : output.shape[1], : output.shape[2]])

  def _fold(self, x: jax.Array, like: tuple) -> jax.Array:
    """(B, H, W, C) -> the network's resolution, all pixels in channels."""
    size = self.patch * self.scale
    b, h, w, _ = x.shape
    rest = ((0, 0), (0, like[1] * size - h), (0, like[2] * size - w), (0, 0))
    return layers.space_to_depth(jnp.pad(x, rest), size)
