"""The local web page of a study.

  GET  /            the page
  GET  /api/study   what is asked
  POST /api/join    {} or {"token"} -> {"token", "trials", "answered"}
  POST /api/answer  {"token", "trial", "choice", "seconds", "replays"}
  GET  /clips/NAME  a clip of the study, and no other file

Clips have random names, and a check looks like any other trial: the page does
not know which system it shows.
"""

from collections.abc import Callable
import http
import pathlib
import sqlite3
import sys
from typing import Any

from vidgan_jax import errors
from vidgan_jax.study import store
from vidgan_jax.web import server as server_lib

_PAGE = pathlib.Path(__file__).with_name("page.html")


class Server(server_lib.Server):
  """Serves one study; use as a context manager."""

  def __init__(self, study: store.Study, host: str, port: int):
    """Opens the answers and binds the port; port 0 takes any.

    Raises:
      UserError: the answers cannot be used, or the port is not to be had.
    """
    self.study = study
    self.answers = store.Answers(study)
    try:
      super().__init__(_PAGE, _Handler, host, port)
    except errors.UserError:
      self.answers.close()
      raise

  def server_close(self) -> None:
    """Hangs up on everybody and closes the answers."""
    super().server_close()
    self.answers.close()


class _Handler(server_lib.Handler):
  server: Server

  def look(self, path: str) -> None:
    study = self.server.study
    if path == "/api/study":
      self.json(
        {
          "id": study.id,
          "question": study.question,
          "ties": study.ties,
          "trials": study.pairs_per_rater + len(study.checks),
          "video": dict(study.video),
        }
      )
    # A look-up, not a path: nothing outside clips/ has a name here.
    elif path.startswith("/clips/") and path[7:] in study.clips:
      try:
        data = (study.folder / path[1:]).read_bytes()
      except OSError as error:
        print(f"vidgan study: a clip is not there: {error}", file=sys.stderr)
        self.error(http.HTTPStatus.NOT_FOUND, "This clip is missing.")
        return
      self.send(data, "video/mp4", cache="max-age=86400, immutable")
    else:
      super().look(path)

  def actions(self) -> dict[str, Callable]:
    return {"/api/join": self._join, "/api/answer": self._answer}

  def act(self, action: Callable, fields: dict[str, Any]) -> None:
    try:
      self.json(action(fields))
    except store.UnknownRater as error:
      self.error(http.HTTPStatus.NOT_FOUND, str(error))
    except (store.StudyError, UnicodeError) as error:
      self.error(http.HTTPStatus.BAD_REQUEST, str(error))
    except sqlite3.Error as error:  # A full disk; or the server is closing.
      print(f"vidgan study: an answer was not stored: {error}", file=sys.stderr)
      self.close_connection = True
      self.error(http.HTTPStatus.SERVICE_UNAVAILABLE, "Not stored.")

  def _join(self, fields: dict[str, Any]) -> dict[str, Any]:
    answers = self.server.answers
    token = str(fields["token"]) if "token" in fields else answers.join()
    plan, answered = answers.progress(token)
    trials = [[left, right] for _, _, left, right in plan]
    return {"token": token, "trials": trials, "answered": answered}

  def _answer(self, fields: dict[str, Any]) -> dict[str, Any]:
    answers = self.server.answers
    known = ("token", "trial", "choice", "seconds", "replays")
    token, *rest = (fields.get(name) for name in known)
    stored = answers.answer(str(token), *rest)
    return {"stored": stored, "answered": answers.progress(str(token))[1]}
