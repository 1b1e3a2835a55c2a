"""A study on disk: what is asked (study.json) and answered (answers.sqlite).

A folder with both is all there is of a study. study.json is written once and
its hash is the study's name: answers belong to it alone, so that a study that
was changed half-way does not mix two questions. Raters are random tokens; no
name, address or browser is stored.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import secrets
import sqlite3
import threading
import time
from typing import Any

import numpy as np

from vidgan_jax import errors
from vidgan_jax.store import files

FORMAT = 1
CHOICES = ("left", "right", "tie")

# What a value of another kind than is expected raises.
_WRONG = (KeyError, TypeError, ValueError, AttributeError, IndexError)
_TABLES = """
CREATE TABLE study (id TEXT NOT NULL);
CREATE TABLE raters (
  rater INTEGER PRIMARY KEY,   -- 0, 1, ... in order of arrival
  token TEXT NOT NULL UNIQUE,  -- the only name a rater has
  seed TEXT NOT NULL,          -- of the plan: [seed of the study, rater]
  plan TEXT NOT NULL,          -- JSON: [kind, item, left, right] of each trial
  joined REAL NOT NULL         -- seconds since 1970
);
CREATE TABLE answers (
  rater INTEGER NOT NULL REFERENCES raters,
  trial INTEGER NOT NULL,
  kind TEXT NOT NULL,          -- 'pair' or 'check'
  item INTEGER NOT NULL,       -- number of the pair, or of the check
  left TEXT NOT NULL,          -- the clips, as they were shown
  right TEXT NOT NULL,
  choice TEXT NOT NULL CHECK (choice IN ('left', 'right', 'tie')),
  seconds REAL NOT NULL,       -- from the first picture to the answer
  replays INTEGER NOT NULL,
  answered REAL NOT NULL,      -- seconds since 1970
  PRIMARY KEY (rater, trial)
);
"""


class StudyError(errors.UserError):
  """What cannot be done, in words for who asked for it."""


class UnknownRater(StudyError):
  """The token belongs to nobody."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
  """What is asked.

  Attributes:
    folder: of the study.
    id: hash of study.json.
    question: shown above every pair.
    ties: may a rater see no difference?
    pairs_per_rater: how many pairs a rater sees, beside the checks.
    check: 'degraded' or 'same', see `make.Options`.
    failures: raters who fail more checks than this are left out.
    seed: of every random draw.
    systems: their names.
    video: height, width, fps, frames and seconds of all clips.
    clips: file in clips/ -> its system (an index), the name it had, its bytes.
    pairs: the two clips of each pair, of different systems.
    checks: the two clips of each check, the better one first.
    facts: how the clips were made; for the report.
  """

  folder: pathlib.Path
  id: str
  question: str
  ties: bool
  pairs_per_rater: int
  check: str
  failures: int
  seed: int
  systems: tuple[str, ...]
  video: Mapping[str, float]
  clips: Mapping[str, Mapping[str, Any]]
  pairs: Sequence[Sequence[str]]
  checks: Sequence[Sequence[str]]
  facts: Mapping[str, Any]


def load(folder: str | os.PathLike[str]) -> Study:
  """Reads a study that `make` wrote.

  Raises:
    StudyError: there is none, it is damaged, or of another version.
  """
  folder = pathlib.Path(folder)
  path = folder / "study.json"
  try:
    data = path.read_bytes()
  except (FileNotFoundError, NotADirectoryError):
    raise StudyError(
      f"{folder} holds no study (there is no {path}): `vidgan study make "
      f"{folder} --a NAME=FOLDER --b NAME=FOLDER` makes one."
    ) from None
  try:
    fields = json.loads(data)
    version, maker = fields.pop("format"), fields.pop("made_by")
  except (*_WRONG, RecursionError):
    raise StudyError(
      f"{path} is damaged or no study: bring it back from a copy; answers "
      "without it cannot be read."
    ) from None
  if version != FORMAT:
    raise StudyError(
      f"{path} is of format {version}, made by vidgan {maker}; this version "
      f"reads format {FORMAT}: use that version, or make the study anew."
    )
  try:
    fields["systems"] = tuple(fields["systems"])
    identity = hashlib.sha256(data).hexdigest()[:16]
    study = Study(folder=folder, id=identity, **fields)
    _check(study)
  except _WRONG:
    raise StudyError(
      f"{path} lacks fields of format {FORMAT}, or has others: bring it back "
      "from a copy."
    ) from None
  for name, clip in study.clips.items():
    path = folder / "clips" / name
    whole = path.is_file() and path.stat().st_size == clip["bytes"]
    wanted = clip.get("sha256")  # Which studies of earlier versions have not.
    if not whole or (wanted and files.digest(path) != wanted):
      raise StudyError(
        f"{path} is missing or not as it was made: copy the whole folder of "
        "the study again, or make the study anew."
      )
  return study


