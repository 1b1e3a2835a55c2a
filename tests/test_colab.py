"""The notebook: outputs of a run, no logic of its own, commands that exist."""

import ast
import json
import re

import documents
import pytest

NOTEBOOK = documents.ROOT / "colab" / "train.ipynb"
# Without the lines that are IPython's.
CODE = [
  re.sub(r"^%.*$", "", cell, flags=re.M)
  for cell in documents.cells(NOTEBOOK, "code")
]


def test_it_is_a_small_notebook_with_the_outputs_of_a_run():
  notebook = json.loads(NOTEBOOK.read_text())
  assert notebook["nbformat"] == 4
  identifiers = [cell["id"] for cell in notebook["cells"]]
  assert len(set(identifiers)) == len(identifiers)
  assert notebook["cells"][0]["source"][0].startswith("[![Open in Colab](http")
  assert NOTEBOOK.stat().st_size < 1.5e6
  outputs = {
    cell["id"]: cell["outputs"]
    for cell in notebook["cells"]
    if cell["cell_type"] == "code"
  }
  kinds = {
    name: [kind for output in shown for kind in output.get("data", ())]
    for name, shown in outputs.items()
  }
  assert kinds["look"].count("image/png") == 2
  assert "image/gif" in kinds["resume"]
  text = json.dumps(outputs)
  assert "Finished: " in text and "oracle/class_accuracy" in text
  # Players of films that the notebook itself holds.
  for name in ("generate", "process"):
    assert json.dumps(outputs[name]).count("data:video/mp4;base64,") == 2
  assert not re.search(
    r"/tmp/|/work/|/home/|/root/|Traceback|[IWE]\d{4} ", text
  )


def test_its_forms():
  """Fields, in Colab's form, of what a user may want to set."""
  fields = re.findall(r"^(\w+) = .*  # @param \{type: \"(\w+)\"\}$",
                      "\n".join(CODE), re.M)  # fmt: skip
  assert dict(fields) == {
    "REPOSITORY": "string",
    "DRIVE": "boolean",
    "WORKDIR": "string",
    "UPLOAD": "boolean",
    "VIDEOS": "string",
    "KIMG": "number",
    "TASK": "string",
    "FOOTAGE": "string",
  }
  assert "%tensorboard --logdir $WORKDIR" in NOTEBOOK.read_text()


@pytest.mark.parametrize("number", range(len(CODE)))
def test_a_cell_holds_no_logic_of_its_own(number):
  tree = ast.parse(CODE[number])
  kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
  assert not [n for n in ast.walk(tree) if isinstance(n, kinds)]
  assert not [n for n in ast.walk(tree) if isinstance(n, ast.For | ast.While)]


def test_only_the_door_of_the_package_is_used():
  names = set()
  for cell in CODE:
    for node in ast.walk(ast.parse(cell)):
      if isinstance(node, ast.ImportFrom) and node.module == "vidgan_jax":
        names |= {alias.name for alias in node.names}
      elif isinstance(node, ast.Import):
        assert not [a for a in node.names if a.name.startswith("vidgan_jax")]
  assert names == {"cli"}


def test_calls_of_the_command_parse():
  """Each call's words are computed as in the cell."""
  values = {
    "KIMG": 2.0,
    "WORKDIR": "runs/colab",
    "samples": "runs/colab/s",
    "VIDEOS": "videos",
    "TASK": "super_resolve:scale=4",
    "FOOTAGE": "in.mp4",
  }
  verbs = []
  for config in ("quickstart.py", "video_folder.py:data=data/mine,res=64"):
    values["CONFIG"] = f"configs/{config}"
    for cell in CODE:
      for node in ast.walk(ast.parse(cell)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "cli.main":
          [words] = node.args
          words = eval(compile(ast.Expression(words), "cell", "eval"), values)
          documents.check(words)
          verbs.append(words[0])
  once = ["evaluate", *3 * ["generate"], "prepare", "process", *2 * ["train"]]
  assert sorted(verbs) == sorted(2 * once)


def test_a_failed_command_fails_the_cell():
  for cell in CODE:
    for line in cell.splitlines():
      call = line.lstrip()
      assert "cli.main(" not in call or call.startswith("assert 0 == ")
