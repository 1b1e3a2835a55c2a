"""What a run tells, read back from the files."""

import builtins
import io
import json
import logging
import math
import resource
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from vidgan_jax.store import files
from vidgan_jax.train import writer as writer_lib


@pytest.fixture
def writer(tmp_path):
  writer = writer_lib.Writer(tmp_path, tensorboard=False)
  yield writer
  writer.close()


def lines(tmp_path):
  return (tmp_path / "metrics.jsonl").read_text().splitlines()


def clips(n=3, t=4, h=6, w=8, c=3):
  """Clips of one colour a frame, which survive a palette."""
  values = np.arange(n * t).reshape(n, t, 1, 1, 1) * 10
  return np.broadcast_to(values, (n, t, h, w, c)).astype(np.uint8)


# ------------------------------------------------------------ metrics.jsonl


def test_one_object_a_line_and_a_step(tmp_path, writer):
  writer.start(0, 10, 50)
  writer.step(1, {"d/loss": jnp.float32(2.0), "p": jnp.int32(3)})
  assert len(lines(tmp_path)) == 1  # there at once, not at the end
  writer.scalars(1, {"eval/frd": np.float64(0.5)})  # joins the line
  writer.scalars(2, {"eval/frd": 0.25})
  rows = [json.loads(line) for line in lines(tmp_path)]
  assert rows == [
    {"step": 1, "kimg": 0.05, "d/loss": 2.0, "p": 3.0, "eval/frd": 0.5},
    {"step": 2, "kimg": 0.1, "eval/frd": 0.25},
  ]
  assert writer_lib.read(tmp_path) == rows


def test_numbers_that_are_not_finite_are_valid_json(tmp_path, writer):
  values = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.5}
  writer.scalars(3, values)

  def refuse(name):
    raise AssertionError(f"{name} is no JSON")

  json.loads(lines(tmp_path)[0], parse_constant=refuse)
  [row] = writer_lib.read(tmp_path / "metrics.jsonl")
  assert math.isnan(row["a"])
  assert (row["b"], row["c"], row["d"]) == (math.inf, -math.inf, 1.5)


def test_means_since_the_last_line(tmp_path, writer):
  writer.start(0, 4, 1, every=3)
  now = writer.step(1, {"d/loss": 1.0, "d/r1": 8.0, "p": 0.1})
  assert now == {"d/loss": 1.0, "d/r1": 8.0, "p": 0.1}
  now = writer.step(2, {"d/loss": 2.0, "p": 0.2})
  assert now == {"d/loss": 2.0, "p": 0.2}
  sums = json.loads(json.dumps(writer.sums))
  writer.step(3, {"d/loss": 6.0, "p": 0.3})
  writer.step(4, {"d/loss": 7.0, "p": 0.4})  # The last, out of turn.
  want = [
    {"step": 3, "kimg": 0.003, "d/loss": 3.0, "d/r1": 8.0, "p": 0.3},
    {"step": 4, "kimg": 0.004, "d/loss": 7.0, "p": 0.4},
  ]
  assert writer_lib.read(tmp_path) == want
  # One that goes on after step 2, or from the end, has the lines of one run.
  end = writer.sums
  writer.start(4, 6, 1, 3, end)
  writer.step(5, {"d/loss": 8.0})
  writer.step(6, {"d/loss": 9.0})
  assert writer_lib.read(tmp_path)[-1]["d/loss"] == 8.0
  writer.start(2, 4, 1, 3, sums)
  writer.step(3, {"d/loss": 6.0, "p": 0.3})
  writer.step(4, {"d/loss": 7.0, "p": 0.4})
  assert writer_lib.read(tmp_path) == want


def test_resume_has_each_step_once(tmp_path):
  with writer_lib.Writer(tmp_path, tensorboard=False) as writer:
    writer.start(0, 10, 1)
    for step in (2, 4, 6, 8):
      writer.step(step, {"x": step})
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 9, "x"')  # killed while writing
  with writer_lib.Writer(tmp_path, tensorboard=False) as writer:
    writer.start(4, 10, 1)  # the checkpoint is of step 4
    writer.scalars(4, {"late": 1})
    for step in (6, 8, 10):
      writer.step(step, {"x": -step})
  rows = writer_lib.read(tmp_path)
  assert [(r["step"], r["x"]) for r in rows] == [
    (2, 2), (4, 4), (6, -6), (8, -8), (10, -10)
  ]  # fmt: skip
  assert rows[1]["late"] == 1
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    "log.txt",
    "metrics.jsonl",
  ]


