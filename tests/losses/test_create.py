"""A config's losses, penalties and augmentation as objects."""

import numpy as np
import pytest

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax import losses
from vidgan_jax import rooms
from vidgan_jax.losses import reconstruction


def create(**flags):
  config = config_lib.override(
    config_lib.default(), [f"--config.{k}={v}" for k, v in flags.items()]
  )
  return losses.create(
    config_lib.validate(config), 10, lambda text: int(text.split("s")[0])
  )


@pytest.mark.parametrize("final, middle", [(0.0, 0.5), (0.25, 0.5), (None, 1)])
def test_where_a_penalty_ends(final, middle):
  penalties = f"{{'r1': {{'weight': 1.0, 'final': {final}}}}}"
  weight = create(penalties=penalties)["penalties"]["r1"].weight
  values = [weight(0), weight(5), weight(10)]
  np.testing.assert_allclose(values, [1, middle, 1 if final is None else final])


def test_kinds_are_told_apart_by_where_they_stand(monkeypatch):
  made = {"model": ["kl"]}
  monkeypatch.setattr(rooms, "model_losses", lambda model: made["model"])
  parts = create(
    penalties="{'lecam': {'weight': 0.1}, 'r1': {'weight': 2.0}}",
    reconstruction="{'kl': {'weight': 0.5}, 'charbonnier': {'epsilon': 0.1}}",
  )
  on_slope = {name: p.on_slope for name, p in parts["penalties"].items()}
  # What R1 draws does not depend on what else there is.
  assert [*on_slope.items()] == [("r1", True), ("lecam", False)]
  kl, charbonnier = (parts["reconstruction"][n] for n in ("kl", "charbonnier"))
  assert kl == losses.Reconstruction(fn=None, weight=0.5)
  assert charbonnier.fn.func is reconstruction.charbonnier
  assert charbonnier.fn.keywords == {"epsilon": 0.1}
  with pytest.raises(errors.UserError, match="reconstruction.kl.epsilon"):
    create(reconstruction="{'kl': {'epsilon': 1.0}}")
  made["model"] = []
  with pytest.raises(errors.UserError, match="no 'kl'"):
    create(reconstruction="{'kl': {}}")
