"""A file is written as a whole or not at all."""

import hashlib
import json
import math
import os
import pathlib
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from vidgan_jax import errors
from vidgan_jax import store
from vidgan_jax.store import files

PACKAGE = pathlib.Path(store.__file__).parents[1]


def test_content_appears_at_the_end(tmp_path):
  path = tmp_path / "new" / "folder" / "a.txt"
  files.write_text(path, "old")
  with files.write(path) as temporary:
    temporary.write_text("new")
    assert path.read_text() == "old"
    files.clear(path.parent)  # By another thread.
    assert set(path.parent.iterdir()) == {path, temporary}
  assert path.read_text() == "new"
  assert os.listdir(path.parent) == ["a.txt"]
  umask = os.umask(0)
  os.umask(umask)
  assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask  # As any file.


def test_an_error_leaves_what_was_there(tmp_path):
  path = tmp_path / "a.json"
  files.write_json(path, 1)
  with pytest.raises(KeyError), files.write(path) as temporary:
    temporary.write_text("half")
    raise KeyError
  with pytest.raises(KeyError), files.write(tmp_path / "b") as temporary:
    temporary.mkdir()
    (temporary / "half").touch()
    raise KeyError
  with pytest.raises(TypeError):
    files.write_json(path, object())
  with pytest.raises(FileNotFoundError), files.write(path):
    pass  # A block that writes nothing does not delete anything.
  assert path.read_text() == "1\n"
  assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_takes_the_place_of_an_empty_one_alone(tmp_path):
  target = tmp_path / "folder"
  target.mkdir()
  for name in ("a", "b"):
    try:
      with files.write(target) as temporary:
        temporary.mkdir()
        (temporary / name).touch()
    except OSError as error:
      # Finished work is not lost because a name is taken.
      assert name == "b"
      kept = error.strerror.rpartition(" ")[2]
  assert os.listdir(target) == ["a"] and os.listdir(kept) == ["b"]
  assert {*tmp_path.iterdir()} == {target, pathlib.Path(kept)}


def killed(code):
  """Runs a program that kills itself."""
  code = f"import os, signal\nfrom vidgan_jax.store import files\n{code}"
  environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
  run = subprocess.run([sys.executable, "-c", code], env=environment)
  assert run.returncode == -signal.SIGKILL


def test_a_killed_writer_leaves_what_can_be_told_and_cleared(tmp_path):
  killed(f"""
with files.write({str(tmp_path / "a.b.json")!r}) as temporary:
  temporary.write_text("half")
  os.kill(os.getpid(), signal.SIGKILL)
""")
  for name in (".hidden", "a.tmp", ".a.tmp", "0123abcd.tmp"):
    (tmp_path / name).touch()  # Of others.
  [path] = files.leftovers(tmp_path)
  assert path.read_text() == "half"
  assert files.leftovers(tmp_path, "a.b.json") == [path]
  files.clear(tmp_path, "a.b")
  assert path.exists()
  files.write_json(tmp_path / "a.b.json", 1)  # The same command again.
  assert not path.exists()
  assert len(os.listdir(tmp_path)) == 5
  assert files.leftovers(tmp_path / "none") == []
  old = tmp_path / ".a.b.json.0123abcd.tmp.film"  # Of an earlier version.
  elsewhere = tmp_path / ".a.b.json.0123abcd-1-0123.tmp"  # Another host's.
  old.touch()
  elsewhere.touch()
  assert files.leftovers(tmp_path, "a.b.json") == [old]
  os.utime(elsewhere, (0, 0))
  assert len(files.leftovers(tmp_path, "a.b.json")) == 2


def test_a_lock_ends_with_its_process(tmp_path):
  lock = tmp_path / "lock"
  killed(f"""
with files.alone({str(lock)!r}):
  os.kill(os.getpid(), signal.SIGKILL)
""")
  with files.alone(lock):
    with pytest.raises(errors.UserError, match=f"process .{os.getpid()} on "):
      with files.alone(lock):
        pass
  with files.alone(lock):
    pass


def test_who_waits_for_a_file_gets_the_one_that_replaced_it(tmp_path):
  path = tmp_path / "rows"

  def add():
    with files.locked(path) as file:
      file.write(b"b")

  with files.locked(path):
    other = threading.Thread(target=add)
    other.start()
    time.sleep(0.05)  # It has opened the first file, and waits.
    files.write_text(path, "a")
  other.join()
  assert path.read_text() == "ab"


def test_json_is_strict_and_comes_back(tmp_path):
  value = {"a": (1, float("nan")), 2: [-math.inf, {"b": math.inf}], "c": None}
  files.write_json(tmp_path / "a.json", value)
  text = (tmp_path / "a.json").read_text()
  back = json.loads(text, parse_constant=lambda name: pytest.fail(name))
  assert back == files.plain(value)
  assert back["a"] == [1, "NaN"]
  assert back["2"] == ["-Infinity", {"b": "Infinity"}]
  assert float(back["2"][0]) == -math.inf


def test_digest(tmp_path):
  (tmp_path / "a").write_bytes(b"abc")
  assert files.digest(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
  one = files.digest(tmp_path)
  (tmp_path / "a").rename(tmp_path / "b")
  assert files.digest(tmp_path) != one


def test_nothing_else_replaces_files():
  for path in PACKAGE.rglob("*.py"):
    text = path.read_text()
    for words in ("os.replace(", "os.rename(", ".rename(", "part.replace("):
      assert words not in text or path.name == "files.py", f"{path}: {words}"