def _check(study: Study) -> None:
  """Raises an error where the fields of a study do not fit each other."""
  numbers = [study.pairs_per_rater, study.failures, study.seed]
  for name, clip in study.clips.items():
    if "/" in name or pathlib.PurePath(name).name != name:
      raise ValueError(f"{name} is a way to other files of this machine")
    numbers += clip["bytes"], clip["system"]
    _ = study.systems[clip["system"]]
  for one, other in (*study.pairs, *study.checks):
    _ = study.clips[one], study.clips[other]
  texts = study.question, *study.systems
  whole = all(type(x) is int and x >= 0 for x in numbers)
  if not (whole and study.pairs and all(isinstance(x, str) for x in texts)):
    raise ValueError("a field is of another kind")
  _ = bool(study.ties), dict(study.facts), dict(study.video)["fps"] + 0


class Answers:
  """The answers to a study; threads and processes may share the file.

  SQLite in WAL mode, flushed to disk at every answer: what was acknowledged
  survives the death of the process and of the machine.
  """

  def __init__(self, study: Study, *, read_only: bool = False):
    """Opens answers.sqlite, or makes it.

    Args:
      study: whose answers.
      read_only: the file is there and stays as it is.

    Raises:
      StudyError: the file is damaged, of another study or version, or its
        folder cannot be written to.
    """
    self.study = study
    self.path = study.folder / "answers.sqlite"
    self._lock = threading.Lock()
    self._db = None
    try:
      if read_only:
        self._db = self._read_only()
        self._check()
      else:
        self._db = self._connect(self.path)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        with self._transaction():
          self._prepare()
    except (sqlite3.DatabaseError, UnicodeError) as error:
      self.close()
      raise StudyError(
        f"{self.path} cannot be used ({errors.brief(error)}): answers need a "
        "folder that can be written to; if the file is damaged, bring it back "
        "from a copy, or move it away to begin without answers."
      ) from None
    except StudyError:
      self.close()
      raise

  def _connect(self, path: str | pathlib.Path) -> sqlite3.Connection:
    return sqlite3.connect(
      path,
      timeout=30,
      isolation_level=None,
      check_same_thread=False,
      uri=isinstance(path, str),
    )

  def _read_only(self) -> sqlite3.Connection:
    """Opens the file and leaves the folder as it is.

    SQLite reads a file in WAL mode only beside files of its own. Where it
    cannot make them, the file alone holds every answer unless some are still
    in the log.
    """
    address = f"{self.path.absolute().as_uri()}?mode=rw"  # It tidies up.
    db = self._connect(address)
    try:
      db.execute("PRAGMA query_only = ON")
      db.execute("SELECT count(*) FROM sqlite_master")
      return db
    except sqlite3.OperationalError:
      db.close()
      log = self.path.with_name(f"{self.path.name}-wal")
      if log.exists() and log.stat().st_size:
        raise
      return self._connect(f"{address}&immutable=1")

  def _prepare(self) -> None:
    """Makes the tables of a new file; checks whose an old file is."""
    (version,) = self._db.execute("PRAGMA user_version").fetchone()
    (tables,) = self._db.execute(
      "SELECT count(*) FROM sqlite_master"
    ).fetchone()
    if not version and not tables:
      for statement in _TABLES.split(";\n"):
        self._db.execute(statement)
      self._db.execute("INSERT INTO study VALUES (?)", (self.study.id,))
      self._db.execute(f"PRAGMA user_version = {FORMAT}")
    self._check()

  def _check(self) -> None:
    """Refuses answers of another version or study."""
    (version,) = self._db.execute("PRAGMA user_version").fetchone()
    if version != FORMAT:
      raise StudyError(
        f"{self.path} is of format {version}, this version of vidgan writes "
        f"format {FORMAT}: use the version that began the study."
      )
    (owner,) = self._db.execute("SELECT id FROM study").fetchone()
    if owner != self.study.id:
      raise StudyError(
        f"{self.path} holds answers to another study: study.json was changed "
        "or replaced after the first answer. Put the old one back, or move "
        "the answers away."
      )

  def __enter__(self) -> "Answers":
    return self

  def __exit__(self, *exc) -> None:
    self.close()

  def close(self) -> None:
    """Closes the file."""
    if self._db is not None:
      self._db.close()

  @contextlib.contextmanager
  def _transaction(self):
    """Everything in the block, or nothing; one writer at a time."""
    with self._lock:
      self._db.execute("BEGIN IMMEDIATE")
      try:
        yield
      except BaseException:
        self._db.execute("ROLLBACK")
        raise
      self._db.execute("COMMIT")

  def join(self) -> str:
    """Welcomes a new rater and returns the rater's token.

    The rater gets the pairs that have the fewest answers, in random order, on
    random sides (each system as often left as right, or once more), and one
    check in each stretch of the way. Everything random depends on the seed of
    the study and the rater's number.
    """
    study = self.study
    token = secrets.token_urlsafe(16)
    with self._transaction():
      (rater,) = self._db.execute("SELECT count(*) FROM raters").fetchone()
      seed = [study.seed, rater]
      plan = self._plan(np.random.default_rng(seed))
      self._db.execute(
        "INSERT INTO raters VALUES (?, ?, ?, ?, ?)",
        (rater, token, json.dumps(seed), json.dumps(plan), time.time()),
      )
    return token

  def _plan(self, rng: np.random.Generator) -> list[list[Any]]:
    """The trials of a new rater: [kind, item, left, right]."""
    study = self.study
    answered = np.zeros(len(study.pairs), int)
    planned = np.zeros(len(study.pairs), int)
    for item, count in self._db.execute(
      "SELECT item, count(*) FROM answers WHERE kind = 'pair' GROUP BY item"
    ):
      answered[item] = count
    for (plan,) in self._db.execute("SELECT plan FROM raters"):
      planned[
        [item for kind, item, *_ in json.loads(plan) if kind == "pair"]
      ] += 1
    # Few answers first; among those, what nobody has before them now.
    order = np.lexsort((rng.random(len(planned)), planned, answered))
    chosen = rng.permutation(order[: study.pairs_per_rater])
    trials = _shown("pair", chosen, study.pairs, rng)
    checks = _shown("check", np.arange(len(study.checks)), study.checks, rng)
    edges = np.linspace(0, len(trials), len(checks) + 1).astype(int)
    for i in reversed(range(len(checks))):
      where = rng.integers(edges[i], max(edges[i] + 1, edges[i + 1]))
      trials.insert(int(where), checks[i])
    return trials

  def progress(self, token: str) -> tuple[list[list[Any]], list[int]]:
    """What a rater is to see, and what of it is answered.

    Returns:
      (trials, numbers of those that have an answer); a trial is
      [kind, item, left, right].

    Raises:
      UnknownRater: nobody has this token.
    """
    with self._lock:
      rater, plan = self._rater(token)
      rows = self._db.execute(
        "SELECT trial FROM answers WHERE rater = ? ORDER BY trial", (rater,)
      )
      return plan, [trial for (trial,) in rows]

  def _rater(self, token: str) -> tuple[int, list[list[Any]]]:
    row = self._db.execute(
      "SELECT rater, plan FROM raters WHERE token = ?", (token,)
    ).fetchone()
    if row is None:
      raise UnknownRater("Nobody has this token: begin anew.")
    return row[0], json.loads(row[1])

  def answer(
    self, token: str, trial: int, choice: str, seconds: float, replays: int = 0
  ) -> bool:
    """Stores an answer; the first to a trial stands, later ones are ignored.

    Args:
      token: of the rater.
      trial: its number in the rater's plan.
      choice: 'left', 'right' or, if the study allows it, 'tie'.
      seconds: from the first picture to the answer.
      replays: how often the rater asked to see the pair again.

    Returns:
      Whether it was stored, rather than there already.

    Raises:
      UnknownRater: nobody has this token.
      StudyError: an answer that the page cannot have sent.
    """
    whole = lambda x: isinstance(x, int) and not isinstance(x, bool)
    if choice not in CHOICES or (choice == "tie" and not self.study.ties):
      raise StudyError(f"{choice!r} is not an answer to this question.")
    if (
      isinstance(seconds, bool)
      or not isinstance(seconds, (int, float))
      or not 0 <= seconds < 1e7
      or not whole(replays)
      or not 0 <= replays < 1e6
    ):
      raise StudyError("The time or the number of replays is impossible.")
    with self._transaction():
      rater, plan = self._rater(token)
      if not whole(trial) or not 0 <= trial < len(plan):
        raise StudyError(f"There is no trial {trial!r}.")
      cursor = self._db.execute(
        "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (rater, trial, *plan[trial], choice, seconds, replays, time.time()),
      )
      return cursor.rowcount == 1

  def raters(self) -> int:
    """How many have begun."""
    with self._lock:
      return self._db.execute("SELECT count(*) FROM raters").fetchone()[0]

  def rows(self) -> list[dict[str, Any]]:
    """All answers, in order of rater and trial, by the names of columns."""
    with self._lock:
      cursor = self._db.execute("SELECT * FROM answers ORDER BY rater, trial")
      names = [column[0] for column in cursor.description]
      return [dict(zip(names, row)) for row in cursor]


def collected(answers: Answers) -> tuple[list[dict[str, Any]], int]:
  """All answers and how many raters have begun, of a file that is checked.

  Raises:
    StudyError: it is damaged, or has answers to what was not asked.
  """
  study = answers.study
  pairs = {"pair": study.pairs, "check": study.checks}
  try:
    rows, raters = answers.rows(), answers.raters()
    for row in rows:
      if {row["left"], row["right"]} != {*pairs[row["kind"]][row["item"]]}:
        raise ValueError("it has an answer to what was not asked")
      _ = row["seconds"] + row["answered"] + row["rater"]
  except (sqlite3.DatabaseError, *_WRONG) as error:
    raise StudyError(
      f"{answers.path} is damaged ({errors.brief(error)}): bring it back from "
      "a copy."
    ) from None
  return rows, raters


def _shown(kind, items, pairs, rng) -> list[list[Any]]:
  """Puts pairs on sides: each order as often as the other, or once more."""
  swap = rng.permutation((np.arange(len(items)) + rng.integers(2)) % 2)
  return [
    [kind, int(i), *(pairs[i][::-1] if s else pairs[i])]
    for i, s in zip(items, swap)
  ]
