r"""Runs a notebook from its first cell to its last, in this environment.

  VIDGAN_NOTEBOOK_KIMG=0.5 python colab/run.py colab/train.ipynb

The kernel is this Python. It starts in the notebook's folder and works in a
temporary workdir, unless VIDGAN_NOTEBOOK_WORKDIR names one. Nothing is written
back, unless --store asks for it: so the outputs that the notebook shows are
made,

  VIDGAN_NOTEBOOK_KIMG=30 VIDGAN_NOTEBOOK_WORKDIR=runs/colab \
    python colab/run.py colab/train.ipynb --store

Prints what the cells print, then ok; a cell that fails ends it with the
traceback and exit status 1. Needs the test extra (nbclient, ipykernel).
"""

import os
import pathlib
import signal
import sys
import tempfile
import time

import nbclient
import nbformat
from tensorboard import manager

TIMEOUT = 1800  # seconds a cell


def main(path: str, store: bool = False) -> int:
  """Runs the notebook at `path`; returns the exit status."""
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  folder = str(pathlib.Path(path).resolve().parent)
  client = nbclient.NotebookClient(
    notebook,
    timeout=TIMEOUT,
    kernel_name="python3",
    resources={"metadata": {"path": folder}},
  )
  began = time.monotonic()

  def show(cell, cell_index, **_):
    if cell.cell_type != "code":
      return
    seconds = time.monotonic() - began
    print(f"--- cell {cell_index}, done after {seconds:.0f} s")
    for output in cell.outputs:
      if output.output_type == "stream":
        print(output.text, end="", flush=True)
      elif output.output_type == "display_data":
        print(f"[{', '.join(output.data)}]", flush=True)

  client.on_cell_executed = show
  boards = {board.pid for board in manager.get_all()}
  with tempfile.TemporaryDirectory() as temporary:
    os.environ.setdefault("VIDGAN_NOTEBOOK_WORKDIR", f"{temporary}/run")
    try:
      client.execute()
    except nbclient.exceptions.CellExecutionError as error:
      print(f"{path}: a cell failed.\n{error}", file=sys.stderr)
      return 1
    finally:
      for board in manager.get_all():  # TensorBoard outlives the kernel.
        if board.pid not in boards:
          os.kill(board.pid, signal.SIGTERM)
  if store:
    _store(notebook, path)
  print(f"ok: {path} in {time.monotonic() - began:.0f} s")
  return 0


def _store(notebook, path: str) -> None:
  """Writes the notebook with its outputs, which say nothing of this machine."""
  for cell in notebook.cells:
    cell.metadata.pop("execution", None)
    if cell.cell_type == "code":
      cell.execution_count = None
      if cell.source.startswith("%"):
        cell.outputs = []  # TensorBoard's page is of a server that is gone.
  notebook.metadata.language_info = {"name": "python"}
  nbformat.write(notebook, path)


if __name__ == "__main__":
  if len(sys.argv) not in (2, 3) or sys.argv[2:] not in ([], ["--store"]):
    print(__doc__, file=sys.stderr)
    sys.exit(2)
  sys.exit(main(sys.argv[1], store=len(sys.argv) == 3))
