"""What a model reads of `given`: all that is known of labels, texts, sounds.

A condition is of one of three kinds: of the clip, `vector` (B, n); of each
time, `rows` (B, T, n); of each pixel, `map` (B, T, h, w, n). A condition of the
clip modulates the style, one of a time joins the motion, and one of a pixel
modulates the features at that pixel. A discriminator is shown rows and maps as
channels beside the video (`Condition.beside`), and the clip's condition by
projection (`projection`; Miyato and Koyama 2018).

The layers belong to the module that asks for them, and there are none for what
is not given: a model without conditions has its own parameters alone.
"""

from collections.abc import Mapping
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidgan_jax import errors
from vidgan_jax import rooms
from vidgan_jax.models import layers

# Kind of each name that a task may give.
KINDS = {
  "label": "vector",
  "text": "vector",
  "text_vectors": "vector",
  "sound": "rows",
  "vector": "rows",
  "layout": "map",
  "mask": "map",
  "map": "map",
}
TEXTS = ("text", "text_vectors")
ROWS = ("sound", "vector")
# What the step and the sampler add; no conditions.
_BESIDE = ("progress", "keys", "row_times")
VOCABULARY = 4096  # Tokens of a text are below; others would become NaN.
NOISE = 0.1  # Deviation, in training, of what is added to frozen vectors.


class Text(nn.Module):
  """Words in their order -> one vector (after Kim 2014, section 2)."""

  features: int = 64

  @nn.compact
  def __call__(self, text: jax.Array) -> jax.Array:
    """Reads tokens, or an encoder's vectors of them.

    Args:
      text: (B, L) int32, 0 where there is no word; or (B, L, n) float32, zeros
        where there is none.

    Returns:
      (B, features) of mean square 1.
    """
    if text.ndim == 2:
      words = text[..., None] > 0
      x = nn.Embed(
        VOCABULARY,
        self.features,
        embedding_init=nn.initializers.normal(1.0),
      )(text)
    else:
      words = jnp.any(text != 0, -1, keepdims=True)
      x = nn.Dense(self.features, kernel_init=layers.he())(text)
    # Each word with the two before and after it: 'red' of which noun it is.
    x = jnp.where(words, x, 0)
    y = nn.Conv(self.features, (5,), kernel_init=layers.he())(x)
    x = jnp.where(words, x + layers.leaky_relu(y), 0)
    return layers.rms_norm(x.sum(1) / jnp.maximum(words.sum(1), 1))