def test_numbers_are_added_beside_a_run(tmp_path, writer):
  """Another process adds some while this one goes on; nothing is lost."""
  writer.start(0, 10, 1)
  writer.step(2, {"x": 1.0})
  writer.step(4, {"x": 2.0})
  writer_lib.add(tmp_path, 2, {"fvd": 7.5, "worst": math.inf})
  writer.scalars(4, {"late": 1})  # Of the line before, which is not the last.
  writer.scalars(4, {"later": 2})
  writer.step(6, {"x": 3.0})
  writer_lib.add(tmp_path, 6, {"fvd": 5.0})
  want = [
    {"step": 2, "kimg": 0.002, "x": 1.0, "fvd": 7.5, "worst": math.inf},
    {"step": 4, "kimg": 0.004, "x": 2.0, "late": 1.0, "later": 2.0},
    {"step": 6, "kimg": 0.006, "x": 3.0, "fvd": 5.0},
  ]
  assert writer_lib.read(tmp_path) == want
  assert [json.loads(line) for line in lines(tmp_path)] == [
    json.loads(json.dumps(row).replace("Infinity", '"Infinity"'))
    for row in want
  ]
  before = lines(tmp_path)
  writer_lib.add(tmp_path, 2, {"fvd": 7.5, "worst": math.inf, "x": 1.0})
  assert lines(tmp_path) == before  # It stood there.
  writer_lib.add(tmp_path, 2, {"fvd": 8.0})
  assert writer_lib.read(tmp_path)[0]["fvd"] == 8.0
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 7, "x"')  # Killed while writing.
  assert [row["step"] for row in writer_lib.read(tmp_path)] == [2, 4, 6]
  writer_lib.add(tmp_path, 5, {"fvd": 4.0})  # After the fact.
  assert [json.loads(line)["step"] for line in lines(tmp_path)] == [2, 4, 5, 6]
  assert len(list(tmp_path.iterdir())) == 2


def test_lines_of_nobody_are_dropped(tmp_path):
  rows = '{"step": 1, "x": 1.0}', '{"step": 3, "x": 2.0}'
  foreign = (
    *("[]", "3", "null", '{"step": null}', '{"step": "2"}', '{"step": 1.5}'),
    *('{"step": 2, "x": NaN}', "[" * 99_999, "9" * 9999, '{"x": 1}'),
  )
  path = tmp_path / "metrics.jsonl"
  path.write_text("\n".join([rows[0], *foreign, rows[1], ""]))
  assert [row["x"] for row in writer_lib.read(tmp_path)] == [1, 2]
  writer_lib.add(tmp_path, 2, {"x": 3.0})
  assert [row["x"] for row in writer_lib.read(tmp_path)] == [1, 3, 2]


def test_two_processes_add_and_one_is_killed(tmp_path):
  """Every line that was told to be there is there, once and whole."""
  program = """
import itertools, sys
from vidgan_jax.train import writer
for i in itertools.count():
  writer.add(sys.argv[1], i, {sys.argv[2]: i})
  print(i, flush=True)
"""
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", program, tmp_path, name],
      stdout=subprocess.PIPE,
      text=True,
    )
    for name in "ab"
  ]
  for process in processes:
    assert process.stdout.readline() == "0\n"
  time.sleep(0.5)
  told = []
  for process in processes:
    process.kill()
    told.append(int(process.communicate()[0].split("\n")[-2]))
  rows = writer_lib.read(tmp_path)
  for name, last in zip("ab", told):
    values = [row[name] for row in rows if name in row]
    assert values[: last + 1] == list(range(last + 1)) and last > 10
  writer_lib.add(tmp_path, 10**9, {})  # Mends a line that was cut.
  steps = [json.loads(line)["step"] for line in lines(tmp_path)]
  assert steps == sorted(set(steps))


def test_full_disk_is_a_sentence(tmp_path, writer, monkeypatch):
  for name in ("stdout", "stderr"):
    monkeypatch.setattr(sys, name, io.StringIO())
  _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
  ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
  try:
    with pytest.raises(
      writer_lib.MetricsError, match="metrics.jsonl cannot be written: File too"
    ):
      writer.scalars(1, {"x": 1})
    with pytest.raises(
      writer_lib.MetricsError, match="log.txt cannot be written: File too"
    ):
      writer.log("lost")
    with pytest.raises(OSError, match="File too large: '.*lock'"):
      with files.alone(tmp_path / "lock"):
        pass
    with pytest.raises(OSError, match="File too large: '.*/config.json'"):
      files.write_text(tmp_path / "config.json", "lost")
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    signal.signal(signal.SIGXFSZ, ignored)
  assert (sys.stdout.getvalue(), sys.stderr.getvalue()) == ("lost\n", "")


