"""`vidgan study`: fair pairs, answers that last, and numbers that are right."""

import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

import browser
import hostile
import numpy as np
from PIL import Image
import pytest

from vidgan_jax import cli
from vidgan_jax.measures import intervals
from vidgan_jax.measures import votes
from vidgan_jax.reports import preferences
from vidgan_jax.study import make
from vidgan_jax.study import serve
from vidgan_jax.study import store
from vidgan_jax.study import summary as summary_lib
from vidgan_jax.video import read
from vidgan_jax.video import write

REAL = os.environ.get("VIDGAN_REAL_DATA")
ROOT = pathlib.Path(__file__).resolve().parents[2]
QUIET = dict(log=lambda line: None)


def square(frames, seed=0, height=64, width=64):
  """A square that moves a pixel a frame: (T, H, W, 3) uint8, two colours."""
  rng = np.random.default_rng(seed)
  colours = rng.integers(40, 216, (2, 3)).astype(np.uint8)
  video = np.tile(colours[0], (frames, height, width, 1))
  for t in range(frames):
    video[t, 8:24, t : t + 16] = colours[1]
  return video


def folder(path, names, *, frames=12, fps=12.0, suffix=".mp4", **shape):
  path.mkdir(parents=True)
  for i, name in enumerate(names):
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    video = square(frames, seed=i, **shape)
    write.write(path / f"{name}{suffix}", video, fps, crf=0)
  return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
  """Two systems, of other formats, rates and lengths."""
  root = tmp_path_factory.mktemp("clips")
  names = ["a", "b", "sub/c", "d"]
  folder(root / "ours", names)
  folder(root / "theirs", names, frames=30, fps=25.0, suffix=".gif")
  return root


@pytest.fixture(scope="module")
def made(clips, tmp_path_factory):
  """A study as `vidgan study make` writes it."""
  # Its folder is missing, and the clips make fewer pairs than the default.
  path = tmp_path_factory.mktemp("made") / "studies" / "first"
  argv = ["study", "make", str(path), "--checks=2"]
  argv += [f"--{k}={n}={clips / n}" for k, n in zip("ab", ("ours", "theirs"))]
  assert cli.main(argv) == 0
  return path


@pytest.fixture
def study(made, tmp_path):
  """The same without answers."""
  shutil.copytree(made, tmp_path / "study")
  return store.load(tmp_path / "study")


def paper_study(path, systems=3, items=10, **fields):
  """A study that needs no clips, since nobody will look."""
  clips, pairs = {}, []
  for i in range(systems):
    for n in range(items):
      clips[f"{i}-{n}"] = {"system": i, "name": str(n), "bytes": 0}
  for i, j in itertools.combinations(range(systems), 2):
    pairs += [[f"{i}-{n}", f"{j}-{n}"] for n in range(items)]
  checks = [["0-0", "ruin0"], ["1-1", "ruin1"], ["0-2", "ruin2"]]
  fields = (
    dict(
      folder=path,
      id="paper",
      question="Which?",
      ties=True,
      pairs_per_rater=12,
      check="degraded",
      failures=0,
      seed=3,
      systems=tuple("pqrstuvw"[:systems]),
      video={"fps": 10.0},
      clips=clips,
      pairs=pairs,
      checks=checks,
      facts={},
    )
    | fields
  )
  path.mkdir(exist_ok=True)
  return store.Study(**fields)


# -------------------------------------------------------------------- make


def test_clips_differ_in_content_alone(study, clips):
  assert [c["system"] for c in study.clips.values()].count(0) >= 4
  assert study.video == {
    "height": 64, "width": 64, "scale": 4, "fps": 12.0, "frames": 12,
    "seconds": 1.0,
  }  # fmt: skip
  ruined = {bad for _, bad in study.checks}
  assert len(ruined) == 2
  order = {"a": 0, "b": 1, "sub/c": 2, "d": 3}
  for name, clip in study.clips.items():
    assert re.fullmatch(r"[0-9a-f]{16}\.mp4", name)
    path = study.folder / "clips" / name
    info = read.probe(path)
    assert (info.container.split(",")[0], info.codec) == ("mov", "h264")
    assert (info.height, info.width, info.fps) == (256, 256, 12)
    got = np.stack([f.image for f in read.frames(path)])
    assert got.shape == (12, 256, 256, 3)
    if name in ruined:
      assert np.abs(np.diff(got.astype(int), axis=0)).mean() < 1
      continue
    # 25 frames a second to 12: the frame nearest in time.
    rate = (12, 25)[clip["system"]]
    times = np.arange(30) / rate
    wanted = [np.abs(times - k / 12).argmin() for k in range(12)]
    video = square(30, seed=order[clip["name"]])[wanted]
    small = got.reshape(12, 64, 4, 64, 4, 3).mean((2, 4))
    assert np.abs(small - video).mean() < 2.0, clip
  text = (study.folder / "study.json").read_text()
  assert json.loads(text)["facts"]["found"] == {"ours": 4, "theirs": 4}


def test_pairs_of_one_name(study):
  seen = set()
  for pair in study.pairs:
    a, b = (study.clips[c] for c in pair)
    assert (a["system"], b["system"]) == (0, 1)
    assert a["name"] == b["name"]
    seen.add(a["name"])
  assert seen == {"a", "b", "sub/c", "d"}


def test_the_seed_decides_everything(made, clips, tmp_path):
  options = make.Options(checks=2)
  systems = {n: clips / n for n in ("ours", "theirs")}
  lines = []
  again = make.make(tmp_path / "x", systems, options, log=lines.append)
  assert again.pairs_per_rater == 4
  assert lines[0].startswith("A rater sees 4 pairs, not 20: the clips (ours: 4")
  other = make.make(
    tmp_path / "y", systems, dataclasses.replace(options, seed=1), **QUIET
  )
  first = store.load(made)
  assert (again.pairs, again.checks) == (first.pairs, first.checks)
  assert not set(other.clips) & set(first.clips)