class Condition:
  """What is given to a model, by kind; made in the model's compact method."""

  def __init__(
    self,
    model: nn.Module,
    given: Mapping[str, jax.Array],
    *,
    num_classes: int = 0,
    own: tuple[str, ...] = (),
    kinds: tuple[str, ...] = ("vector", "rows", "map"),
  ):
    """Checks that the model can read all that is given.

    Args:
      model: the module that asks, for whose parameters the layers are.
      given: (B, ...) arrays by name, see `KINDS`.
      num_classes: of the label; 0: it is not looked at.
      own: names that the model itself reads, or does not want.
      kinds: which kinds it has a place for.

    Raises:
      UserError: something is given that the model does not read, or something
        that it has learnt to read is not.
    """
    self.num_classes, self._text = num_classes, None
    self._keys = given.get("keys")
    read = [k for k, kind in KINDS.items() if kind in kinds and k not in own]
    self._given = {k: given[k] for k in read if k in given}
    self._row_times = given.get("row_times")
    name = type(model).__module__.split(".")[-1]
    for k in given:
      if k not in (*read, *own, *_BESIDE):
        raise errors.UserError(
          f"The task gives {k!r}, which the model {name!r} does not read: it "
          f"reads {', '.join(map(repr, [*own, *read]))}. "
          + rooms.nearest(k, [*own, *read])
          + " Change config.task or config.model.name."
        )
    learnt = {"text": TEXTS, "rows": ROWS}
    for layer, names in learnt.items():
      if model.has_variable("params", layer) and not any(
        k in self._given for k in names
      ):
        raise errors.UserError(
          f"The model {name!r} was trained with {' or '.join(map(repr, names))}"
          f", but only {', '.join(map(repr, given)) or 'nothing'} is given."
        )

  def of(self, kind: str) -> list[jax.Array]:
    """What is given of this kind but labels and texts, as it is."""
    return [
      x
      for k, x in self._given.items()
      if KINDS[k] == kind and k not in ("label", *TEXTS)
    ]

  def label(self) -> jax.Array | None:
    """(B,) int32, or None for a model of no classes."""
    if not self.num_classes:
      return None
    if "label" not in self._given:
      raise errors.UserError(
        f"config.model.num_classes is {self.num_classes}, but the task gives "
        "no 'label': set it to 0, or choose a task and a source that do."
      )
    return self._given["label"]

  def match(
    self, clips: jax.Array, features: int
  ) -> tuple[jax.Array, jax.Array]:
    """`Match` of clips (B, N) with their texts: (B,), (B, 2, features)."""
    text = self.text()
    if text is None:
      raise errors.UserError(
        "config.model.discriminator.match compares clips with their texts, but "
        "the task gives none: set it to 0, or config.task.options.signals="
        "('text',) and config.data.text='words'."
      )
    [words] = [self._given[k] for k in TEXTS if k in self._given]
    words = words.reshape(len(words), -1)
    same = (words[:, None] == words).all(-1)
    return Match(features, name="match")(clips, text, same)

  def sync(
    self, frames: jax.Array, features: int
  ) -> tuple[jax.Array, jax.Array]:
    """`Sync` of frames (B, T, N) with what is given of their times.

    Returns:
      (B,) losses and (B, T, 2, features), see there.
    """
    rows = [x.astype(jnp.float32) for x in self.of("rows")]
    if not rows:
      raise errors.UserError(
        "config.model.discriminator.sync compares frames with what is given of "
        "their times, but the task gives nothing of the kind: set it to 0, or "
        "config.task.options.signals=('sound',)."
      )
    return Sync(features, name="sync")(frames, jnp.concatenate(rows, -1))

  def text(self) -> jax.Array | None:
    """(B, 64), the same however often it is asked for."""
    for k in TEXTS:
      if k in self._given and self._text is None:
        text = self._given[k]
        if k == "text_vectors" and self._keys is not None:
          text = _blurred(text, self._keys)
        self._text = Text(name="text")(text)
    return self._text

  def vector(self, features: int) -> jax.Array | None:
    """The label as (B, features), and behind it the text."""
    label, text = self.label(), self.text()
    parts = [] if label is None else [embed(self.num_classes, features)(label)]
    parts += [] if text is None else [text]
    return jnp.concatenate(parts, -1) if parts else None

  def rows(
    self,
    times: jax.Array | None = None,
    features: int = 64,
    around: bool = False,
  ) -> jax.Array | None:
    """What is given of each time: (B, T, features).

    Args:
      times: (B, T) seconds of the frames; needed where `given` has `row_times`
        (B, S), those of the rows, and else the times of both.
      features: of a row.
      around: a row also tells of what is up to 7 rows before and after it, and
        between two rows it goes from the one to the other.
    """
    rows = [x.astype(jnp.float32) for x in self.of("rows")]
    if not rows:
      return None
    x = jnp.concatenate(rows, -1)
    if around:
      x = Around(features, name="rows")(x)
    else:
      x = nn.Dense(features, kernel_init=layers.he(), name="rows")(x)
      x = layers.leaky_relu(x)
    if self._row_times is None:
      return x
    # Where each frame lies among the rows, and how far past the left one.
    first, gap = self._row_times[:, :1], jnp.diff(self._row_times[:, :2])
    place = jnp.clip((times - first) / gap, 0, x.shape[1] - 1)
    place = place if around else jnp.round(place)
    left = jnp.minimum(jnp.floor(place).astype(jnp.int32), x.shape[1] - 2)
    pick = lambda i: jnp.take_along_axis(x, i[..., None], 1)
    share = (place - left)[..., None]
    return (1 - share) * pick(left) + share * pick(left + 1)

  def map(self) -> jax.Array | None:
    """What is given of each pixel: (B, T, h, w, n)."""
    maps = []
    for k, x in self._given.items():
      if k == "layout":
        # Numbers of things: any uint8 is one of 256.
        x = embed(256, 8, name="layout")(x.astype(jnp.int32))
      if KINDS[k] == "map":
        maps.append(x.astype(jnp.float32))
    return jnp.concatenate(maps, -1) if maps else None

  def beside(self, video: jax.Array, rows: bool = True) -> jax.Array:
    """Puts rows and maps into the channels: (B, T, H, W, C + n).

    Args:
      video: (B, T, H, W, C).
      rows: False where `sync` asks for them: features that hold the answer
        would need no picture.
    """
    b, t, h, w, _ = video.shape
    parts = [video]
    rows = self.rows(features=8) if rows else None
    place = self.map()
    if rows is not None:
      rows = rows[:, :, None, None]
      parts.append(jnp.broadcast_to(rows, (b, t, h, w, rows.shape[-1])))
    if place is not None:
      place = layers.resize(place.reshape(b * t, *place.shape[2:]), h, w)
      parts.append(place.reshape(b, t, h, w, -1))
    if len(parts) == 1:
      return video
    return jnp.concatenate([x.astype(video.dtype) for x in parts], -1)


