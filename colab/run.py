"""Runs a notebook from top to bottom in this environment; fails with a cell.

  python colab/run.py colab/train.ipynb
"""

import pathlib
import sys

import nbclient
import nbformat


def main():
  path = pathlib.Path(sys.argv[1])
  notebook = nbformat.read(path, as_version=4)
  client = nbclient.NotebookClient(
    notebook,
    timeout=1800,
    kernel_name="python3",
    resources={"metadata": {"path": str(path.parents[1].resolve())}},
  )
  client.execute()  # Raises CellExecutionError with the cell and its error.
  for cell in notebook.cells:
    for output in cell.get("outputs", ()):
      if output.get("name") == "stdout":
        print(output["text"], end="")
  print(f"{path}: ok, {len(notebook.cells)} cells")


if __name__ == "__main__":
  main()
