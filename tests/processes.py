"""Several processes that work as one, as on a pod."""

import os
import pathlib
import socket
import subprocess

ROOT = pathlib.Path(__file__).parents[1]


def start(command, devices=1, processes=1, flags="", **env):
  """Starts a command `processes` times, each with so many devices."""
  with socket.socket() as s:
    s.bind(("localhost", 0))
    port = s.getsockname()[1]
  flags = f"--xla_force_host_platform_device_count={devices} {flags}"
  env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags} | env
  out = []
  for i in range(processes):
    if processes > 1:
      env |= {
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(i),
      }
    out.append(
      subprocess.Popen(
        [*map(str, command)],
        env=dict(env),
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
      )
    )
  return out


def finish(started, timeout=900):
  """Waits for them; returns what each said. All must end well."""
  try:
    texts = [p.communicate(timeout=timeout)[0] for p in started]
  finally:
    for p in started:
      p.kill()
  # Where one fails the others wait for it in vain: all have their say.
  failed = any(p.returncode for p in started)
  assert not failed, "\n=====\n".join(text[-4000:] for text in texts)
  return texts
