"""What README, docs, configs and the notebook tell the user to type."""

import argparse
import json
import pathlib
import re
import shlex
from unittest import mock

from vidgan_jax import cli
from vidgan_jax import config as config_lib
from vidgan_jax import errors

ROOT = pathlib.Path(__file__).parents[1]


class _Parsed(Exception):
  """Raised where a verb would begin to work."""


def lines(text: str) -> list[str]:
  """Lines of commands: joined where a backslash ends one, comments cut."""
  out = []
  for line in text.replace("\\\n", " ").splitlines():
    line = re.sub(r"^\s*(\$ |!)?", "", line)
    for part in line.split("&&"):
      out.append(re.sub(r"\s#\s.*", "", part).strip())
  return out


def commands(text: str) -> list[list[str]]:
  """The `vidgan ...` commands in a text, as lists of words."""
  return [
    shlex.split(line)[1:]
    for line in lines(text)
    if re.match(r"vidgan [a-z]", line)
  ]


def printed(text: str) -> list[tuple[str, str]]:
  """The shell blocks of a Markdown text, with why each is not run, or ''.

  That stands in a comment above the block: `<!-- not run: REASON -->`.
  """
  pattern = r"^(?:<!-- not run: ([^\n]+) -->\n)?```sh\n(.*?)^```"
  return [(block, why) for why, block in re.findall(pattern, text, re.M | re.S)]


def blocks(text: str) -> list[str]:
  """The shell blocks of a Markdown text."""
  return re.findall(r"^```(?:sh|bash)?\n(.*?)^```", text, re.M | re.S)


def check(words: list[str]) -> None:
  """Parses a command as the verb does, and stops there.

  Raises:
    AssertionError: an option, a value, a config or a field does not exist.
  """
  parse = argparse.ArgumentParser.parse_known_args

  def stop(self, args=None, namespace=None):
    raise _Parsed(*parse(self, args, namespace))

  with mock.patch.object(argparse.ArgumentParser, "parse_known_args", stop):
    try:
      code = cli.main(words)
    except _Parsed as e:
      args, rest = e.args
    except SystemExit as e:
      assert e.code in (0, None), f"vidgan {shlex.join(words)}"
      return  # --help
    else:
      raise AssertionError(f"vidgan {shlex.join(words)}: status {code}")
  if words[0] == "train":
    try:
      config = config_lib.load(str(ROOT / args.config))
      config_lib.validate(config_lib.override(config, rest))
    except errors.UserError as e:
      raise AssertionError(f"vidgan {shlex.join(words)}: {e}") from None
  else:
    assert not rest, f"vidgan {shlex.join(words)}: no option {rest}"


def cells(path: pathlib.Path, kind: str) -> list[str]:
  """Sources of a notebook's cells of a kind: 'code' or 'markdown'."""
  notebook = json.loads(path.read_text())
  return [
    "".join(cell["source"])
    for cell in notebook["cells"]
    if cell["cell_type"] == kind
  ]