def _blurred(vectors: jax.Array, keys: jax.Array) -> jax.Array:
  """Vectors (B, L, n) as they are in training: v + N(0, 0.1^2), zeros kept.

  There are few captions, and between their vectors a network is asked for what
  it has never seen; so it learns that what is near means the same (after Zhang
  et al. 2017, StackGAN, section 3.2, who draw from a Gaussian that is learnt).

  Args:
    vectors: standardised, see `text.Frozen`.
    keys: (B,), of `given`.
  """
  draw = lambda key: jax.random.normal(
    jax.random.fold_in(key, 0x7E57), vectors.shape[1:]
  )
  there = jnp.any(vectors != 0, -1, keepdims=True)
  return jnp.where(there, vectors + NOISE * jax.vmap(draw)(keys), 0)


class Around(nn.Module):
  """Rows (B, S, n) -> (B, S, features), each with what is around it.

  A bounce that is heard changes all that comes after it: three convolutions
  along time, of dilation 1, 2 and 4, see 7 rows to either side (after van den
  Oord et al. 2016, WaveNet, section 2.1, but to both sides).
  """

  features: int = 64

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = layers.leaky_relu(nn.Dense(self.features, kernel_init=layers.he())(x))
    for dilation in (1, 2, 4):
      y = nn.Conv(
        self.features,
        (3,),
        kernel_dilation=dilation,
        kernel_init=layers.he(),
      )(layers.rms_norm(x))
      x = x + layers.leaky_relu(y)
    return layers.rms_norm(x)