def test_folder_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(writer_lib.MetricsError, match="cannot be written"):
    writer_lib.Writer(tmp_path / "file")


# ------------------------------------------------------------------ log.txt


def test_log_and_warnings_of_others(tmp_path, writer, capsys):
  writer.log("two\nlines 100%")
  logging.getLogger("vidgan_jax.data.x").info("from inside")
  logging.getLogger("elsewhere").warning("take care")
  logging.getLogger("elsewhere").info("chatter")
  text = (tmp_path / "log.txt").read_text()
  assert "two\nlines 100%" in text
  assert "from inside" in text and "take care" in text
  assert "chatter" not in text
  assert "two\nlines 100%" in capsys.readouterr().out
  writer.close()
  logging.getLogger("elsewhere").warning("after the end")
  writer.log("last words")
  assert "last words" in capsys.readouterr().out
  text = (tmp_path / "log.txt").read_text()
  assert text.endswith("last words\n") and "after the end" not in text


# ----------------------------------------------------------------- progress


class Terminal(io.StringIO):
  def isatty(self):
    return True


class Clock:
  now = 100.0

  def __call__(self):
    return self.now


@pytest.fixture
def clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(writer_lib.time, "perf_counter", clock)
  return clock


def test_progress_on_a_terminal_rewrites_one_line(writer, monkeypatch, clock):
  out = Terminal()
  monkeypatch.setattr(sys, "stdout", out)
  writer.start(0, 1000, 32, every=0)
  for step in range(1, 101):
    clock.now += 0.5
    writer.step(step, {"d/loss": 0.5, "g/loss": 1.25})
  last = out.getvalue().split("\r")[-1]
  assert last.startswith("step 100/1000  3.2 kimg  2.00 steps/s  ETA 0:07:30")
  assert "d/loss 0.500  g/loss 1.250" in last
  assert "\n" not in out.getvalue()
  writer.log("hello")
  assert out.getvalue().endswith("\rhello\n")


def test_progress_elsewhere_is_a_line_now_and_then(writer, capsys, clock):
  writer.start(0, 1000, 32, every=0)
  for step in range(1, 101):
    clock.now += 0.5
    writer.step(step, {"d/loss": 0.5})
  shown = capsys.readouterr().out.splitlines()
  assert 4 <= len(shown) <= 6  # 50 s, one in 10 s
  assert "\r" not in "".join(shown)


def test_pauses_do_not_count(writer, clock):
  writer.start(0, 1000, 32, every=0)
  for step in range(1, 60):
    clock.now += 0.1
    writer.step(step, {})
    if step % 7 == 0:
      clock.now += 60  # evaluation
      writer.pause_ended()
  clock.now += 2.0
  writer.step(79, {})
  assert writer._progress.rate == pytest.approx(10, rel=0.1)


# ----------------------------------------------------------------- pictures


def test_samples_are_a_gif_and_a_strip(tmp_path):
  with writer_lib.Writer(tmp_path, tensorboard=False) as writer:
    writer.videos(120, {"samples": clips(3)}, fps=10)
    writer.videos(0, {"real": clips(2, c=1)})
  names = sorted(p.name for p in (tmp_path / "samples").iterdir())
  assert names == [
    "0000120.gif",
    "0000120.png",
    "real_0000000.gif",
    "real_0000000.png",
  ]
  scale = 96 // 8
  gif = Image.open(tmp_path / "samples" / "0000120.gif")
  assert gif.n_frames == 4
  assert gif.size == (2 * 8 * scale, 2 * 6 * scale)  # 3 clips in 2 x 2
  gif.seek(2)
  frame = np.asarray(gif.convert("RGB"))
  assert abs(int(frame[0, 0, 0]) - 20) <= 2  # clip 0, frame 2
  assert abs(int(frame[0, -1, 0]) - 60) <= 2  # clip 1, frame 2
  strip = np.asarray(Image.open(tmp_path / "samples" / "0000120.png"))
  assert strip.shape == (3 * 6 * scale, 4 * 8 * scale, 3)
  np.testing.assert_array_equal(
    strip[:: 6 * scale, :: 8 * scale, 0], clips(3)[:, :, 0, 0, 0]
  )