@pytest.mark.parametrize(
  "rates, fps, uneven",
  [
    ((30, 25), None, ["a (30)"]),
    ((50, 25), None, []),
    ((25, 25), None, []),
    ((12, 24), 24.0, []),
    ((10, 25), 25.0, ["a (10)"]),
    ((30, 29.97), None, []),  # Short clips.
    ((30, 25), 5.0, []),
  ],
)
def test_motion_that_the_study_makes_uneven(rates, fps, uneven, tmp_path):
  for name, rate in zip("ab", rates):
    folder(tmp_path / name, ["x"], frames=int(rate), fps=rate)
  lines = []
  study = make.make(
    tmp_path / "study",
    {name: tmp_path / name for name in "ab"},
    make.Options(pairs=1, checks=0, fps=fps),
    log=lines.append,
  )
  assert study.facts["uneven"] == uneven
  warnings = [line for line in lines if line.startswith("warning")]
  assert len(warnings) == bool(uneven)
  assert all(uneven[0] in w and "--fps" in w for w in warnings)


def test_images_beside_the_clips_are_told_of(tmp_path):
  """A folder of images may be a clip, and would be missed without a word."""
  for name in "ab":
    folder(tmp_path / name, ["x", "y"])
  (tmp_path / "a" / "z").mkdir()
  for t in range(3):
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(
      tmp_path / "a" / "z" / f"{t}.png"
    )
  lines = []
  make.make(
    tmp_path / "study",
    {name: tmp_path / name for name in "ab"},
    make.Options(pairs=1, checks=0),
    log=lines.append,
  )
  (warning,) = [line for line in lines if line.startswith("warning")]
  assert "a: 3 images" in warning and "z/0.png" in warning
  assert "its 2 videos" in warning


def test_resampling_takes_the_nearest_frame():
  rng = np.random.default_rng(0)
  for _ in range(50):
    n = int(rng.integers(1, 30))
    times = np.r_[0, np.cumsum(rng.uniform(0.01, 0.1, n - 1))]
    frames = (read.Frame(np.array(i), t) for i, t in enumerate(times))
    fps, count = rng.uniform(5, 60), int(rng.integers(1, 40))
    got = [int(x) for x in make.resample(frames, fps, count)]
    want = [int(np.abs(times - k / fps).argmin()) for k in range(count)]
    assert got == want


def test_random_pairs_of_three_systems():
  found = [
    {f"{c}{i}": None for i in range(n)} for c, n in zip("xyz", (9, 7, 30))
  ]
  assert make._matching("xyz", found, "auto") == "random"
  pairs = make._pairs(found, "random", 8, np.random.default_rng(0))
  by_systems = {}
  for a, b in pairs:
    by_systems.setdefault((a[0], b[0]), []).append((a[1], b[1]))
  assert {k: len(v) for k, v in by_systems.items()} == {
    (0, 1): 7, (0, 2): 8, (1, 2): 7,
  }  # fmt: skip
  for rows in by_systems.values():
    for side in zip(*rows):  # No clip twice against one system.
      assert len(set(side)) == len(rows)


def test_different_shapes_meet_in_the_middle_square(tmp_path, clips):
  folder(tmp_path / "wide", ["p", "q"], height=96, width=161)
  systems = {"ours": clips / "ours", "wide": tmp_path / "wide"}
  with pytest.raises(store.StudyError, match="64x64.*162x96.*--square"):
    make.make(tmp_path / "s", systems, make.Options(pairs=2), **QUIET)
  options = make.Options(
    pairs=2, checks=0, square=True, size=32, match="random"
  )
  study = make.make(tmp_path / "s", systems, options, **QUIET)
  assert (study.video["height"], study.video["width"]) == (32, 32)
  for name in study.clips:
    info = read.probe(study.folder / "clips" / name)
    assert (info.height, info.width) == (256, 256)


@pytest.mark.parametrize(
  "flags, words",
  [
    (["--pairs=5"], r"ours: 4, theirs: 4.*make 4 different pairs.*--pairs 4"),
    (["--pairs=0"], "--pairs 0: give a number from 1 to 1000"),
    (["--pairs=4", "--checks=-1"], "--checks -1: give"),
    (["--pairs=4", "--size=65"], "--size 65: .* has only 64 pixels"),
    (["--pairs=4", "--seconds=3"], "--seconds 3: .* lasts 1.00 s"),
    (["--pairs=4", "--fps=1.5"], "have no motion left"),
    (["--pairs=4", "--fps=nan"], "--fps nan: give"),
    (["--pairs=4", "--question= "], "--question: give 1 to 300"),
    (["--pairs=4", "--no-ties", "--check=same"], "only a tie is right"),
    (["--c=ours=x"], "the name 'ours' is taken"),
    (["--c=nothing"], "give a name and a folder, as in --c ours="),
    (["--c=third=/no/where"], "third: /no/where does not exist"),
    (["--c=third={tmp}/empty"], "third: .*/empty holds no video file"),
    (
      ["--c=third={tmp}/broken"],
      r"broken/d.mp4.*fix the clip or take it away",
    ),
    (["--c=third={tmp}/still"], "still/d.mp4: has a single frame"),
    (
      ["--c=third={tmp}/other"],
      r"ours: a, d, sub/c: no clip .*1 names are com",
    ),
    (["--c=third={tmp}/none", "--match=names"], "no clip of the other systems"),
    (["--c=third={tmp}/twins"], "have the same name but for the suffix"),
    (["--c=a\nb={tmp}/other"], "printable"),
  ],
)
def test_refusals_of_make(flags, words, clips, tmp_path, capsys):
  if "third" in str(flags) and "{tmp}" in str(flags):
    for name in ("empty", "broken", "still", "other", "none", "twins"):
      (tmp_path / name / "sub").mkdir(parents=True)
    for name in ("broken", "still"):
      shutil.copytree(clips / "ours", tmp_path / name, dirs_exist_ok=True)
    (tmp_path / "broken" / "d.mp4").write_bytes(b"nothing of a video" * 99)
    write.write(tmp_path / "still" / "d.mp4", square(1), 12)
    shutil.copy(clips / "ours/b.mp4", tmp_path / "other/b.mp4")
    shutil.copy(clips / "ours/b.mp4", tmp_path / "none/z.mp4")
    shutil.copy(clips / "ours/b.mp4", tmp_path / "twins/b.mp4")
    shutil.copy(clips / "ours/b.mp4", tmp_path / "twins/b.mkv")
  argv = ["study", "make", str(tmp_path / "s"), "--pairs=4"]
  argv += [f"--a=ours={clips / 'ours'}", f"--b=theirs={clips / 'theirs'}"]
  argv += [flag.replace("{tmp}", str(tmp_path)) for flag in flags]
  assert cli.main(argv) == 1
  error = capsys.readouterr().err
  assert error.startswith("vidgan study: ")
  assert re.search(words, error.replace("\n", " ")), error
  assert not (tmp_path / "s").exists()
  assert not list(tmp_path.glob(".*"))


