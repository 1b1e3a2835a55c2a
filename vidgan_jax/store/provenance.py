"""Where weights and numbers come from: one record for all that is written.

A checkpoint holds it beside the weights, shipped weights hold it in their
header, and reports show parts of it. It is also all that a sampler must know
when the data set is not at hand.
"""

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
from importlib import metadata
import math
import pathlib
import platform
from typing import Any

import vidgan_jax
from vidgan_jax import config as config_lib
from vidgan_jax import errors

_PACKAGES = (
  *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
  """Where the weights of a run come from.

  Attributes:
    config: ConfigDict of the run.
    seconds: from the first frame of a training clip to its last.
    times: seconds of the frames of a clip.
    class_names: of the data set.
    text: fields of the encoder of texts; None: there is none.
    step: of the weights; None where they stand beside their step.
    data: what the clips were: their number, and digests of some.
    experts: loss -> digest of the frozen network that it asks.
    versions: package -> version.
    code: digest of this package's source.
  """

  config: Any
  seconds: float
  times: tuple[float, ...]
  class_names: tuple[str, ...]
  text: Mapping[str, Any] | None = None
  step: int | None = None
  data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  experts: Mapping[str, str] = dataclasses.field(default_factory=dict)
  versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
  code: str = ""

  def to_json(self) -> dict[str, Any]:
    """Plain values, the config as text."""
    fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    if self.step is None:
      del fields["step"]
    return fields | {
      "config": config_lib.to_json(self.config),
      "times": [float(time) for time in self.times],
      "class_names": list(self.class_names),
    }


def make(config: Any, **fields: Any) -> Record:
  """The record of what this process makes.

  Args:
    config: of the run.
    **fields: the others of `Record` but for versions and code.
  """
  return Record(config=config, versions=versions(), code=code(), **fields)


def from_json(fields: Mapping[str, Any]) -> Record:
  """The inverse of `Record.to_json`; records of earlier versions have less.

  Raises:
    ConfigError: a field of the config is unknown: it is of a later version.
    UserError: it is not such a record.
  """
  try:
    names = {field.name for field in dataclasses.fields(Record)}
    fields = {name: fields[name] for name in names & fields.keys()}
    times = tuple(map(float, fields["times"]))
    if not times or not all(map(math.isfinite, times)):
      raise ValueError(f"the times of its frames are {times}")
    return Record(
      **fields
      | {
        "config": config_lib.from_json(fields["config"]),
        "seconds": float(fields["seconds"]),
        "times": times,
        "class_names": tuple(map(str, fields["class_names"])),
      }
    )
  except errors.UserError:
    raise
  except (KeyError, TypeError, ValueError, AttributeError) as e:
    raise errors.UserError(
      "What is kept beside the weights is damaged, or another program's "
      f"({e!r}): bring the file or the run back from a copy."
    ) from e


def versions() -> dict[str, str]:
  """Of Python, of this package and of those whose numbers depend on it."""
  known = {
    "python": platform.python_version(),
    "vidgan_jax": vidgan_jax.__version__,
  }
  for name in _PACKAGES:
    try:
      known[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      continue
  return known


@functools.cache
def code() -> str:
  """Digest of the source of this package: 16 hexadecimal digits."""
  total, root = hashlib.sha256(), pathlib.Path(vidgan_jax.__file__).parent
  for path in sorted(root.rglob("*.py")):
    total.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
  return total.hexdigest()[:16]