def test_wrong_clips_are_refused(writer):
  for wrong in (clips()[0], clips().astype(np.float32), clips()[:0]):
    with pytest.raises(ValueError, match="samples"):
      writer.videos(1, {"samples": wrong})


def test_errors_of_the_thread_come_back(tmp_path, writer):
  (tmp_path / "samples").write_text("not a folder")
  writer.videos(1, {"samples": clips()})
  with pytest.raises((writer_lib.MetricsError, RuntimeError, ValueError)):
    writer.close()


# -------------------------------------------------------------- TensorBoard


def test_tensorboard_reads_it_back(tmp_path):
  pytest.importorskip("tensorflow")
  pytest.importorskip("clu")
  from tensorboard.backend.event_processing import event_file_loader
  from tensorboard.util import tensor_util

  with writer_lib.Writer(tmp_path) as writer:
    writer.start(0, 10, 1)
    writer.step(5, {"d/loss": 2.5})
    writer.videos(5, {"samples": clips(4)})
  [path] = tmp_path.glob("events.out.tfevents.*")
  found = {}
  for event in event_file_loader.EventFileLoader(str(path)).Load():
    for value in event.summary.value:
      found[value.tag] = event.step, value
  step, value = found["d/loss"]
  assert step == 5
  assert tensor_util.make_ndarray(value.tensor) == 2.5
  step, value = found["samples"]
  assert step == 5
  assert value.metadata.plugin_data.plugin_name == "images"
  width, height, gif = value.tensor.string_val
  picture = Image.open(io.BytesIO(gif))
  assert picture.format == "GIF" and picture.n_frames == 4
  assert picture.size == (int(width), int(height))
  assert gif == (tmp_path / "samples" / "0000005.gif").read_bytes()
  assert found["samples_strip"][1].metadata.plugin_data.plugin_name == "images"


def test_without_tensorflow_the_rest_is_written(tmp_path, monkeypatch, capsys):
  real = builtins.__import__

  def refuse(name, *args, **kwargs):
    if name.split(".")[0] in ("tensorflow", "clu"):
      raise ImportError(f"No module named {name!r}")
    return real(name, *args, **kwargs)

  monkeypatch.setattr(builtins, "__import__", refuse)
  with writer_lib.Writer(tmp_path) as writer:
    writer.start(0, 10, 1)
    writer.step(1, {"d/loss": 2.5})
    writer.step(2, {"d/loss": 2.5})
    writer.videos(2, {"samples": clips()})
  out = capsys.readouterr().out
  assert out.count("TensorBoard files are not written") == 1
  assert len(lines(tmp_path)) == 2
  assert (tmp_path / "samples" / "0000002.gif").exists()
  assert not list(tmp_path.glob("events*"))


# ------------------------------------------------------------------ helpers


def test_other_processes_write_nothing(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  with writer_lib.Writer(tmp_path) as writer:
    writer.start(0, 10, 1)
    writer.log("x")
    writer.videos(1, {"samples": clips()})
    assert writer.step(1, {"d/loss": 2.0}) == {"d/loss": 2.0}
    writer.scalars(1, {"x": 1})
    writer.pause_ended()
  assert not list(tmp_path.iterdir())


def test_overview_counts():
  shape = lambda *s: jax.ShapeDtypeStruct(s, jnp.float32)
  text = writer_lib.overview(
    {
      "conv": {"kernel": shape(3, 3, 8, 16), "bias": shape(16)},
      "scale": shape(),
    },
    "generator",
  )
  rows = [line.split() for line in text.splitlines()]
  assert rows[0][0] == "generator"
  assert rows[1] == ["conv", "2", "1,168", *"3 x 3 x 8 x 16".split()]
  assert rows[2] == ["scale", "1", "1", "scalar"]
  assert rows[3] == ["total", "3", "1,169"]


def test_stack():
  video = np.zeros((4, 6, 8, 3), np.float32)
  out = writer_lib.stack([{"video": video - 1}, {"video": video[:3, :5] + 1}])
  assert out.shape == (2, 3, 5, 8, 3) and out.dtype == np.uint8
  assert (out[0] == 0).all() and (out[1] == 255).all()
  same = clips(2)
  np.testing.assert_array_equal(writer_lib.stack(list(same)), same)
