"""The notebook: no output, no logic of its own, commands that exist."""

import ast
import json

import documents
import pytest

NOTEBOOK = documents.ROOT / "colab" / "train.ipynb"
CODE = documents.cells(NOTEBOOK, "code")


def test_it_is_a_notebook_without_outputs():
  notebook = json.loads(NOTEBOOK.read_text())
  assert notebook["nbformat"] == 4
  identifiers = [cell["id"] for cell in notebook["cells"]]
  assert len(set(identifiers)) == len(identifiers)
  for cell in notebook["cells"]:
    if cell["cell_type"] == "code":
      assert cell["outputs"] == [] and cell["execution_count"] is None


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
  values = {"KIMG": 2.0, "WORKDIR": "runs/colab", "samples": "runs/colab/s"}
  verbs = []
  for cell in CODE:
    for node in ast.walk(ast.parse(cell)):
      if isinstance(node, ast.Call) and ast.unparse(node.func) == "cli.main":
        [words] = node.args
        words = eval(compile(ast.Expression(words), "cell", "eval"), values)
        documents.check(words)
        verbs.append(words[0])
  assert verbs == ["train", "train", "generate", "generate", "evaluate"]


def test_commands_in_the_text_parse():
  found = [
    words
    for cell in documents.cells(NOTEBOOK, "markdown")
    for words in documents.commands(cell)
  ]
  assert [words[0] for words in found] == ["prepare", "train"]
  for words in found:
    documents.check(words)


def test_a_failed_command_fails_the_cell():
  for cell in CODE:
    for line in cell.splitlines():
      assert "cli.main(" not in line or line.startswith("assert 0 == ")
