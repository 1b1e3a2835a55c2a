"""One process of test_parallel.py: trains what it is told, one after another.

  python tests/parallel_worker.py JOBS

JOBS is a JSON list of {'workdir', 'config', 'flags'}. Beside what a run
leaves, WORKDIR.PROCESS.json tells what passed through this process's hands:
how the state was cut, and the first batches.
"""

import hashlib
import json
import pathlib
import sys

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from vidgan_jax import config as config_lib  # noqa: E402
from vidgan_jax.data import memory  # noqa: E402
from vidgan_jax.data import pipeline  # noqa: E402
from vidgan_jax.store import checkpoint  # noqa: E402
from vidgan_jax.train import loop  # noqa: E402


def digests(batch):
  """Row of the global batch -> digest of what this process holds of it."""
  rows = {}
  for leaf in jax.tree.leaves(batch):
    for shard in leaf.addressable_shards:
      first = shard.index[0].start or 0
      for i, row in enumerate(np.asarray(shard.data)):
        rows.setdefault(first + i, hashlib.md5()).update(row.tobytes())
  return {row: digest.hexdigest() for row, digest in rows.items()}


def record(kind, seen):
  """Makes the batches of a class pass by."""
  batches = kind.batches

  def told(self, start=0):
    for batch in batches(self, start):
      if len(seen) < 4:
        seen.append(digests(batch))
      yield batch

  kind.batches = told
  return lambda: setattr(kind, "batches", batches)


def work(job):
  seen, cut = [], {}
  undo = [record(k, seen) for k in (memory.InMemory, pipeline.Pipeline)]
  save = checkpoint.Checkpoints.save

  def told(self, step, state, *args, **kwargs):
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
      name = jax.tree_util.keystr(path, simple=True, separator="/")
      cut[name] = [leaf.size, leaf.addressable_shards[0].data.size]
    return save(self, step, state, *args, **kwargs)

  checkpoint.Checkpoints.save = told
  try:
    config = config_lib.override(config_lib.load(job["config"]), job["flags"])
    finished = loop.train(config_lib.validate(config), job["workdir"])
  finally:
    checkpoint.Checkpoints.save = save
    for call in undo:
      call()
  report = {
    "finished": finished,
    "devices": [jax.device_count(), jax.local_device_count()],
    "batches": seen,
    "cut": cut,
  }
  path = f"{job['workdir']}.{jax.process_index()}.json"
  pathlib.Path(path).write_text(json.dumps(report))


if __name__ == "__main__":
  for job in json.loads(sys.argv[1]):
    work(job)
