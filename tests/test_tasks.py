"""Every task keeps its contract; `generate` passes clips through."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax import config
from vidgan_jax import tasks

EXAMPLE = {
  "video": np.linspace(-1, 1, 4 * 16 * 16 * 3, dtype=np.float32).reshape(
    4, 16, 16, 3
  ),
  "times": np.arange(4, dtype=np.float32) / 8,
  "label": np.int32(2),
}


def make(name, **options):
  return importlib.import_module(f"vidgan_jax.tasks.{name}").make(**options)


@pytest.mark.parametrize("name", config.names("tasks"))
def test_contract(name):
  task = make(name)
  assert isinstance(task, tasks.Task)
  out = task.prepare(
    {k: jnp.asarray(v) for k, v in EXAMPLE.items()}, jax.random.key(0)
  )
  assert set(out) - {"weight"} == {"given", "target", "times"}
  assert isinstance(out["given"], dict)
  assert out["target"].dtype == out["times"].dtype == np.float32
  assert out["target"].ndim == 4
  assert out["target"].shape[0] == out["times"].shape[0]
  batch = jax.tree.map(lambda x: np.asarray(x)[None], out)
  for video in task.preview(batch, batch["target"]).values():
    assert video.ndim == 5
  for baseline in task.baselines.values():
    assert baseline(batch["given"]).shape == batch["target"].shape


@pytest.mark.parametrize("name", config.names("tasks"))
def test_graph_and_vmap(name):
  """The same code runs in the graph of tf.data and under vmap."""
  prepare = make(name).prepare
  keys = jax.random.split(jax.random.key(0), 2)
  two = {k: jnp.stack([v, v]) for k, v in EXAMPLE.items()}
  mapped = jax.jit(jax.vmap(prepare))(two, keys)
  tf = pytest.importorskip("tensorflow", reason="TensorFlow not installed")
  graph = tf.function(prepare)(
    {k: tf.constant(v) for k, v in EXAMPLE.items()},
    tf.constant([0, 0], tf.int64),
  )
  shapes = lambda tree: jax.tree.map(lambda x: tuple(x.shape), tree)
  assert shapes(graph) == shapes(jax.tree.map(lambda x: x[0], mapped))


def test_generate():
  out = make("generate").prepare(EXAMPLE, None)
  assert out["target"] is EXAMPLE["video"] and out["given"] == {"label": 2}
  assert out["times"] is EXAMPLE["times"]
  assert make("generate", label=False).prepare(EXAMPLE, None)["given"] == {}
  bare = {k: v for k, v in EXAMPLE.items() if k != "label"}
  assert make("generate").prepare(bare, None)["given"] == {}
  shown = make("generate").preview({"target": 1}, 2)
  assert list(shown.items()) == [("real", 1), ("fake", 2)]


def test_task_is_frozen_and_named():
  task = make("generate")
  with pytest.raises(AttributeError):
    task.prepare = None
  with pytest.raises(TypeError):
    tasks.Task(task.prepare, {}, task.preview)
