"""Frozen networks that say how well clips fit their texts or sounds.

An expert is a run of models/align.py, or the file of its weights that
`python -m vidgan_jax.zoo` makes. It serves as a loss
(`losses.reconstruction.alignment`) or as a measure (`evals.retrieval`,
`evals.sync`), never both for one generator: what was trained to please a
network does so.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import hashlib
from typing import Any

from flax import errors as flax_errors
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import errors
from vidgan_jax import pixels
from vidgan_jax import sampler as sampler_lib
from vidgan_jax import zoo
from vidgan_jax.data import text as text_lib
from vidgan_jax.models import align


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Expert:
  """A frozen dual encoder.

  Attributes:
    network: the generator of models/align.py with its weights.
    source: where it was read, for errors.
    table: (n,), token of another encoder -> its own; None: they are the same.
  """

  network: sampler_lib.Sampler
  source: str
  table: np.ndarray | None = None

  @functools.cached_property
  def digest(self) -> str:
    """sha256 of its weights as bfloat16: those of a run and of its file."""
    flat = traverse_util.flatten_dict(jax.device_get(self.network.params))
    total = hashlib.sha256()
    for name in sorted(flat):
      x = np.asarray(jnp.asarray(flat[name], jnp.bfloat16))
      total.update(f"{'/'.join(name)} {x.shape}\n".encode() + x.tobytes())
    return total.hexdigest()

  def reads(self, kind: str) -> bool:
    """Whether it has learnt of texts ('match') or of sounds ('sync')."""
    return kind in self.network.params

  def of_texts(self, encoder: text_lib.Encoder | None) -> "Expert":
    """The same for texts in the tokens of another encoder.

    Raises:
      UserError: it does not know the words.
    """
    own = self.network.text
    if encoder is None or own is None or encoder == own:
      return self
    unknown = [word for word in encoder.words if word not in own.words]
    if encoder.kind != own.kind or unknown:
      raise errors.UserError(
        f"The expert {self.source} cannot read the texts of this run: it was "
        f"trained on {own.kind}, this run on {encoder.kind}"
        + f"; it does not know {', '.join(map(repr, unknown[:5]))}"
        * bool(unknown)
        + ". Train it with the same config.data."
      )
    table = [0, *(1 + own.words.index(word) for word in encoder.words)]
    return dataclasses.replace(
      self, table=np.array(table, np.int32) if own.words else None
    )

  def __call__(
    self, video: jax.Array, given: Mapping[str, jax.Array], times: jax.Array
  ) -> dict[str, jax.Array]:
    """Compares clips with what is given beside them.

    Args:
      video: (B, T, H, W, C) in [-1, 1]; it has a gradient.
      given: as the task of a generator gives it; it reads what it knows.
      times: (B, T) seconds.

    Returns:
      `Drawn.extra` of models/align.py: pairs of unit vectors, 'match'
      (B, 2, n) of clips and texts, 'sync' (B, T, 2, n) of frames and sounds.

    Raises:
      UserError: what it reads is not given, or of another kind.
    """
    kinds = [kind for kind in align.READS if self.reads(kind)]
    known = [name for kind in kinds for name in align.READS[kind]]
    mine = {name: given[name] for name in known if name in given}
    for kind in kinds:
      if not any(name in mine for name in align.READS[kind]):
        raise errors.UserError(
          f"The expert {self.source} compares clips with "
          f"{' or '.join(map(repr, align.READS[kind]))}, but only "
          f"{', '.join(map(repr, given)) or 'nothing'} is given: take one that "
          "was trained on the same signals."
        )
    if self.table is not None and "text" in mine:
      mine["text"] = jnp.asarray(self.table)[mine["text"]]
    mine["video"] = video
    try:
      return _pairs(self.network.generator, self.network.params, mine, times)
    except flax_errors.ScopeParamShapeError as e:
      raise errors.UserError(
        f"The expert {self.source} reads signals of another size "
        f"({errors.brief(e)}): take one that was trained on the same data."
      ) from e

  def pairs(
    self,
    video: np.ndarray,
    given: Mapping[str, np.ndarray],
    times: np.ndarray,
    batch: int = 32,
  ) -> dict[str, np.ndarray]:
    """The same of many clips, uint8 or in [-1, 1], a few at a time; NumPy."""
    parts = []
    for start in range(0, len(video), batch):
      # The last part is filled up, so that it compiles once.
      index = np.arange(start, start + batch).clip(max=len(video) - 1)
      clips = video[index]
      if clips.dtype == np.uint8:
        clips = pixels.to_floats(clips)
      part = {name: x[index] for name, x in given.items()}
      parts.append(jax.device_get(self(clips, part, times[index])))
    return {
      name: np.concatenate([part[name] for part in parts])[: len(video)]
      for name in parts[0]
    }


@functools.partial(jax.jit, static_argnums=0)
def _pairs(generator, params, given, times):
  return generator.apply({"params": params}, given, {}, times).extra


@functools.lru_cache(8)
def load(path: str) -> Expert:
  """Reads an expert.

  Args:
    path: the workdir of a run of models/align.py or one checkpoints/STEP of
      it, or a .safetensors file of its weights.

  Raises:
    UserError: there is none, or it is another model.
  """
  if not path:
    raise errors.UserError(
      "No expert is named: give the option `expert`, the workdir of a run of "
      "configs/align.py or the .safetensors file of its weights."
    )
  network = zoo.find(path)
  # Constants of any program, on whatever devices it runs.
  params = jax.device_get(network.params)
  expert = of(dataclasses.replace(network, params=params), path)
  if expert is None:
    raise errors.UserError(
      f"{path} is no expert: it must be a run of the model 'align', as "
      "configs/align.py makes one, or a file of its weights."
    )
  return expert


def of(network: Any, source: str = "of this run") -> Expert | None:
  """The expert that a sampler is, or None."""
  if not isinstance(network, sampler_lib.Sampler):
    return None  # Clips of files.
  if not isinstance(network.generator, align.Generator):
    return None
  return Expert(network=network, source=source)


def judge(path: str, network: Any) -> tuple[Expert | None, str]:
  """The expert that an evaluator asks, and what is to be said of it.

  Args:
    path: of its option `expert`; '': the network is an expert itself.
    network: what is evaluated.

  Returns:
    None where there is none; and a note if the generator was trained with it.

  Raises:
    UserError: it cannot be read, or does not fit.
  """
  if not path:
    return of(network), ""
  if not isinstance(network, sampler_lib.Sampler):
    raise errors.UserError(
      "An expert compares clips with what they were made of, which clips of "
      "files do not say: evaluate a WORKDIR, or leave `expert` out."
    )
  expert = load(path).of_texts(network.text)
  trained = expert.digest in network.experts
  return expert, (
    "the generator was trained to please this expert: the figure says nothing, "
    "take one of another seed"
    if trained
    else ""
  )


def shown(
  network: Any, examples: Sequence[Mapping[str, Any]], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, tuple[np.ndarray, np.ndarray]]]:
  """What an evaluator shows to an expert.

  Args:
    network: what is evaluated.
    examples: held-out clips, as `data.reference.Clips.prepared` gives them.
    seed: of the noise.

  Returns:
    What is given with the clips, and suffix of a value -> (clips, times): ''
    what a generator makes of it and '_real' the real clips, or of the run of
    an expert '' the real clips.
  """
  stack = lambda rows: np.stack([*rows])
  names = examples[0]["given"]
  given = {k: stack(e["given"][k] for e in examples) for k in names}
  real = tuple(stack(e[k] for e in examples) for k in ("target", "times"))
  if of(network) is not None:
    return given, {"": real}
  asked = given | {"index": np.arange(len(examples))}
  clips = network.clips(asked, seed)
  times = np.tile(np.float32(network.times), (len(clips), 1))
  return given, {"": (clips, times), "_real": real}