def test_a_study_is_never_written_over(study, clips, capsys):
  argv = ["study", "make", str(study.folder)]
  argv += [f"--a=x={clips / 'ours'}", f"--b=y={clips / 'theirs'}"]
  assert cli.main(argv) == 1
  assert "is there already" in capsys.readouterr().err
  assert store.load(study.folder) == study


@pytest.mark.parametrize(
  "change, words",
  [
    (None, "holds no study"),
    (lambda s: "{", "damaged or no study"),
    (lambda s: "[]", "damaged or no study"),
    (lambda s: s.replace('"format": 1', '"format": 2'), "is of format 2, made"),
    (lambda s: s.replace('"pairs_per_rater"', '"pair"'), "lacks fields"),
  ],
)
@pytest.mark.parametrize("action", ["serve", "report"])
def test_studies_that_cannot_be_read(action, change, words, study, capsys):
  path = study.folder / "study.json"
  text = path.read_text()
  path.unlink()
  if change:
    path.write_text(change(text))
  assert cli.main(["study", action, str(study.folder)]) == 1
  assert words in capsys.readouterr().err


def test_a_lost_clip_is_missed(study, capsys):
  name = next(iter(study.clips))
  (study.folder / "clips" / name).write_bytes(b"")
  assert cli.main(["study", "serve", str(study.folder)]) == 1
  assert f"{name} is missing or not as it was" in capsys.readouterr().err


# ----------------------------------------------------------------- answers


def test_a_flipped_bit_of_a_clip_is_found(study, capsys):
  path = study.folder / "clips" / next(iter(study.clips))
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)
  assert cli.main(["study", "report", str(study.folder)]) == 1
  assert "not as it was made" in capsys.readouterr().err


def test_a_study_does_not_show_other_files_of_the_machine(study):
  path = study.folder / "study.json"
  fields = json.loads(path.read_text())
  name = next(iter(fields["clips"]))
  (study.folder / "secret").write_bytes(b"x" * fields["clips"][name]["bytes"])
  path.write_text(path.read_text().replace(name, "../secret"))
  with pytest.raises(store.StudyError, match="lacks fields"):
    store.load(study.folder)


def test_whatever_the_files_hold_the_error_is_one_line(study, capsys):
  with store.Answers(study) as answers:
    for _ in range(8):
      token = answers.join()
      for trial in range(4):
        answers.answer(token, trial, "left", 1.0)
  rng, failed = np.random.default_rng(0), 0
  for name in ("study.json", "answers.sqlite"):
    path = study.folder / name
    good = path.read_bytes()
    for _ in range(60):
      path.write_bytes(hostile.damaged(good, rng))
      if cli.main(["study", "report", str(study.folder)]):
        failed += 1
        assert capsys.readouterr().err.count("\n") == 1
    path.write_bytes(good)
  assert failed > 40
  assert cli.main(["study", "report", str(study.folder)]) == 0


def test_plans_are_balanced_and_follow_the_answers(tmp_path):
  study = paper_study(tmp_path, systems=3, items=8, pairs_per_rater=6)
  with store.Answers(study) as answers:
    tokens = [answers.join() for _ in range(8)]
    plans = [answers.progress(token)[0] for token in tokens]
    seen = [item for plan in plans for kind, item, *_ in plan if kind == "pair"]
    # 8 raters x 6 pairs = 24 pairs, twice each.
    assert sorted(seen) == sorted([*range(24)] * 2)
    for plan in plans:
      assert [k for k, *_ in plan].count("check") == 3
      where = [i for i, (k, *_) in enumerate(plan) if k == "check"]
      assert all(3 * i <= w < 3 * i + 3 for i, w in enumerate(where))
      pairs = [t for t in plan if t[0] == "pair"]
      swapped = sum(
        study.pairs[i] != [left, right] for _, i, left, right in pairs
      )
      assert swapped == 3
      for kind, item, left, right in plan:
        source = study.pairs if kind == "pair" else study.checks
        assert {left, right} == set(source[item])
    assert len({json.dumps(plan) for plan in plans}) == 8
    # One rater answers all: the next gets nothing of that.
    done = {i for kind, i, *_ in plans[0] if kind == "pair"}
    for trial in range(9):
      assert answers.answer(tokens[0], trial, "left", 1.0)
    for _ in range(3):
      fresh = answers.progress(answers.join())[0]
      assert not done & {i for kind, i, *_ in fresh if kind == "pair"}


def test_more_checks_than_pairs(tmp_path):
  study = paper_study(tmp_path, systems=2, items=1, pairs_per_rater=1)
  with store.Answers(study) as answers:
    for _ in range(3):
      kinds = [kind for kind, *_ in answers.progress(answers.join())[0]]
      assert sorted(kinds) == ["check"] * 3 + ["pair"]