class Match(nn.Module):
  """Which condition of the batch belongs to which clip (InfoNCE).

  With unit vectors a_i of the clips and b_j of their conditions, and s learnt,

    loss_i = -(log softmax_j(s a_i b_j) + log softmax_j(s a_j b_i))(j = i) / 2,

  where conditions that are equal are not told apart (Zhang et al. 2021, XMC-
  GAN, eqs. 3 and 4; van den Oord et al. 2018). The others are those of the part
  of the batch that is computed together.
  """

  features: int = 64

  @nn.compact
  def __call__(
    self, clips: jax.Array, conditions: jax.Array, same: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Losses of the pairs, and the pairs.

    Args:
      clips: (B, N) features.
      conditions: (B, M) features.
      same: (B, B) bool, which conditions are equal.

    Returns:
      (B,) float32, near 0 where each clip shows its own condition; and the
      unit vectors a_i and b_i, (B, 2, features).
    """
    a = _unit(clips, self.features, "clips")
    b = _unit(conditions, self.features, "conditions")
    logits = a @ b.T * _scale(self)
    own = jnp.eye(len(same), dtype=bool)
    logits = jnp.where(same & ~own, -jnp.inf, logits)
    rows, columns = (jax.nn.log_softmax(logits, axis) for axis in (0, 1))
    loss = -(jnp.diagonal(rows) + jnp.diagonal(columns)) / 2
    return loss, jnp.stack([a, b], -2)


class Sync(nn.Module):
  """Which rows of the batch belong to which clip, and at which time (InfoNCE).

  With unit vectors a_it of the frames and b_it of their rows, and s learnt,

    c_ij = s mean_t <a_it, b_jt>,  e_ik = s mean_t <a_it, b_i(t+k)>, k > 0,
    loss_i = -log softmax(c_i1, ..., c_iB, e_i1, ..., e_i(T-1))(c_ii):

  the others are the rows of other clips and its own, turned by k frames (after
  Chung and Zisserman 2016, Out of Time, whose others are times of one clip).
  Rows that are equal, as those of silence, are not told apart.
  """

  features: int = 64

  @nn.compact
  def __call__(
    self, frames: jax.Array, rows: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Losses of the clips, and the pairs.

    Args:
      frames: (B, T, N) features.
      rows: (B, T, M) of the same times.

    Returns:
      (B,) float32; and the unit vectors a_it and b_it, (B, T, 2, features).
    """
    a = _unit(frames, self.features, "frames")
    # A row with the one before and the one after it: what begins, and ends.
    around = nn.Conv(
      self.features, (3,), kernel_init=layers.he(), name="around"
    )
    b = _unit(layers.leaky_relu(around(rows)), self.features, "rows")
    length = a.shape[1]
    clips = jnp.einsum("itn,jtn->ij", a, b) / length
    turns = range(1, length)
    turned = [(a * jnp.roll(b, k, 1)).sum(-1).mean(1) for k in turns]
    logits = jnp.concatenate([clips, *(x[:, None] for x in turned)], 1)
    logits *= _scale(self)
    # Which of the others are the clip's own rows again, but for rounding.
    equal = lambda x: jnp.abs(x - rows).max((-2, -1)) < 1e-3
    again = [equal(jnp.roll(rows, k, 1))[:, None] for k in turns]
    same = jnp.concatenate([equal(rows[:, None]), *again], 1)
    same &= ~jnp.eye(*same.shape, dtype=bool)
    logits = jnp.where(same, -jnp.inf, logits)
    loss = -jnp.diagonal(jax.nn.log_softmax(logits, 1))
    return loss, jnp.stack([a, b], -2)


def _unit(x: jax.Array, features: int, name: str) -> jax.Array:
  """Unit vectors (..., features) float32 by a layer of the calling module."""
  x = nn.Dense(features, kernel_init=layers.he(), name=name)(x)
  x = x.astype(jnp.float32)
  return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-6)


def _scale(module: nn.Module) -> jax.Array:
  """The learnt factor s of a module's cosines: 10 at the start, up to 100."""
  log = module.param("scale", nn.initializers.constant(math.log(10.0)), ())
  return jnp.exp(jnp.minimum(log, math.log(100.0)))


def embed(count: int, features: int, **kwargs: Any) -> nn.Embed:
  """A vector for each of `count` numbers, normal at the start."""
  return nn.Embed(
    count, features, embedding_init=nn.initializers.normal(1.0), **kwargs
  )


def projection(
  logits: jax.Array, features: jax.Array, condition: Condition
) -> jax.Array:
  """Adds how well features fit the clip's condition (Miyato 2018, eq. 3).

  logit = psi(phi) + <e, phi> / sqrt(N), e a vector of the label and one of the
  text; the root keeps the sum's variance at 1.

  Args:
    logits: (B, ...), psi.
    features: (B, ..., N), phi, that the logits are of.
    condition: of the discriminator.

  Returns:
    (B, ...); the logits as they are where nothing is given of the clip.
  """
  label, text, n = condition.label(), condition.text(), features.shape[-1]
  parts = [] if label is None else [embed(condition.num_classes, n)(label)]
  if text is not None:
    parts.append(nn.Dense(n, use_bias=False, kernel_init=layers.he())(text))
  for e in parts:
    e = e.reshape(len(e), *[1] * (features.ndim - 2), n)
    logits += jnp.sum(e * features, -1) / n**0.5
  return logits
