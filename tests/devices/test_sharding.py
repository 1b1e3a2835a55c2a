"""Meshes, rules, and one step that is the same under jit and pmap."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax.devices import processes
from vidgan_jax.devices import sharding

P = jax.sharding.PartitionSpec


def tree():
  """Abstract state in small: a parameter, its mirrors, and a counter."""
  shape = lambda *s: jax.ShapeDtypeStruct(s, jnp.float32)
  g = {
    "conv": {"kernel": shape(3, 3, 16, 64), "bias": shape(64)},
    "odd": {"kernel": shape(5, 7, 11, 13)},
  }
  d = {"conv": {"kernel": shape(64, 64)}}
  return {
    "step": jax.ShapeDtypeStruct((), jnp.int32),
    "key": jax.eval_shape(lambda: jax.random.key(0)),
    "g": g,
    "d": d,
    "ema": g,
    "g_opt": ({"mu": g, "nu": g, "count": shape()},),
    "d_opt": ({"mu": d, "nu": d},),
  }


def fake_mesh(**axes):
  """A mesh of devices that are not there, for the rules alone."""
  return jax.sharding.AbstractMesh(tuple(axes.values()), tuple(axes))


def specs(rules, **axes):
  mesh = fake_mesh(**axes)
  return {leaf.path: leaf.spec for leaf in sharding._plan(tree(), mesh, rules)}


# -------------------------------------------------------------------- rules


def test_fsdp_cuts_the_largest_dimension_that_divides():
  got = specs((("kernel$", "fsdp"), (".*", "replicate")), data=8)
  cut = P(None, None, None, "data")
  assert got["g/conv/kernel"] == cut  # 3 x 3 x 16 x 64
  assert got["d/conv/kernel"] == P(None, "data")  # of equal ones the last
  assert got["g/odd/kernel"] == P()  # 5, 7, 11, 13
  assert got["g/conv/bias"] == got["step"] == got["key"] == P()


def test_mirrors_go_with_their_parameter():
  got = specs((("^g/.*kernel", "fsdp"), (".*", "replicate")), data=4)
  for path in ("g/", "ema/", "g_opt/0/mu/", "g_opt/0/nu/"):
    assert got[path + "conv/kernel"] == P(None, None, None, "data")
  for path in ("d/", "d_opt/0/mu/", "d_opt/0/nu/"):
    assert got[path + "conv/kernel"] == P()
  assert got["g_opt/0/count"] == P()


def test_options_of_fsdp_and_the_order_of_rules():
  rules = (
    ("conv/bias", "fsdp(axis='model', min_size=64)"),
    ("bias", "replicate"),
    (".*", "fsdp(min_size=10_000)"),
  )
  got = specs(rules, data=2, model=4)
  assert got["g/conv/bias"] == P("model")
  assert got["g/conv/kernel"] == P()  # 9216 elements
  assert (
    specs((("bias", "fsdp"), (".*", "replicate")), data=2)["g/conv/bias"] == P()
  )  # below the default of min_size


def test_tactics_compose():
  """FSDP over one axis, the channels of a kernel over another."""
  rules = (("kernel$", "split(axis='model') | fsdp"), (".*", "replicate"))
  got = specs(rules, data=4, model=2)
  assert got["g/conv/kernel"] == P(None, None, "data", "model")
  assert got["d/conv/kernel"] == P("data", "model")
  assert got["g/odd/kernel"] == P()
  # In the other order fsdp takes the channels, and nothing is left to split.
  rules = (("kernel$", "fsdp | split(axis='model')"), (".*", "replicate"))
  got = specs(rules, data=4, model=2)
  assert got["g/conv/kernel"] == P(None, None, None, "data")


def test_the_batch_is_cut_over_the_axes_that_carry_it():
  mesh = fake_mesh(data=4, fsdp=2, height=2)
  assert sharding.batch_sharding(mesh).spec == P(("data", "fsdp"))
  assert sharding.batch_sharding(mesh, ("data",)).spec == P(("data",))
  for axes in (("date",), ("slice",), ("data", "model")):
    with pytest.raises(config_lib.ConfigError, match="config.batch_axes"):
      sharding.batch_sharding(mesh, axes)


@pytest.mark.parametrize(
  "rules,message",
  [
    (
      (("kernel", "replicate"),),
      "no rule for 'd_opt/.*|no rule for 'ema/conv/bias'",
    ),
    (((".*", "fsdb"),), "Did you mean 'fsdp'"),
    (((".*", "fsdp('data')"),), "cannot be read"),
    (((".*", "fsdp(axis=open('x'))"),), "cannot be read"),
    (((".*", "fsdp(size=3)"),), "not an argument of fsdp"),
    (((".*", "fsdp(min_size='3')"),), "not an argument of fsdp"),
    (((".*", "fsdp(axis='date')"),), "Did you mean 'data'"),
    (((".*", "fsdp("),), "cannot be read"),
    (((".*", "fsdp | splt"),), "Did you mean 'split'"),
    (((".*", "fsdp | split(axis='modl')"),), "Did you mean 'model'"),
    ((), "expressions are none"),
  ],
)
def test_wrong_rules(rules, message):
  with pytest.raises(errors.UserError, match=message):
    specs(rules, data=4, model=2)


def test_leaf_without_a_rule_is_named():
  rules = (("^(g|d)/", "fsdp"), ("^(step|key)$", "replicate"))
  with pytest.raises(config_lib.ConfigError, match="'g_opt/0/count'"):
    specs(rules, data=4)


def test_table_counts():
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  text = sharding.describe(tree(), mesh, ((".*", "replicate"),))
  rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
  assert rows["g"] == ["3", "14,285", "0.05", "0.05", "0", "0"]
  assert rows["total"][0] == "18"
  text = sharding.describe(tree(), mesh, ((".*", "fsdp"),))
  rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
  assert rows["g"][-2:] == ["0", "3"]  # one device: nothing to cut


# --------------------------------------------------------------------- mesh


def test_mesh_of_all_devices():
  mesh = sharding.make_mesh((("data", -1), ("fsdp", 1)))
  assert dict(mesh.shape) == {"data": jax.device_count(), "fsdp": 1}
  assert all(t == jax.sharding.AxisType.Auto for t in mesh.axis_types)


@pytest.mark.parametrize(
  "axes,message",
  [
    ((("data", 3), ("fsdp", -1)), "multiple of 3 devices"),
    ((("data", 4),), "asks for 4 devices"),
    ((("data", -1), ("fsdp", -1)), "at most one"),
    ((("data", 0),), "at least 1"),
    ((("data", 1), ("data", -1)), "each once"),
    ((), "at least one axis"),
  ],
)
def test_wrong_meshes(axes, message):
  devices = jax.devices() * (8 // jax.device_count())  # as if there were 8
  with pytest.raises(config_lib.ConfigError, match=message):
    sharding.make_mesh(axes, devices=devices)


# --------------------------------------------------------------- processes


@pytest.mark.parametrize(
  "environ,found",
  [
    ({}, ""),
    ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4"}, ""),  # sbatch, no srun
    ({"OMPI_COMM_WORLD_SIZE": "2"}, "openmpi"),
    ({"OMPI_COMM_WORLD_SIZE": "1"}, ""),
    ({"TPU_WORKER_HOSTNAMES": "a,b"}, "tpu-pod"),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, ""),
    ({"MEGASCALE_COORDINATOR_ADDRESS": "a"}, "tpu-multislice"),
  ],
)
def test_clusters_are_found(environ, found):
  assert processes._cluster(environ) == found


def test_slurm_is_found_by_its_tasks():
  environ = {
    f"SLURM_{name}": "0" for name in ("JOB_ID", "STEP_NODELIST", "PROCID")
  } | {"SLURM_LOCALID": "0", "SLURM_NTASKS": "4"}
  assert processes._cluster(environ) == "slurm"
  # An interactive shell inside the same job.
  assert processes._cluster(environ | {"SLURM_STEP_NUM_TASKS": "1"}) == ""


@pytest.mark.parametrize("chosen", [None, "mine/xla"])
def test_the_cache_of_programs_is_private(chosen, tmp_path, monkeypatch):
  """Who can write into it, or exchange it, runs code as the user."""
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  default = tmp_path / ".cache" / "vidgan_jax" / "xla"
  cache = tmp_path / chosen if chosen else default
  if chosen:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
  before, umask = jax.config.jax_compilation_cache_dir, os.umask(0o002)
  try:
    processes.use_cache()
    assert jax.config.jax_compilation_cache_dir == str(cache)
    assert cache.stat().st_mode & 0o777 == 0o700
    cache.chmod(0o770)  # Of an earlier version, or shared on purpose.
    processes.use_cache()
    assert cache.stat().st_mode & 0o777 == (0o770 if chosen else 0o700)
    if not chosen:
      assert cache.parent.stat().st_mode & 0o777 == 0o700
  finally:
    os.umask(umask)
    jax.config.update("jax_compilation_cache_dir", before)


def test_alone_nothing_is_initialised():
  assert processes.initialize(environ={}) is False
  assert not jax.distributed.is_initialized()


# --------------------------------------------------------------------- step

TOY = """
  import json, os, sys
  import jax, jax.numpy as jnp, numpy as np, optax
  from vidgan_jax.devices import parallel, processes, sharding

  TX = optax.adam(0.1)
  REPLICATE = ((".*", "replicate"),)
  FSDP = (("kernel$", "fsdp(min_size=1)"), (".*", "replicate"))

  def create():
    key = jax.random.key(0)
    g = {"kernel": jax.random.normal(key, (8, 16)), "bias": jnp.zeros(16)}
    return {"step": jnp.int32(0), "key": key, "g": g, "g_opt": TX.init(g)}

  def make_step(axis):
    def step(state, batch, due):
      def loss(g):
        y = jnp.tanh(batch["x"] @ g["kernel"] + g["bias"])
        extra = jnp.mean(y ** 4) if "extra" in due else 0.0
        return jnp.mean((y - batch["y"][:, None]) ** 2) + extra
      value, grads = jax.value_and_grad(loss)(state["g"])
      if axis:
        value, grads = jax.lax.pmean((value, grads), axis)
      updates, opt = TX.update(grads, state["g_opt"], state["g"])
      g = optax.apply_updates(state["g"], updates)
      state = dict(state, step=state["step"] + 1, g=g, g_opt=opt)
      return state, {"loss": value}
    return step

  def run(mode, rules):
    mesh = sharding.make_mesh()
    places = sharding.shardings(jax.eval_shape(create), mesh, rules)
    state = jax.jit(create, out_shardings=places)()
    cut = sharding.batch_sharding(mesh)
    step = parallel.compile_step(
      make_step("batch" if mode == "pmap" else None), mode, mesh, places, cut)
    rng = np.random.default_rng(0)
    losses = []
    for i in range(4):
      batch = {"x": rng.normal(size=(16, 8)).astype("f"),
               "y": rng.normal(size=16).astype("f")}
      rows = 16 // jax.process_count()
      mine = slice(jax.process_index() * rows, (jax.process_index() + 1) * rows)
      batch = jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(cut, x[mine]), batch)
      due = ("extra",) if i % 2 else ()
      if i == 0:
        assert step.lower(state, batch, due).compile().cost_analysis()
      old = state["g"]["kernel"]
      state, metrics = step(state, batch, due)
      assert old.is_deleted() or jax.process_count() > 1 and mode == "pmap"
      assert metrics["loss"].is_fully_replicated
      losses.append(float(metrics["loss"]))
    assert jax.tree.map(lambda x: x.shape, state) == jax.tree.map(
      lambda x: x.shape, jax.eval_shape(create))
    copy = sharding.fetch(state["g"])
    jax.tree.map(lambda x: x.delete(), state)
    assert all(len(x.devices()) == 1 for x in jax.tree.leaves(copy))
    return np.array(losses), jax.tree.map(np.asarray, copy), old.sharding.spec
