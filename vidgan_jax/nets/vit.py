"""What transformers of video and text have in common: blocks, their weights.

Dosovitskiy et al., "An Image Is Worth 16x16 Words" (2021), section 3.1, on
tubelets of two frames. A block is the one with the norms in front: x + A(N(x)),
then x + M(N(x)), with the exact GELU.

Parameters keep the names and the layout of the public files, with PyTorch's
(out, in) of dense layers; those of all blocks are stacked, so that a network of
40 layers compiles as one.
"""

from collections.abc import Callable
from collections.abc import Mapping
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax.nets import naming

TUBELET = 2  # Frames of a token.

Arrays = Mapping[str, jax.Array]


# ------------------------------------------------------------------ parameters


def shapes(
  width: int, depth: int, hidden: int, patch: int
) -> dict[str, tuple[int, ...]]:
  """Parameters of the tokens and the blocks, without the bias of 'attn.qkv'.

  Args:
    width: channels of a token.
    depth: blocks.
    hidden: channels within a block's two dense layers.
    patch: pixels of a token's side.

  Returns:
    Name -> shape; those that start with 'blocks.' have (depth, ...).
  """
  block = {
    "norm1.weight": (width,),
    "norm1.bias": (width,),
    "attn.qkv.weight": (3 * width, width),
    "attn.proj.weight": (width, width),
    "attn.proj.bias": (width,),
    "norm2.weight": (width,),
    "norm2.bias": (width,),
    "mlp.fc1.weight": (hidden, width),
    "mlp.fc1.bias": (hidden,),
    "mlp.fc2.weight": (width, hidden),
    "mlp.fc2.bias": (width,),
  }
  return {
    "patch_embed.proj.weight": (width, 3, TUBELET, patch, patch),
    "patch_embed.proj.bias": (width,),
  } | stacked(block, depth)


def dense_shapes(name: str, inputs: int, outputs: int) -> dict[str, tuple]:
  """Parameters of `dense`."""
  return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm_shapes(name: str, width: int) -> dict[str, tuple]:
  """Parameters of `norm`."""
  return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def stacked(block: Mapping[str, tuple], depth: int) -> dict[str, tuple]:
  """Parameters of all blocks, of those of one."""
  return {f"blocks.{name}": (depth, *shape) for name, shape in block.items()}


def initializer(name: str) -> Callable[..., jax.Array]:
  """That of a parameter, for toys: what is published comes from a file."""
  if name.endswith("bias"):
    return nn.initializers.zeros
  if "norm" in name:
    return nn.initializers.ones
  return nn.initializers.normal(0.02)


def below(params: Arrays, prefix: str) -> dict[str, jax.Array]:
  """The parameters whose names start with a prefix, without it."""
  return {
    name.removeprefix(prefix): value
    for name, value in params.items()
    if name.startswith(prefix)
  }


def renamed(
  tensors: Mapping[str, np.ndarray], start: str, new: str = "blocks."
) -> dict[str, np.ndarray]:
  """Tensors with the start of their names, a regular expression, replaced."""
  return {re.sub(f"^(?:{start})", new, k): v for k, v in tensors.items()}


def activation(name: str, known: tuple[str, ...]) -> str:
  """The activation that a config.json names, if it is a known one."""
  if name not in known:
    raise ValueError(
      f"config.json names the activation {name!r}; read are those with "
      f"{' or '.join(known)}"
    )
  return name


def collect(
  tensors: Mapping[str, np.ndarray],
  wanted: Mapping[str, tuple[int, ...]],
  what: str,
  prefix: str = "",
  unused: str = "",
) -> dict[str, np.ndarray]:
  """Tensors of a public file -> parameters.

  Args:
    tensors: name -> array.
    wanted: name -> shape of the parameters, as from `shapes`.
    what: the file, in words.
    prefix: regular expression of what may stand before a name.
    unused: regular expression of whole names that may be there too.

  Returns:
    Name -> float32.

  Raises:
    ValueError: they are not exactly the tensors that are wanted.
  """
  named = {}
  for name, value in tensors.items():
    if not re.fullmatch(unused, name):
      short = re.sub(rf"^(?:{prefix})", "", name)
      if short in named:
        raise ValueError(
          f"These weights should be {what}, but the file has {short!r} twice, "
          f"once as {name!r}: is there a second network in it?"
        )
      named[short] = value
  blocks = {name for name in wanted if name.startswith("blocks.")}
  # 'blocks.attn.qkv.weight' is 'blocks.0.attn...' to 'blocks.39.attn...' there.
  theirs = {
    name: [name.replace(".", f".{i}.", 1) for i in range(wanted[name][0])]
    for name in blocks
  }
  expected = {n: shape for n, shape in wanted.items() if n not in blocks} | {
    name: wanted[ours][1:] for ours in blocks for name in theirs[ours]
  }
  naming.check(named, expected, what)
  return {
    name: np.stack(
      [np.asarray(named[other], np.float32) for other in theirs[name]]
    )
    if name in blocks
    else np.asarray(named[name], np.float32)
    for name in wanted
  }


