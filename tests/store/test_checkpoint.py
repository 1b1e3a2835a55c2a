"""Saving, verifying, falling back; errors that say what to do."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap
import time

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from vidgan_jax.store import checkpoint
from vidgan_jax.store import workdir
from vidgan_jax.train import state as state_lib

TX = optax.adam(1e-3)
WIDE = 1000  # wide enough that Orbax gives arrays files of their own


def params(seed, width=8):
  key = jax.random.key(seed)
  return {
    "a": {
      "kernel": jax.random.normal(key, (16, width)),
      "bias": jax.random.normal(key, (width,)),
    },
    "b": {"scale": jax.random.normal(key, (3,))},
  }


def make_state(width=8):
  g, d = params(0, width), params(1)
  return state_lib.State(
    step=jnp.int32(7),
    key=jax.random.key(5),
    g=g,
    d=d,
    ema=jax.tree.map(lambda x: x * 0.5, g),
    g_opt=TX.init(g),
    d_opt=TX.init(d),
    augment_p=jnp.float32(0.25),
    score_means=jnp.array([0.5, -jnp.inf], jnp.float32),
    skipped=jnp.int32(2),
    skipped_in_a_row=jnp.int32(1),
  )


def bits(tree):
  """Leaves as numpy arrays of their bytes; NaN equals NaN."""
  return {
    name: np.asarray(
      jax.random.key_data(x)
      if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
      else x
    ).tobytes()
    for name, x in checkpoint._leaves(tree)
  }


def abstract(state):
  return jax.eval_shape(lambda: state)


def write(folder, steps=(1,), every=1, keep=5, state=None, metadata=None):
  """Saves state + step at each of `steps`."""
  state = state or make_state()
  saver = checkpoint.Checkpoints(folder, every=every, keep=keep)
  for s in steps:
    assert saver.save(s, state.replace(step=jnp.int32(s)), metadata)
  saver.close()
  return state


def flip(folder, step, every=None):
  """Flips one bit of a step's largest data file, or of all in each `every`.

  Which arrays share a file is chance: to hurt a certain one, hurt all.
  """
  root = pathlib.Path(folder) / str(step) / "state"
  files = [p for p in root.rglob("d/*") if p.stat().st_size > 50_000]
  assert files  # array data, not an index
  if not every:
    files = [max(files, key=lambda p: p.stat().st_size)]
  for file in files:
    data = bytearray(file.read_bytes())
    for place in range(0, len(data), every) if every else [len(data) // 2]:
      data[place] ^= 0x10
    file.write_bytes(data)


# ------------------------------------------------------------------- exact


def test_round_trip_is_exact_bit_for_bit(tmp_path):
  state = make_state()
  state = state.replace(
    score_means=jnp.array([jnp.nan, -0.0], jnp.float32),
    g=state.g
    | {
      "half": jnp.arange(4, dtype=jnp.bfloat16),
      "on": jnp.array([True, False]),
    },
  )
  write(tmp_path, [3], state=state, metadata={"config": "x", "n": 3})
  reader = checkpoint.Checkpoints(tmp_path, every=1)
  got = reader.restore(abstract(state))
  restored, step = got.tree, got.step
  assert step == 3
  assert got.metadata == {"config": "x", "n": 3}
  assert isinstance(restored, state_lib.State)
  assert bits(restored) == bits(state.replace(step=jnp.int32(3)))
  # The key goes on being a key that draws the same numbers.
  assert jax.random.uniform(restored.key) == jax.random.uniform(state.key)


def test_donated_state_does_not_disturb_the_save(tmp_path):
  step = jax.jit(
    lambda s: s.replace(
      step=s.step + 1, g=jax.tree.map(lambda x: x * 1.5, s.g)
    ),
    donate_argnums=0,
  )
  saver = checkpoint.Checkpoints(tmp_path, every=2, keep=9)
  state, want = jax.tree.map(jnp.copy, make_state()), {}
  state = state.replace(step=jnp.int32(0))
  for s in range(7):
    host = bits(state)
    if saver.save(s, state):
      want[s] = host
    state = step(state)
  saver.close()
  assert sorted(want) == [2, 4, 6]
  reader = checkpoint.Checkpoints(tmp_path, every=2)
  for s, host in want.items():
    assert bits(reader.restore(abstract(make_state()), s).tree) == host


def test_due_steps_keep_and_force(tmp_path):
  saver = checkpoint.Checkpoints(tmp_path, every=10, keep=2)
  state = make_state()
  started = [s for s in range(36) if saver.save(s, state)]
  assert started == [10, 20, 30]
  assert saver.latest() == 30
  assert saver.save(36, state, force=True)
  assert not saver.save(36, state, force=True)  # it is there
  saver.wait()
  saver.close()
  assert sorted(p.name for p in tmp_path.iterdir()) == ["30", "36"]


def test_every_0_saves_only_when_forced(tmp_path):
  saver = checkpoint.Checkpoints(tmp_path, every=0)
  assert not any(saver.save(s, make_state()) for s in range(5))
  assert saver.latest() is None
  assert saver.save(5, make_state(), force=True)
  saver.close()
  assert [p.name for p in tmp_path.iterdir()] == ["5"]


def test_a_step_that_is_not_due_costs_nothing(tmp_path):
  saver = checkpoint.Checkpoints(tmp_path, every=10**6)
  state = make_state()
  saver.save(1, state)
  times = []
  for s in range(2, 200):
    start = time.perf_counter()
    saver.save(s, state, {"config": "x"})
    times.append(time.perf_counter() - start)
  saver.close()
  assert np.median(times) < 1e-3  # 0.05 ms on a quiet machine


# ----------------------------------------------------------------- digests


@pytest.mark.parametrize(
  "dtype", ["float32", "bfloat16", "int8", "uint8", "bool", "uint32", "float16"]
)
def test_digest_sees_every_flipped_bit(dtype):
  rng = np.random.default_rng(0)
  x = rng.integers(0, 2, (5, 7)).astype(jnp.dtype(dtype))
  base = int(checkpoint._digest(jnp.asarray(x)))
  width = x.dtype.itemsize * 8
  seen = set()
  for place in rng.choice(35 * width, 40, replace=False):
    if dtype == "bool" and place % 8:
      continue  # a bool has one bit
    raw = bytearray(x.tobytes())
    raw[place // 8] ^= 1 << (place % 8)
    y = np.frombuffer(bytes(raw), x.dtype).reshape(x.shape)
    seen.add(int(checkpoint._digest(jnp.asarray(y))))
  assert base not in seen
  swapped = np.arange(35).astype(jnp.dtype(dtype) if dtype != "bool" else "u1")
  other = swapped.copy()
  other[[3, 4]] = other[[4, 3]]
  assert int(checkpoint._digest(jnp.asarray(swapped))) != int(
    checkpoint._digest(jnp.asarray(other))
  )


def test_digest_of_8_byte_types():
  with jax.enable_x64(True):
    for dtype in (jnp.float64, jnp.int64, jnp.complex64):
      x = jnp.arange(6).astype(dtype)
      y = x.at[2].add(
        jnp.asarray(2**-30, dtype) if dtype != jnp.int64 else 2**40
      )
      assert not jnp.array_equal(x, y) or dtype == jnp.complex64
      if dtype != jnp.complex64:
        assert int(checkpoint._digest(x)) != int(checkpoint._digest(y))
      assert int(checkpoint._digest(x)) == int(checkpoint._digest(x + 0))


# ------------------------------------------------------------------ damage


def test_flipped_byte_falls_back_to_the_step_before(tmp_path):
  state = write(tmp_path, [1, 2, 3], state=make_state(WIDE))
  flip(tmp_path, 3)
  told = []
  reader = checkpoint.Checkpoints(tmp_path, every=1, log=told.append)
  got = reader.restore(abstract(state))
  restored, step = got.tree, got.step
  assert step == 2
  assert bits(restored) == bits(state.replace(step=jnp.int32(2)))
  assert len(told) == 1 and "step 3" in told[0] and "damaged" in told[0]
  # The run saves step 3 again; nothing stands in its way.
  assert reader.latest() == 2
  assert reader.save(3, restored)
  reader.close()
  assert (tmp_path / "3.damaged").is_dir()
  again = checkpoint.Checkpoints(tmp_path, every=1)
  assert again.restore(abstract(state)).step == 3
  # Another damage of the same step does not remove what is kept of the first.
  flip(tmp_path, 3)
  assert again.restore(abstract(state)).step == 2
  assert (tmp_path / "3.damaged").is_dir()
  assert (tmp_path / "3.damaged.1").is_dir()


def damage_truncate(step):
  for file in (step / "state").rglob("d/*"):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def damage_manifest(step):
  (step / "state" / "manifest.ocdbt").unlink()


def damage_state(step):
  for p in (step / "state").rglob("*"):
    if p.is_file():
      p.unlink()


def damage_meta(step):
  (step / "meta" / "metadata").unlink()


def damage_meta_text(step):
  file = step / "meta" / "metadata"
  file.write_text(file.read_text()[:-20])


def damage_meta_digit(step):
  file = step / "meta" / "metadata"
  meta = json.loads(file.read_text())
  meta["leaves"]["step"][2] ^= 1
  file.write_text(json.dumps(meta))


@pytest.mark.parametrize(
  "damage",
  [
    damage_truncate,
    damage_manifest,
    damage_state,
    damage_meta,
    damage_meta_text,
    damage_meta_digit,
  ],
)
def test_other_damage_falls_back_too(tmp_path, damage):
  state = write(tmp_path, [1, 2])
  damage(tmp_path / "2")
  told = []
  reader = checkpoint.Checkpoints(tmp_path, every=1, log=told.append)
  got = reader.restore(abstract(state))
  restored, step = got.tree, got.step
  assert step == 1
  assert bits(restored) == bits(state.replace(step=jnp.int32(1)))
  assert "step 2" in told[0]


def test_all_damaged_is_an_error_that_names_each_and_moves_none(tmp_path):
  state = write(tmp_path, [1, 2], state=make_state(WIDE))
  flip(tmp_path, 1)
  damage_truncate(tmp_path / "2")
  reader = checkpoint.Checkpoints(tmp_path, every=1)
  with pytest.raises(checkpoint.CheckpointError, match="step 2: .*step 1: "):
    reader.restore(abstract(state))
  assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2"]


def test_a_damaged_step_that_was_asked_for_is_an_error(tmp_path):
  state = write(tmp_path, [1, 2], state=make_state(WIDE))
  flip(tmp_path, 2)
  with pytest.raises(checkpoint.CheckpointError, match="step 2: "):
    checkpoint.Checkpoints(tmp_path, every=1).restore(abstract(state), 2)
  with pytest.raises(
    checkpoint.CheckpointError, match="no checkpoint of step 9; there is 1, 2"
  ):
    checkpoint.Checkpoints(tmp_path, every=1).restore(abstract(state), 9)


def test_half_written_step_of_a_killed_run_is_cleared(tmp_path):
  state = write(tmp_path, [1])
  (tmp_path / "2.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
  reader = checkpoint.Checkpoints(tmp_path, every=1)
  assert reader.restore(abstract(state)).step == 1
  reader.close()
  assert [p.name for p in tmp_path.iterdir()] == ["1"]


# ------------------------------------------------------------ other configs


def test_another_config_is_named(tmp_path):
  state = write(tmp_path, [4])
  reader = checkpoint.Checkpoints(tmp_path, every=1)

  def message(other):
    with pytest.raises(checkpoint.CheckpointError) as e:
      reader.restore(abstract(other))
    text = str(e.value)
    assert "another config" in text and "config.json" in text
    assert "\n" not in text and str(tmp_path) in text
    return text

  text = message(state.replace(g=state.g | {"c": {"kernel": jnp.ones(2)}}))
  assert "it lacks g/c/kernel" in text
  g = {k: v for k, v in state.g.items() if k != "b"}
  assert "it has g/b/scale" in message(state.replace(g=g))
  text = message(make_state(width=4))
  assert "g/a/kernel ([16, 8] there, [16, 4] here)" in text
  half = state.replace(score_means=state.score_means.astype(jnp.bfloat16))
  assert "score_means (float32 there, bfloat16 here)" in message(half)
  assert sorted(p.name for p in tmp_path.iterdir()) == ["4"]


def test_a_part_may_have_another_name(tmp_path, monkeypatch):
  state = write(tmp_path, [4])
  parts = {n: x for n, x in vars(state).items() if n != "augment_p"}
  names = dict.fromkeys([*parts, "strength"], jax.Array)
  later = flax.struct.dataclass(type("Later", (), {"__annotations__": names}))
  new = later(**parts, strength=state.augment_p)
  monkeypatch.setitem(checkpoint._RENAMED, "strength", "augment_p")
  with checkpoint.Checkpoints(tmp_path, every=1) as reader:
    got = reader.restore(abstract(new))
    assert isinstance(got.tree, later)
    assert bits(got.tree) == bits(new.replace(step=jnp.int32(4)))
    assert reader.save(5, got.tree)
    reader.wait()
    assert bits(reader.restore(abstract(new)).tree) == bits(got.tree)


def test_nothing_there(tmp_path):
  reader = checkpoint.Checkpoints(tmp_path / "new", every=1)
  assert reader.latest() is None
  with pytest.raises(checkpoint.CheckpointError, match="no checkpoint"):
    reader.restore(abstract(make_state()))
  with pytest.raises(workdir.WorkdirError, match="does not exist"):
    checkpoint.restore_params(tmp_path / "nowhere")


def test_folder_that_cannot_be_used(tmp_path):
  (tmp_path / "file").write_text("x")
  with pytest.raises(checkpoint.CheckpointError, match="cannot be used"):
    checkpoint.Checkpoints(tmp_path / "file" / "checkpoints", every=1)


# --------------------------------------------------------------- disk full


def test_full_disk_is_told_at_the_next_step(tmp_path, monkeypatch):
  state = write(tmp_path, [1], keep=1)
  saver = checkpoint.Checkpoints(tmp_path, every=1, keep=1)

  def full(*args, **kwargs):
    raise OSError(28, "No space left on device")

  # The last act of a save, in the writing thread.
  monkeypatch.setattr(
    ocp.path.atomicity.AtomicRenameTemporaryPath, "finalize", full
  )
  assert saver.save(2, state)
  with pytest.raises(checkpoint.CheckpointError) as e:
    for _ in range(200):
      saver.check()
      time.sleep(0.05)
  text = str(e.value)
  assert "step 2" in text and "disk is full" in text
  assert "step 1 is intact" in text and "\n" not in text
  monkeypatch.undo()
  saver.close()  # told once is enough
  assert [p.name for p in tmp_path.iterdir()] == ["1"]
  reader = checkpoint.Checkpoints(tmp_path, every=1)
  assert reader.restore(abstract(state)).step == 1


FAILING = """
  import resource, sys, time
  import jax, jax.numpy as jnp
  from vidgan_jax.store import checkpoint
  big = {'g': jax.random.normal(jax.random.key(0), (600, 600))}
  saver = checkpoint.Checkpoints(sys.argv[1], every=1, keep=2)
  saver.save(1, big); saver.wait()
  if sys.argv[2] == 'limit':
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
  try:
    saver.save(2, big)
    for s in range(200):
      saver.check(); time.sleep(0.02)
  except checkpoint.CheckpointError as e:
    print('ERROR', e)
  saver.close()
  print(sorted(p.name for p in saver._directory.iterdir()))
  reader = checkpoint.Checkpoints(sys.argv[1], every=1)
  print(reader.restore(jax.eval_shape(lambda: big)).step)