def test_the_first_answer_stands(tmp_path):
  study = paper_study(tmp_path)
  with store.Answers(study) as answers:
    token = answers.join()
    assert answers.answer(token, 3, "left", 2.5, 1)
    assert not answers.answer(token, 3, "right", 9.0)
    (row,) = answers.rows()
    plan, answered = answers.progress(token)
    assert answered == [3]
    assert [row[k] for k in ("kind", "item", "left", "right")] == plan[3]
    assert (row["choice"], row["seconds"], row["replays"]) == ("left", 2.5, 1)
  with sqlite3.connect(tmp_path / "answers.sqlite") as db:
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("SELECT seed FROM raters").fetchone() == ("[3, 0]",)


@pytest.mark.parametrize(
  "trial, choice, seconds, replays",
  [
    (99, "left", 1.0, 0),
    (-1, "left", 1.0, 0),
    (True, "left", 1.0, 0),
    ("1", "left", 1.0, 0),
    (1, "up", 1.0, 0),
    (1, ["left"], 1.0, 0),
    (1, "tie", 1.0, 0),
    (1, "left", -1.0, 0),
    (1, "left", float("nan"), 0),
    (1, "left", 10**400, 0),
    (1, "left", None, 0),
    (1, "left", 1.0, -1),
    (1, "left", 1.0, 0.5),
  ],
)
def test_answers_that_no_page_sends(trial, choice, seconds, replays, tmp_path):
  study = paper_study(tmp_path, ties=False)
  with store.Answers(study) as answers:
    token = answers.join()
    with pytest.raises(store.StudyError):
      answers.answer(token, trial, choice, seconds, replays)
    with pytest.raises(store.UnknownRater):
      answers.answer("somebody", 1, "left", 1.0)
    assert answers.rows() == []


def test_answers_belong_to_one_study(study, capsys):
  with store.Answers(study) as answers:
    answers.answer(answers.join(), 0, "left", 1.0)
  path = study.folder / "study.json"
  path.write_text(path.read_text().replace("more real", "less real"))
  for action in ("serve", "report"):
    assert cli.main(["study", action, str(study.folder)]) == 1
    assert "holds answers to another study" in capsys.readouterr().err


@pytest.mark.parametrize(
  "spoil, words",
  [
    (lambda p: p.write_bytes(b"no data base" * 99), "cannot be used"),
    (
      lambda p: sqlite3.connect(p).execute("PRAGMA user_version = 7"),
      "is of format 7",
    ),
  ],
)
def test_answers_that_cannot_be_read(spoil, words, study, capsys):
  spoil(study.folder / "answers.sqlite")
  for action in ("serve", "report"):
    assert cli.main(["study", action, str(study.folder)]) == 1
    assert words in capsys.readouterr().err


@contextlib.contextmanager
def locked(folder):
  """A copy of a folder as nobody may write to it, not even root."""
  with tempfile.TemporaryDirectory() as root:
    os.chmod(root, 0o755)
    copy = pathlib.Path(root, "study")
    shutil.copytree(folder, copy)
    for path in [copy, *copy.rglob("*")]:
      path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if not user:
      os.seteuid(65534)
    try:
      yield copy
    finally:
      os.seteuid(user)
      for path in [copy, *copy.rglob("*")]:
        path.chmod(0o755)


def test_a_study_that_cannot_be_written_to(study, tmp_path, capsys):
  """From a disk, or of a colleague: it can be read, and nothing else."""
  with locked(study.folder) as folder:
    assert cli.main(["study", "serve", str(folder), "--port=0"]) == 1
  error = capsys.readouterr().err
  assert "cannot be used" in error and "can be written to" in error
  with store.Answers(study) as answers:
    token = answers.join()
    for trial in range(2):
      answers.answer(token, trial, "left", 1.0)
  with locked(study.folder) as folder:
    before = sorted(os.listdir(folder))
    assert cli.main(["study", "report", str(folder)]) == 1
    out, error = capsys.readouterr()
    assert "ours" in out and "report.html cannot be written" in error
    assert "--html FILE" in error
    assert summary_lib.summarize(store.load(folder))["raters"]["begun"] == 1
    assert sorted(os.listdir(folder)) == before
  summary_lib.summarize(study)
  assert sorted(os.listdir(study.folder)) == before


def test_answers_that_are_still_in_the_log(study):
  """Where SQLite cannot read them they are not passed over."""
  with store.Answers(study) as answers:
    answers.answer(answers.join(), 0, "left", 1.0)
    assert summary_lib.summarize(study)["raters"]["begun"] == 1
    with locked(study.folder) as folder:
      assert summary_lib.summarize(store.load(folder))["raters"]["begun"] == 1
    (study.folder / "answers.sqlite-shm").rename(study.folder / "shm")
    with locked(study.folder) as folder:
      with pytest.raises(store.StudyError, match="cannot be used"):
        summary_lib.summarize(store.load(folder))


# ------------------------------------------------------------------ server


@contextlib.contextmanager
def serving(study, port=0):
  with browser.running(serve.Server(study, "127.0.0.1", port)) as server:
    yield server


def test_a_rater_by_hand(study):
  with serving(study) as server:
    client = browser.Client(server.server_port)
    status, headers, page = client.ask("GET", "/")
    assert status == 200 and page.startswith(b"<!doctype html>")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    # Nothing comes from elsewhere.
    assert not re.search(rb"https?://|src=|@import|url\(", page)
    asked = json.loads(client.ask("GET", "/api/study")[2])
    assert asked["question"] == "Which clip looks more real?"
    assert (asked["trials"], asked["ties"]) == (6, True)
    status, rater = client.post("/api/join")
    token = rater["token"]
    assert status == 200 and rater["answered"] == []
    assert "ours" not in json.dumps([asked, rater])  # Raters are blind.
    for pair in rater["trials"]:
      for name in pair:
        status, headers, data = client.ask("GET", f"/clips/{name}")
        assert (status, headers["Content-Type"]) == (200, "video/mp4")
        assert data == (study.folder / "clips" / name).read_bytes()
    answer = dict(token=token, trial=0, choice="left", seconds=1.5, replays=0)
    assert client.post("/api/answer", **answer) == (
      200,
      {"stored": True, "answered": [0]},
    )
    assert client.post("/api/answer", **answer | {"choice": "right"}) == (
      200,
      {"stored": False, "answered": [0]},
    )
    assert client.post("/api/join", token=token)[1] == rater | {"answered": [0]}
  with serving(study) as server:  # Another process: all is as it was.
    client = browser.Client(server.server_port)
    assert client.post("/api/join", token=token)[1] == rater | {"answered": [0]}