# ---------------------------------------------------------------------- layers


def tokens(video: jax.Array, params: Arrays) -> jax.Array:
  """Cuts a clip into tubelets and maps each to a token.

  Args:
    video: (B, T, H, W, 3), T a multiple of 2, H and W of the patch's side.
    params: with 'patch_embed.proj.weight', (C, 3, 2, P, P), and its bias.

  Returns:
    (B, T / 2, H / P, W / P, C).
  """
  kernel = params["patch_embed.proj.weight"]
  size = kernel.shape[-1]
  b, t, h, w, _ = video.shape
  pieces = (b, t // TUBELET, TUBELET, h // size, size, w // size, size, 3)
  # A convolution whose stride is its kernel: one product a tubelet.
  x = jnp.einsum(
    "btihjwkc,dcijk->bthwd",
    video.reshape(pieces),
    kernel,
    precision="highest",
  )
  return x + params["patch_embed.proj.bias"]


def encode(
  x: jax.Array, blocks: Arrays, heads: int, epsilon: float
) -> jax.Array:
  """Applies the blocks, one after the other.

  The attention of one layer takes B x heads x N^2 numbers at a time.

  Args:
    x: (B, N, C) tokens.
    blocks: the parameters of all blocks, (depth, ...), without 'blocks.'.
    heads: of the attention.
    epsilon: of the norms.

  Returns:
    (B, N, C).
  """

  def block(x, params):
    qkv = dense(norm(x, params, "norm1", epsilon), params, "attn.qkv")
    y = attention(*jnp.split(qkv, 3, -1), heads)
    # Norms before, sums after: x + f(norm(x)) twice.
    x = x + dense(y, params, "attn.proj")
    return x + mlp(norm(x, params, "norm2", epsilon), params), None

  # All blocks are alike: one is compiled, and `scan` goes along their stack.
  return jax.lax.scan(block, x, dict(blocks))[0]


def dense(x: jax.Array, params: Arrays, name: str) -> jax.Array:
  """(..., in) -> (..., out)."""
  kernel = params[f"{name}.weight"]
  y = jnp.einsum("...i,oi->...o", x, kernel, precision="highest")
  return y + params[f"{name}.bias"]


def norm(x: jax.Array, params: Arrays, name: str, epsilon: float) -> jax.Array:
  """Layer norm over the last axis (Ba et al. 2016)."""
  x = x - x.mean(-1, keepdims=True)
  x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + epsilon)
  return x * params[f"{name}.weight"] + params[f"{name}.bias"]


def mlp(x: jax.Array, params: Arrays) -> jax.Array:
  """The two dense layers of a block."""
  x = dense(x, params, "mlp.fc1")
  return dense(jax.nn.gelu(x, approximate=False), params, "mlp.fc2")


def attention(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  heads: int,
  bias: jax.Array | float = 0.0,
  scale: float | None = None,
) -> jax.Array:
  """Attention of several heads (Vaswani et al. 2017, section 3.2).

  Args:
    q: (B, M, C) queries.
    k: (B, N, C) keys.
    v: (B, N, C) values.
    heads: parts of C.
    bias: of the logits, (B, heads, M, N) or what broadcasts to it; -inf where a
      query does not see a key.
    scale: of the logits; None: 1 / sqrt(C / heads).

  Returns:
    (B, M, C).
  """
  q, k, v = (x.reshape(*x.shape[:2], heads, -1) for x in (q, k, v))
  q = q * (q.shape[-1] ** -0.5 if scale is None else scale)
  logits = jnp.einsum("bmhc,bnhc->bhmn", q, k, precision="highest")
  weights = jax.nn.softmax(logits + bias)
  y = jnp.einsum("bhmn,bnhc->bmhc", weights, v, precision="highest")
  return y.reshape(*y.shape[:2], -1)
