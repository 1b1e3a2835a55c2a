"""`fd_self`: Frechet distance on features learnt from the data set itself.

A small network (`nets/selfnet.py`) learns order, speed and likeness on the
clips of the data set, once: `vidgan evaluate WORKDIR --fit-features`. It needs
no weights from elsewhere and sees motion that random features hardly see. The
figures are in standard deviations of the data set's own features: comparable
for the same features, whose digest is in the protocol, and for nothing else.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import json
import os
import pathlib
from typing import Any

from flax import traverse_util
import numpy as np

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax.evals import distribution
from vidgan_jax.nets import selfnet
from vidgan_jax.nets import store as weights
from vidgan_jax.store import digest
from vidgan_jax.store import tensors

NAMES = distribution.names("fd_self", "kd_self", "self")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator(distribution.Distance):
  """Compares generated clips with the real ones of the evaluation split.

  Attributes:
    num: generated clips, and at most as many real ones. The distance of two
      samples of one distribution is about C / num, so hold it fixed.
    seed: seed of the generated clips.
    batch: clips at a time; it changes no value.
    features: file from `fit_features`; "" takes the one that `vidgan evaluate
      --fit-features` makes, at `where(reference)`.
  """

  num: int = 512
  features: str = ""

  def network(self, reference):
    """The one that was learnt."""
    return network(self.features or where(reference))

  def names(self, num, reference):
    """All that `distribution.figures` computes."""
    return NAMES

  def figures(self, comparison, names):
    """The distances and shares of neighbours."""
    learnt = comparison.protocol["fitted"]["shape"]
    if comparison.fake.shape != tuple(learnt):
      raise errors.UserError(
        f"The features were learnt from clips of (T, H, W) = {learnt}, these "
        f"are {list(comparison.fake.shape)}: learn them from clips of this "
        "size, with --fit-features."
      )
    return distribution.figures(comparison, names)

  def fit(
    self, reference: evals.Reference, log: Callable[[str], None] = print
  ) -> None:
    """Learns the features, of the training clips if they are known."""
    ops = (reference.card or {}).get("ops", "")
    clips = (reference.train or reference).clips
    fit_features(where(reference), clips, ops=ops, log=log)


def network(path: str | os.PathLike) -> distribution.Network:
  """The network of a file from `fit_features`.

  Raises:
    weights.Missing: there is none.
    ValueError: it is damaged or of another version.
  """
  params, record = load(path)
  facts = ("data", "shape", "steps", "batch", "seed")
  return distribution.Network(
    apply=selfnet.apply,
    params=params,
    card={
      "network": selfnet.VERSION,
      "weights": record["digest"],
      "input": "[-1, 1], as they are",
      "fitted": {key: record[key] for key in facts},
    },
  )


# -------------------------------------------------------------------- features


def where(reference: evals.Reference) -> pathlib.Path:
  """Where the features for the clips of an evaluation belong.

  Raises:
    weights.Missing: there is no folder for such things.
  """
  if reference.cache is None:
    raise weights.Missing(
      "not computed: name a file of learnt features, in the option `features` "
      "(see docs/metrics.md)"
    )
  name = digest.of(reference.fingerprint)[:16]
  return pathlib.Path(reference.cache) / f"fd_self-{name}.safetensors"


def fit_features(
  path: str | os.PathLike,
  source: Any,
  *,
  ops: str = "",
  steps: int = 500,
  batch: int = 32,
  seed: int = 0,
  log: Callable[[str], None] = print,
) -> pathlib.Path:
  """Learns features of a data set, unless they are there already.

  Args:
    path: of the file; the evaluator looks at `where` of its source.
    source: clips to learn from, best those of the training split, cut by the
      ops of evaluation; see `selfnet.fit`.
    ops: the clip ops that cut them, for the record.
    steps: of training; 500 take about five minutes on two CPU cores.
    batch: clips a step.
    seed: of everything random.
    log: gets what happens.

  Returns:
    The path of the file.
  """
  path = pathlib.Path(path)
  wanted = {
    "network": selfnet.VERSION,
    "data": fingerprint(source),
    "ops": ops,
    "clips": len(source),
    "shape": list(selfnet.read(source, [0]).shape[1:4]),
    "steps": steps,
    "batch": batch,
    "seed": seed,
  }
  try:
    _, record = load(path)
  except weights.Missing:
    pass
  except ValueError as error:
    log(f"fd_self: {error} It is made again.")
  else:
    if all(record.get(key) == value for key, value in wanted.items()):
      log(f"fd_self: the features in {path} are of this data set.")
      return path
    log(f"fd_self: the features in {path} are of other data or settings.")
  log(f"fd_self: learning features from {len(source)} clips, {steps} steps.")
  params, report = selfnet.fit(source, steps=steps, batch=batch, seed=seed)
  save(path, params, wanted | {"told": report})
  log(
    f"fd_self: right answers {report['order_right']:.0%} of order (chance "
    f"33 %), {report['speed_right']:.0%} of speed (chance "
    f"{report['speed_chance']:.0%}); kept in {path}."
  )
  return path


def fingerprint(source: Any) -> str:
  """Names the clips of a source by 32 of them."""
  indices = np.linspace(0, len(source) - 1, min(32, len(source))).astype(int)
  clips = [example["video"] for example in source.read(indices)]
  return digest.of([len(source), clips])


def save(path: str | os.PathLike, params: Any, record: Mapping) -> None:
  """Writes parameters and what they were learnt from, with a digest."""
  path = pathlib.Path(path)
  flat = traverse_util.flatten_dict(params, sep="/")
  flat = {key: np.ascontiguousarray(value) for key, value in flat.items()}
  record = {**record, "digest": digest.of(flat)}
  tensors.save(path, flat, {"record": json.dumps(record)})


def load(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads what `save` wrote.

  Returns:
    Parameters for `selfnet.apply` and the record.

  Raises:
    weights.Missing: the file is not there.
    ValueError: it is damaged or of another version.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise weights.Missing(
      f"not computed: learn the features first, with --fit-features: {path} is "
      "not there (see docs/metrics.md)"
    )
  try:
    flat, facts = tensors.load(path)
    record = json.loads(facts["record"])
    version, kept = record["network"], record["digest"]
  except (ValueError, KeyError, TypeError) as e:
    raise errors.UserError(
      f"{path} holds no features or is damaged ({e!r}): delete it and learn "
      "them again, with --fit-features."
    ) from e
  if version != selfnet.VERSION:
    raise errors.UserError(
      f"{path} is of {version}, this program has {selfnet.VERSION}: learn the "
      "features again, with --fit-features."
    )
  if digest.of(flat) != kept:
    raise errors.UserError(
      f"{path} is damaged, its numbers are not those that were written: delete "
      "it and learn the features again, with --fit-features."
    )
  return traverse_util.unflatten_dict(flat, sep="/"), record
