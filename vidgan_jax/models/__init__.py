"""Generators and discriminators: one file a pair, found by its name."""

from collections.abc import Mapping
import importlib
import inspect
from typing import Any

from vidgan_jax import rooms

_LINEN = ("parent", "name")  # Arguments of every Linen module.


def variants(name: str) -> Mapping[str, Any]:
  """The sizes of a model, the smallest first -> fields of its two modules."""
  return _module(name).VARIANTS


def _module(name: str) -> Any:
  return importlib.import_module(f"vidgan_jax.models.{name}")


def create(fields: Mapping[str, Any], dtype: Any) -> tuple[Any, Any]:
  """Builds the pair that `config.model` describes.

  Args:
    fields: `config.model`: name, variant, resolution, frames, num_classes and
      the overrides `generator` and `discriminator`. Of the three in the middle
      each module gets those that it has, and three `channels`.
    dtype: dtype of the computation; parameters and outputs stay float32.

  Returns:
    (generator, discriminator), two unbound Linen modules.

  Raises:
    UserError: there is no such model, or it has no such variant or field.
  """
  rooms.check_entry("models", fields["name"], "config.model.name")
  module, known = _module(fields["name"]), variants(fields["name"])
  rooms.check_name(fields["variant"], known, "config.model.variant")
  variant = known[fields["variant"]]
  names = ("resolution", "frames", "num_classes")
  shared = {"channels": 3} | {name: fields[name] for name in names}
  pair = []
  for role in ("generator", "discriminator"):
    make = getattr(module, role.capitalize())
    has = inspect.signature(make).parameters
    given = dict(variant[role]) | dict(fields[role])
    rooms.check_kwargs(
      make, given, f"config.model.{role}", given=(*shared, "dtype", *_LINEN)
    )
    own = {name: value for name, value in shared.items() if name in has}
    pair.append(make(**own, dtype=dtype, **given))
  return tuple(pair)