"""


def start(code, *args, devices=8):
  env = os.environ | {
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": str(pathlib.Path(__file__).parents[2]),
  }
  code = textwrap.dedent(TOY) + textwrap.dedent(code)
  return subprocess.Popen(
    [sys.executable, "-c", code, *map(str, args)],
    env=env,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(process):
  out, err = process.communicate(timeout=120)
  assert process.returncode == 0, err[-3000:]
  return out


def test_jit_fsdp_and_pmap_do_the_same_update():
  """On 8 devices and, by hand in one piece, on none."""
  code = """
    want_state, want = create(), []
    rng = np.random.default_rng(0)
    for i in range(4):
      batch = {"x": rng.normal(size=(16, 8)).astype("f"),
               "y": rng.normal(size=16).astype("f")}
      want_state, metrics = make_step(None)(
        want_state, batch, ("extra",) if i % 2 else ())
      want.append(float(metrics["loss"]))
    for mode, rules in (("jit", REPLICATE), ("jit", FSDP), ("pmap", REPLICATE)):
      losses, g, spec = run(mode, rules)
      assert (len(spec) > 0) == (rules is FSDP), spec
      np.testing.assert_allclose(losses, want, rtol=1e-5)
      for a, b in zip(jax.tree.leaves(g), jax.tree.leaves(want_state["g"])):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for wrong, message in (
        (lambda: run("pmap", FSDP), "keeps a copy"),
        (lambda: run("pmp", REPLICATE), "Did you mean 'pmap'")):
      try:
        wrong()
      except ValueError as e:
        assert message in str(e), e
      else:
        raise AssertionError(message)
    print("same")
  """
  assert "same" in finish(start(code))


def test_two_processes_do_the_same_update():
  with socket.socket() as s:
    s.bind(("localhost", 0))
    port = s.getsockname()[1]
  code = """
    os.environ |= {"JAX_COORDINATOR_ADDRESS": "localhost:" + sys.argv[1],
                   "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": sys.argv[2]}
    assert processes.initialize()
    assert not processes.initialize()  # once is enough
    assert jax.process_count() == 2 and jax.device_count() == 4
    for mode, rules in (("jit", REPLICATE), ("jit", FSDP), ("pmap", REPLICATE)):
      losses, g, _ = run(mode, rules)
      print("RESULT", json.dumps([losses.tolist(), float(g["kernel"].sum())]))
  """
  processes = [start(code, port, i, devices=2) for i in range(2)]
  toy = {}
  exec(textwrap.dedent(TOY), toy)  # the same here, on one mesh
  losses, g, _ = toy["run"]("jit", toy["REPLICATE"])
  for process in processes:
    results = [
      json.loads(line.removeprefix("RESULT"))
      for line in finish(process).splitlines()
      if line.startswith("RESULT")
    ]
    assert len(results) == 3
    for got, total in results:
      np.testing.assert_allclose(got, losses, rtol=1e-5)
      np.testing.assert_allclose(total, g["kernel"].sum(), rtol=1e-4)
