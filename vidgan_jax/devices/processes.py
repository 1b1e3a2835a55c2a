"""The processes of a run: who they are, and how one joins the others."""

from collections.abc import Mapping
import importlib.util
import os
import pathlib

from absl import logging
import jax


def use_cache() -> None:
  """Keeps what XLA compiles on disk, for the next run of the same program.

  Who can write there, or exchange the folder, can run code as this user: a
  folder that is made here, and the default one with its parent in any case, is
  the user's alone under every umask.
  """
  default = os.path.expanduser("~/.cache/vidgan_jax/xla")
  cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", default)
  if "://" not in cache:
    try:
      private = [] if os.path.isdir(cache) else [cache]
      if cache == default:
        private = [os.path.dirname(cache), cache]
      os.makedirs(cache, 0o700, exist_ok=True)
      for folder in private:
        os.chmod(folder, 0o700)
    except OSError as e:
      logging.warning("Compiled programs are not kept in %s: %s", cache, e)
      return
  jax.config.update("jax_compilation_cache_dir", cache)


def initialize(environ: Mapping[str, str] = os.environ) -> bool:
  """Joins the other processes of this run, if there are any.

  Call it before anything touches a device. It looks for a cluster in the
  environment and does nothing on a lone machine, where
  `jax.distributed.initialize()` would raise:

    JAX_COORDINATOR_ADDRESS   host:port, with JAX_NUM_PROCESSES and
                              JAX_PROCESS_ID; wins over all that follow
    SLURM_*                   a job step of more than one task (`srun`); JAX
                              gives each task one GPU unless
                              JAX_LOCAL_DEVICE_IDS ('0,1,2,3') says otherwise
    OMPI_COMM_WORLD_SIZE      more than one rank (`mpirun`)
    TPU_WORKER_HOSTNAMES      more than one worker, or a multislice run
    JOB_COMPLETION_INDEX      an indexed Kubernetes Job, with `jax[k8s]`
    a TPU virtual machine     asks the metadata server

  Args:
    environ: the environment variables.

  Returns:
    Whether `jax.distributed` was initialised by this call.
  """
  if jax.distributed.is_initialized():
    return False
  address, processes = environ.get("JAX_COORDINATOR_ADDRESS"), ()
  if address:
    names = "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
    processes = [int(environ[n]) if n in environ else None for n in names]
  cluster = "JAX_COORDINATOR_ADDRESS" if address else _cluster(environ)
  if not cluster:
    return False
  try:
    jax.distributed.initialize(address, *processes)
  except ValueError:
    # A TPU machine that stands alone, as in Colab: nobody to join.
    if cluster != "tpu-vm":
      raise
    return False
  logging.info(
    "Process %d of %d (found by %s), %d of %d devices.",
    jax.process_index(),
    jax.process_count(),
    cluster,
    jax.local_device_count(),
    jax.device_count(),
  )
  return True


def _cluster(environ: Mapping[str, str]) -> str:
  """Names the cluster that the variables describe; '' for none."""
  slurm = ("JOB_ID", "STEP_NODELIST", "NTASKS", "PROCID", "LOCALID")
  if all(f"SLURM_{name}" in environ for name in slurm):
    # An interactive shell of a job of many tasks is a step of one.
    tasks = environ.get("SLURM_STEP_NUM_TASKS", environ["SLURM_NTASKS"])
    if int(tasks) > 1:
      return "slurm"
  if int(environ.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
    return "openmpi"
  if "MEGASCALE_COORDINATOR_ADDRESS" in environ:
    return "tpu-multislice"
  for name in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"):
    if "," in environ.get(name, ""):
      return "tpu-pod"
  if "JOB_COMPLETION_INDEX" in environ and importlib.util.find_spec(
    "kubernetes"
  ):
    return "kubernetes"
  if importlib.util.find_spec("libtpu") and (
    pathlib.Path("/dev/accel0").exists() or pathlib.Path("/dev/vfio/0").exists()
  ):
    return "tpu-vm"
  return ""