def test_only_what_is_meant_to_be_seen(study):
  with serving(study) as server:
    client = browser.Client(server.server_port)
    client.post("/api/join")  # There is a file of answers now.
    name = next(iter(study.clips))
    for path in (
      "/study.json", "/answers.sqlite", "/clips/", "/clips", "/page.html",
      "/clips/../study.json", "/clips/../answers.sqlite", "/../study.json",
      "/clips/%2e%2e/study.json", "/clips/..%2fstudy.json", "/clips/./" + name,
      "/clips//etc/passwd", "/clips/..\\study.json", f"/clips/x/../{name}",
      f"/clips/{name}%00", "/api/join", "/api/answer",
    ):  # fmt: skip
      status, _, data = client.ask("GET", path)
      assert status == 404 and len(data) < 99, path
    assert client.ask("HEAD", f"/clips/{name}")[::2] == (200, b"")
    assert client.ask("PUT", "/api/join", b"")[0] == 501


def test_a_foreign_name_is_refused(study):
  """Of a page that rebinds its own name to this machine (DNS rebinding)."""
  with serving(study) as server:
    port = server.server_port
    for host in (f"127.0.0.1:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
      assert browser.Client(port).ask("GET", "/", Host=host)[0] == 200, host
    for host in (
      "evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "",
      "10.0.0.1", "localhost.evil.example", "[", "evil@x", "localhost, evil",
    ):  # fmt: skip
      assert browser.Client(port).ask("GET", "/", Host=host)[0] == 421, host
      assert (
        browser.Client(port).ask("POST", "/api/join", {}, Host=host)[0] == 421
      )
    assert server.answers.raters() == 0
  with serve.Server(study, "0.0.0.0", 0) as server:  # The network is let in.
    name = socket.gethostname()
    for host in ("10.0.0.1:80", name, f"{name}.local", "localhost"):
      assert server.known_as(host), host
    assert not server.known_as("evil.example")


def test_a_clip_that_is_gone_is_a_404(study, capsys):
  name = next(iter(study.clips))
  (study.folder / "clips" / name).unlink()
  with serving(study) as server:
    status, _, data = browser.Client(server.server_port).ask(
      "GET", f"/clips/{name}"
    )
  assert (status, json.loads(data)) == (404, {"error": "This clip is missing."})
  error = capsys.readouterr().err
  assert name in error and error.count("\n") == 1


@pytest.mark.parametrize(
  "path, body, kind, status",
  [
    ("/api/join", "{", "application/json", 400),
    ("/api/join", "[]", "application/json", 400),
    ("/api/join", "[" * 4000, "application/json", 400),
    ("/api/join", "{}", "text/plain", 400),  # What a foreign form can send.
    ("/api/join", "{" + " " * 5000 + "}", "application/json", 413),
    ("/api/join", '{"token": "x"}', "application/json", 404),
    ("/api/join", '{"token": "\\ud800"}', "application/json", 400),
    ("/api/join", '{"token": null}', "application/json", 404),
    ("/api/nothing", "{}", "application/json", 404),
    ("/api/answer", "{}", "application/json", 400),
    ("/api/answer", '{"choice": {}}', "application/json", 400),
  ],
)
def test_bad_requests(path, body, kind, status, study):
  with serving(study) as server:
    assert (
      browser.Client(server.server_port).ask("POST", path, body, kind)[0]
      == status
    )
    assert server.answers.raters() == 0


def test_many_at_once_and_everything_twice(study):
  with serving(study) as server:
    tokens, stored = [], []

    def rater():
      client = browser.Client(server.server_port)
      token = client.post("/api/join")[1]["token"]
      tokens.append(token)
      for trial in range(6):
        answer = dict(token=token, trial=trial, seconds=1, replays=0)
        twins = [
          threading.Thread(
            target=lambda c=choice, a=answer: stored.append(
              browser.Client(server.server_port).post(
                "/api/answer", **a, choice=c
              )[1]["stored"]
            )
          )
          for choice in ("left", "right")
        ]
        for twin in twins:
          twin.start()
        for twin in twins:
          twin.join()

    raters = [threading.Thread(target=rater) for _ in range(6)]
    for thread in raters:
      thread.start()
    for thread in raters:
      thread.join()
    assert len(set(tokens)) == 6
    assert sorted(stored) == [False] * 36 + [True] * 36
    rows = server.answers.rows()
    assert len({(row["rater"], row["trial"]) for row in rows}) == 36


def test_a_port_in_use(study, capsys):
  with socket.create_server(("127.0.0.1", 0)) as busy:
    port = busy.getsockname()[1]
    argv = ["study", "serve", str(study.folder), f"--port={port}"]
    assert cli.main(argv) == 1
  assert f"port {port} of 127.0.0.1 is in use" in capsys.readouterr().err
  assert cli.main(["study", "serve", str(study.folder), "--port=99999"]) == 1
  assert "ports are 0 to 65535" in capsys.readouterr().err
  argv = ["study", "serve", str(study.folder), "--host=192.0.2.1"]
  assert cli.main(argv) == 1  # An address that no machine has.
  assert "cannot listen on 192.0.2.1" in capsys.readouterr().err


@contextlib.contextmanager
def process(folder):
  """`vidgan study serve` as people run it: (process, port)."""
  argv = [sys.executable, "-m", "vidgan_jax", "study", "serve", str(folder)]
  running = subprocess.Popen(
    [*argv, "--port=0"],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  try:
    line = running.stdout.readline()
    yield running, int(re.search(r"http://127.0.0.1:(\d+)/", line)[1])
  finally:
    running.kill()
    running.wait()
    running.stdout.close()


def test_what_was_acknowledged_survives_kill_9(study):
  acknowledged = []

  def rate(port):
    client = browser.Client(port)
    with contextlib.suppress(OSError, http.client.HTTPException):
      while True:
        token = client.post("/api/join")[1]["token"]
        for trial in range(6):
          answer = dict(token=token, trial=trial, seconds=1, replays=0)
          reply = client.post("/api/answer", choice="left", **answer)
          assert reply[0] == 200
          acknowledged.append((token, trial))

  with process(study.folder) as (running, port):
    raters = [threading.Thread(target=rate, args=(port,)) for _ in range(3)]
    for thread in raters:
      thread.start()
    deadline = time.monotonic() + 60
    while len(acknowledged) < 40 and time.monotonic() < deadline:
      time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    for thread in raters:
      thread.join()
  assert len(acknowledged) >= 40
  db = sqlite3.connect(study.folder / "answers.sqlite")
  assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
  found = set(
    db.execute("SELECT token, trial FROM answers JOIN raters USING (rater)")
  )
  db.close()
  assert set(acknowledged) <= found
  assert len(found) <= len(acknowledged) + 3  # Those on their way.
  with process(study.folder) as (running, port):
    token, trial = acknowledged[-1]
    status, rater = browser.Client(port).post("/api/join", token=token)
    assert status == 200 and trial in rater["answered"]
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0
    assert "every answer is stored" in running.stdout.read()


# ------------------------------------------------------------------ report


def simulate(study, raters, truth, seed=0, tie=0.0, blind=()):
  """Raters who follow the model; those in `blind` always choose the left."""
  rng = np.random.default_rng(seed)
  with store.Answers(study) as answers:
    for number in range(raters):
      token = answers.join()
      for trial, (kind, _, left, right) in enumerate(
        answers.progress(token)[0]
      ):
        if number in blind:
          choice = "left"
        elif kind == "check":
          choice = "left" if right.startswith("ruin") else "right"
        elif rng.random() < tie:
          choice = "tie"
        else:
          odds = np.subtract(
            *(truth[study.clips[c]["system"]] for c in (left, right))
          )
          choice = "left" if rng.random() < 1 / (1 + np.exp(-odds)) else "right"
        answers.answer(token, trial, choice, float(rng.uniform(1, 5)))


def test_raters_of_known_taste_are_recovered(tmp_path):
  truth = np.array([0.3, 1.1, -0.9, -0.5])
  study = paper_study(tmp_path, systems=4, items=15, pairs_per_rater=30)
  simulate(study, 28, truth, blind={4, 17})
  summary = summary_lib.summarize(study)
  assert summary["raters"] == {
    "begun": 28, "counted": 26, "finished": 28, "failed_checks": 2,
    "without_a_check": 0,
  }  # fmt: skip
  assert summary["votes"] == 26 * 30
  assert [row["name"] for row in summary["ranking"]] == ["q", "p", "s", "r"]
  for row in summary["ranking"]:
    true = truth["pqrs".index(row["name"])]
    low, high = row["interval"]
    assert 0.2 < high - low < 0.6
    # 3 standard errors; the interval is 1.96 to each side.
    assert abs(row["strength"] - true) < (high - low) / 2 * 3 / 1.96
  inside = []
  for row in summary["matchups"]:
    assert row["a_wins"] + row["ties"] + row["b_wins"] == row["votes"]
    assert abs(row["votes"] - 130) < 20
    a, b = (truth["pqrs".index(row[k])] for k in "ab")
    low, high = row["interval"]
    inside.append(low < 1 / (1 + np.exp(b - a)) < high)
  assert sum(inside) >= 5
  assert summary["warnings"] == []
  # Left and right are fair, since sides are: 0.5 is inside.
  low, high = summary["left"]["interval"]
  assert low < 0.5 < high
  # Counting the blind moves everything towards chance.
  careless = summary_lib.summarize(dataclasses.replace(study, failures=3))
  assert careless["raters"]["counted"] == 28
  assert careless["ranking"][0]["strength"] < summary["ranking"][0]["strength"]


def test_ties_count_half_and_are_shown(tmp_path):
  study = paper_study(tmp_path, systems=2, items=10, pairs_per_rater=10)
  simulate(study, 12, [0.8, -0.8], tie=0.4)
  summary = summary_lib.summarize(study)
  (row,) = summary["matchups"]
  assert row["votes"] == 120 and row["ties"] == summary["ties"] > 30
  score = row["a_wins"] + row["ties"] / 2
  assert row["rate"] == score / 120
  assert row["interval"] == list(intervals.wilson(score, 120))
  # Every pair was seen by all twelve.
  assert summary["agreement"]["pairs_seen_twice"] == 10
  with store.Answers(study) as answers:
    rows = [r for r in answers.rows() if r["kind"] == "pair"]
  units = {}
  for r in rows:
    winner = None if r["choice"] == "tie" else r[r["choice"]][0]
    units.setdefault(r["item"], []).append({"0": 1, "1": 0, None: 0.5}[winner])
  alike = [
    a == b for u in units.values() for a, b in itertools.combinations(u, 2)
  ]
  assert summary["agreement"]["same_answer"] == pytest.approx(np.mean(alike))
  assert summary["agreement"]["krippendorff_alpha"] == pytest.approx(
    votes.krippendorff(list(units.values()))
  )


def test_what_must_be_known_before_quoting(tmp_path):
  study = paper_study(tmp_path, systems=3, items=4, pairs_per_rater=4)
  with store.Answers(study) as answers:
    token = answers.join()
    plan = answers.progress(token)[0]
    first = next(i for i, t in enumerate(plan) if t[0] == "pair")
    answers.answer(token, first, "left", 1.0)
  summary = summary_lib.summarize(study)
  assert summary["raters"]["without_a_check"] == 1
  assert summary["votes"] == 0 and summary["ranking"] is None
  assert summary["matchups"][0]["rate"] is None
  simulate(study, 2, [50, 0, -50])
  summary = summary_lib.summarize(study)
  assert "never lost" in summary["no_ranking"]
  text = " ".join(summary["warnings"])
  assert (
    "fewer than 30 votes" in text
    and "p and q " in text
    and "2 raters are counted" in text
  )
  for words in (preferences.text(summary), preferences.html(summary)):
    assert "not computed" in words and "never lost" in words


def test_same_clip_checks_want_a_tie(tmp_path):
  study = paper_study(
    tmp_path, systems=2, items=4, pairs_per_rater=4, check="same",
    checks=[["0-0", "0-0"]],
  )  # fmt: skip
  with store.Answers(study) as answers:
    for choice in ("tie", "left", "tie"):
      token = answers.join()
      for trial, (kind, *_) in enumerate(answers.progress(token)[0]):
        answers.answer(token, trial, choice if kind == "check" else "left", 1.0)
  raters = summary_lib.summarize(study)["raters"]
  assert (raters["counted"], raters["failed_checks"]) == (2, 1)


def test_the_verb_reports(study, capsys, tmp_path):
  argv = ["study", "report", str(study.folder)]
  assert cli.main(argv) == 1
  assert "has no answers yet" in capsys.readouterr().err
  assert not (study.folder / "answers.sqlite").exists()
  with store.Answers(study) as answers:
    for number in range(9):
      token = answers.join()
      for trial, (kind, item, left, _) in enumerate(answers.progress(token)[0]):
        good = (study.checks if kind == "check" else study.pairs)[item][0]
        better = ("left", "right")[left != good]
        # The last two prefer theirs.
        other = {"left": "right", "right": "left"}[better]
        choice = other if kind == "pair" and number > 6 else better
        answers.answer(token, trial, choice, 2.0)
  assert cli.main(argv) == 0
  text = capsys.readouterr().out
  assert "ours   over theirs  77.8% [" in text and "28 won, 0 ties, 8" in text
  assert "1. ours    +0.63 [" in text  # log(28/8) / 2
  assert cli.main([*argv, "--json", f"--html={tmp_path / 'r.html'}"]) == 0
  summary = json.loads(capsys.readouterr().out)
  assert summary["matchups"][0]["a_wins"] == 28
  assert summary["protocol"]["video"]["frames"] == 12
  assert (tmp_path / "r.html").read_text() == preferences.html(summary)
  assert (study.folder / "report.html").exists()


def test_the_report_page_is_whole_and_safe(tmp_path):
  study = paper_study(
    tmp_path,
    question="<script>alert(1)</script>?",
    systems=3,
  )
  study = dataclasses.replace(study, systems=("<b>x", "a&b", "z"))
  simulate(study, 8, [0.5, 0, -0.5])
  page = preferences.html(summary_lib.summarize(study))
  assert "<script" not in page and "<b>" not in page
  assert "&lt;b&gt;x over a&amp;b" in page
  assert not re.search(r"https?://|src=|@import", page)
  assert page.count('class="dot"') == 6  # Three matchups, three strengths.
  for left, width in re.findall(r"left:([\d.]+)%;width:([\d.]+)%", page):
    assert 0 <= float(left) <= float(left) + float(width) <= 100.01


# ----------------------------------------------------------------- browser


LEFT, RIGHT, SPACE = "\ue012", "\ue014", " "
READY = "!document.querySelector('[data-choice=left]').disabled"


def count(number):
  return f"document.getElementById('count').textContent === '{number} of 6'"


def shown(part):
  return f"!document.getElementById('{part}').hidden"


def test_a_study_in_a_browser(study, chromium):
  with serving(study) as server:
    chromium.open(server.url)
    chromium.wait(shown("intro"))
    assert server.answers.raters() == 0  # Nothing before consent.
    assert "random number in place of a name" in chromium.js(
      "return document.getElementById('consent').innerText"
    )
    chromium.js("document.getElementById('begin').click()")
    chromium.wait(shown("trial") + " && " + READY)
    assert server.answers.raters() == 1

    # Both play, in step, round and round. A starved machine shows few frames
    # and late: it gets more than one try.
    for _ in range(6):
      track = chromium.track(3.2)
      apart = np.abs(track[:, 0] - track[:, 1])
      if np.median(apart) < 0.02 and np.quantile(apart, 0.95) < 1 / 12:
        break
    else:
      raise AssertionError(f"not in step: {np.round(apart, 3).tolist()}")
    for times in track.T:
      assert times.max() > 0.7
      assert (np.diff(times) < -0.4).sum() >= 2  # A clip lasts a second.
    # Pushed out of step, they find back.
    chromium.js("document.querySelector('video').currentTime += 0.4")
    chromium.wait(
      "Math.abs(document.querySelectorAll('video')[0].currentTime"
      " - document.querySelectorAll('video')[1].currentTime) < 0.03"
    )

    # Each key does what it says, once, whoever hammers on it.
    keys = [LEFT, RIGHT, SPACE, LEFT, SPACE, RIGHT]
    for number, key in enumerate(keys, 1):
      chromium.wait(f"{count(number)} && {READY}")
      time.sleep(0.35)  # Faster is no answer.
      if number == 2:
        chromium.press("r")
      if number == 4:
        chromium.open(server.url)  # Closed and opened again: it goes on.
        chromium.wait(f"{shown('trial')} && {count(4)} && {READY}")
        time.sleep(0.35)
      chromium.press(key, key, key)
    chromium.wait(shown("end"))
    rows = server.answers.rows()
    names = {LEFT: "left", RIGHT: "right", SPACE: "tie"}
    assert [row["choice"] for row in rows] == [names[key] for key in keys]
    assert [row["replays"] for row in rows] == [0, 1, 0, 0, 0, 0]
    assert all(0.3 <= row["seconds"] < 60 for row in rows)
    assert rows[0]["seconds"] > 3.2
    chromium.open(server.url)  # It stays done.
    chromium.wait(shown("end"))
    origins = chromium.js(
      "return [...new Set(performance.getEntriesByType('resource')"
      ".map((e) => new URL(e.name).origin))]"
    )
    assert set(origins) <= {server.url[:-1], "null"}
    chromium.js("document.getElementById('another').click()")
    chromium.wait(shown("intro"))
    assert server.answers.raters() == 1


def test_an_answer_waits_for_the_server(study, chromium):
  with serving(study) as server:
    port = server.server_port
    chromium.open(server.url)
    chromium.wait(shown("intro"))
    chromium.js(
      "localStorage.clear(); document.getElementById('begin').click()"
    )
    chromium.wait(f"{count(1)} && {READY}")
    time.sleep(0.35)
  chromium.press(RIGHT)
  chromium.wait(
    "document.getElementById('notice').textContent.includes('Trying again')"
  )
  with serving(study, port) as server:
    chromium.wait(f"{count(2)} && {READY}")
    assert [row["choice"] for row in server.answers.rows()] == ["right"]
    chromium.wait("document.getElementById('notice').textContent === ''")


def test_a_study_on_a_phone(study, chromium, tmp_path):
  chromium.command(
    "Emulation.setDeviceMetricsOverride",
    width=390, height=760, deviceScaleFactor=2, mobile=True,
  )  # fmt: skip
  chromium.command("Emulation.setTouchEmulationEnabled", enabled=True)
  try:
    with serving(study) as server:
      chromium.open(server.url)
      chromium.js("localStorage.clear()")
      chromium.open(server.url)
      chromium.wait(shown("intro"))
      chromium.tap("#begin")
      for number, choice in enumerate(("left", "tie", "right"), 1):
        chromium.wait(f"{count(number)} && {READY}")
        time.sleep(0.35)
        chromium.tap(f"[data-choice={choice}]")
      chromium.wait(f"{count(4)} && {READY}")
      rows = server.answers.rows()
      assert [row["choice"] for row in rows] == ["left", "tie", "right"]
      boxes = chromium.js(
        "return [...document.querySelectorAll('video, #trial button')].map("
        "(e) => { const b = e.getBoundingClientRect();"
        " return [b.left, b.top, b.right, b.bottom] })"
      )
      a, b, *buttons = np.array(boxes)
      assert a[3] <= b[1] and a[0] == b[0]  # One above the other.
      np.testing.assert_allclose(a[2:] - a[:2], b[2:] - b[:2])
      assert a[2] - a[0] > 200
      for box in (a, b, *buttons):  # All is on the screen at once.
        assert 0 <= box[0] and box[2] <= 390 and 0 <= box[1] and box[3] <= 760
      for box in buttons:
        assert box[3] - box[1] >= 44  # A finger's width.
      wide = "return document.documentElement.scrollWidth"
      assert chromium.js(wide) == 390
      chromium.picture(tmp_path / "phone.png")
      assert (tmp_path / "phone.png").stat().st_size > 5000
  finally:
    chromium.command("Emulation.clearDeviceMetricsOverride")
    chromium.command("Emulation.setTouchEmulationEnabled", enabled=False)


def test_the_page_is_for_everybody(study, chromium):
  with serving(study) as server:
    chromium.open(server.url)
    chromium.js("localStorage.clear()")
    chromium.open(server.url)
    chromium.wait(shown("intro"))
    # By keyboard alone: Tab finds the button, Enter presses it.
    chromium.press("\ue004", "\ue007")
    chromium.wait(f"{shown('trial')} && {READY}")
    pairs = chromium.js(browser.TEXTS)
    assert len(pairs) > 8
    for text, front, back in pairs:
      assert browser.contrast(front, back) >= 4.5, text
    # A surround without a tint does not change how colours look.
    ground = chromium.js(
      "return getComputedStyle(document.body).backgroundColor"
    )
    assert len(set(re.findall(r"\d+", ground)[:3])) == 1
    names = chromium.js(
      "return [...document.querySelectorAll('video')].map((v) => v.ariaLabel)"
    )
    assert names == ["Clip A", "Clip B"]
    # Space on a button that was reached with Tab presses that button.
    time.sleep(0.35)
    chromium.js("document.querySelector('[data-choice=right]').focus()")
    chromium.press(SPACE)
    chromium.wait(count(2))
    assert [row["choice"] for row in server.answers.rows()] == ["right"]


def test_a_question_without_ties(study, chromium):
  path = study.folder / "study.json"
  path.write_text(path.read_text().replace('"ties": true', '"ties": false'))
  study = store.load(study.folder)
  with serving(study) as server:
    chromium.open(server.url)
    chromium.wait(shown("intro"))
    chromium.js("document.getElementById('begin').click()")
    chromium.wait(f"{count(1)} && {READY}")
    assert not chromium.js(
      "return document.querySelector('[data-choice=tie]').checkVisibility()"
    )
    time.sleep(0.35)
    chromium.press(SPACE)
    time.sleep(0.3)
    assert server.answers.rows() == []
    chromium.press(LEFT)
    chromium.wait(count(2))
    assert [row["choice"] for row in server.answers.rows()] == ["left"]


# --------------------------------------------------------------- real video


@pytest.mark.skipif(not REAL, reason="VIDGAN_REAL_DATA is not set")
def test_real_collections(tmp_path):
  """Cameras of other sizes, rates and codecs come out alike."""
  root = pathlib.Path(REAL)
  options = make.Options(
    pairs=2, clips=2, checks=1, size=96, square=True, seconds=1.0, fps=10.0
  )
  lines = []
  study = make.make(
    tmp_path / "s",
    {"signs": root / "asl_gestures", "faces": root / "grid_faces_av"},
    options,
    log=lines.append,
  )
  assert study.facts["match"] == "random"
  assert "-> 96x96, 10 frames/s, 1 s" in lines[0]
  looks = {
    dataclasses.replace(read.probe(study.folder / "clips" / name), path="")
    for name in study.clips
  }
  assert len(study.clips) == 5 and len(looks) == 1


def test_the_page_is_in_the_package():
  assert (pathlib.Path(store.__file__).parent / "page.html").is_file()