"""


def test_files_that_cannot_grow(tmp_path):
  """A real failure of the writing thread: a limit on the size of files."""
  out, err = run(FAILING, tmp_path, "limit")
  error, left, step = out.splitlines()
  assert error.startswith("ERROR The checkpoint of step 2 could not be written")
  assert "File too large" in error and "step 1 is intact" in error
  assert left == "['1']" and step == "1"
  assert "Traceback" not in err  # the error is enough


def test_disk_that_is_really_full(tmp_path):
  mount = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
  script = f"mount -t tmpfs -o size=2m tmpfs {tmp_path}"
  try:
    subprocess.run([*mount, script], check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip("needs Linux name spaces to mount a small disk")
  out, err = run(
    FAILING, tmp_path, "disk", prefix=[*mount, f'{script} && exec "$@"', "sh"]
  )
  error, left, step = out.splitlines()
  assert error.startswith("ERROR The checkpoint of step 2 could not be written")
  assert "the disk is full" in error and "step 1 is intact" in error
  assert left == "['1']" and step == "1"
  assert "Traceback" not in err


def test_an_array_that_ends_after_the_failure_is_not_told(tmp_path):
  code = """
    import asyncio, sys, threading
    import tensorstore
    from vidgan_jax.store import checkpoint
    saver = checkpoint.Checkpoints(sys.argv[1], every=1)
    promise, future = tensorstore.Promise.new()
    async def wait():
      await future
    async def fail():
      asyncio.ensure_future(wait())
      await asyncio.sleep(0.01)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(fail())
    loop.close()
    thread = threading.Thread(target=promise.set_result, args=(1,))
    thread.start(); thread.join()
    gone = type('Gone', (), {'__del__': lambda self: 1 / 0})()
    del gone
    sys.stdout.write('end')
  """
  out, err = run(code, tmp_path)
  assert out == "end" and "Event loop is closed" not in err
  assert "ZeroDivisionError" in err  # others are


# ------------------------------------------------------------- one network


def test_one_network_alone(tmp_path):
  state = write(
    tmp_path / "checkpoints",
    [1, 2],
    state=make_state(WIDE),
    metadata={"seconds": 0.5, "names": ["a"]},
  )
  assert workdir.steps(tmp_path) == [1, 2]
  for path, step in (
    (tmp_path, 2),
    (tmp_path / "checkpoints", 2),
    (str(tmp_path / "checkpoints" / "1"), 1),
  ):
    got = checkpoint.restore_params(path)
    assert got.step == step
    assert got.metadata == {"seconds": 0.5, "names": ["a"]}
    assert bits(got.tree) == bits(state.ema)
  assert bits(checkpoint.restore_params(tmp_path, "d").tree) == bits(state.d)
  with pytest.raises(checkpoint.CheckpointError, match="Did you mean 'ema'"):
    checkpoint.restore_params(tmp_path, "emma")
  with pytest.raises(workdir.WorkdirError, match="not exist; there is 1, 2"):
    checkpoint.restore_params(tmp_path / "checkpoints" / "3")
  flip(tmp_path / "checkpoints", 2, every=1000)
  assert checkpoint.restore_params(tmp_path).step == 1
  with pytest.raises(checkpoint.CheckpointError, match="step 2"):
    checkpoint.restore_params(tmp_path / "checkpoints" / "2")
  # Reading changes nothing.
  names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
  assert names == ["1", "2"]


def test_init_from_takes_what_fits(tmp_path):
  old = write(tmp_path, [1])
  new = make_state(width=4)
  zero = lambda tree: jax.tree.map(jnp.zeros_like, tree)
  new = new.replace(g=zero(new.g), d=zero(new.d), ema=zero(new.ema))
  got = checkpoint.init_from(new, tmp_path)
  assert bits(got.d) == bits(old.d)
  assert bits(got.g["b"]) == bits(old.g["b"])
  assert bits(got.ema["b"]) == bits(old.ema["b"])
  assert not got.g["a"]["kernel"].any()  # another shape: as it was
  assert bits(got.g_opt) == bits(new.g_opt)
  assert got.step == new.step
  other = new.replace(g={"z": jnp.zeros(1)})
  with pytest.raises(checkpoint.CheckpointError, match="config.model"):
    checkpoint.init_from(other, tmp_path)


# ----------------------------------------------------------- other devices


def run(code, *args, devices=1, prefix=()):
  """Runs Python code in a process of its own; returns what it printed."""
  here = pathlib.Path(__file__).parents[1]
  env = os.environ | {
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": f"{here.parent}{os.pathsep}{here}{os.pathsep}{here}/store",
  }
  result = subprocess.run(
    [*prefix, sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
    env=env,
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert result.returncode == 0, result.stderr[-3000:]
  return result.stdout, result.stderr


def test_one_device_to_eight_and_back(tmp_path):
  state = write(tmp_path / "one", [3])
  code = """
    import sys, jax
    import test_checkpoint as t
    from vidgan_jax.devices import sharding
    from vidgan_jax.store import checkpoint
    state = t.make_state()
    mesh = sharding.make_mesh()
    rules = (('kernel$', 'fsdp(min_size=1)'), ('.*', 'replicate'))
    places = sharding.shardings(t.abstract(state), mesh, rules)
    target = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      t.abstract(state), places)
    got = checkpoint.Checkpoints(sys.argv[1], every=1).restore(target)
    assert got.step == 3
    got = got.tree
    kernel = got.g['a']['kernel']
    assert len(kernel.addressable_shards) == 8
    assert kernel.addressable_shards[0].data.shape == (2, 8)
    assert t.bits(got) == t.bits(state.replace(step=got.step))
    saver = checkpoint.Checkpoints(sys.argv[2], every=1)
    saver.save(4, got)
    saver.close()
    print('done')
  """
  out, _ = run(code, tmp_path / "one", tmp_path / "eight", devices=8)
  assert "done" in out
  reader = checkpoint.Checkpoints(tmp_path / "eight", every=1)
  got = reader.restore(abstract(state)).tree
  assert bits(got) == bits(state.replace(step=jnp.int32(3)))
