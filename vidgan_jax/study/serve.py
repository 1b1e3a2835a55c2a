"""The local web page of a study, on the standard library's HTTP server.

  GET  /            the page; it needs nothing from anywhere else
  GET  /api/study   what is asked
  POST /api/join    {} or {"token"} -> {"token", "trials", "answered"}
  POST /api/answer  {"token", "trial", "choice", "seconds", "replays"}
  GET  /clips/NAME  a clip of the study, and no other file

Clips have random names, and a check looks like any other trial: the page does
not know which system it shows. No request is logged.

A foreign page can give its own name the address of this machine, and then read
what the browser gets from it (DNS rebinding). The browser still sends that
name as `Host`, so a request by a name that is not ours is refused.
"""

import contextlib
import errno
import http
import http.server
import ipaddress
import json
import pathlib
import socket
import socketserver
import sqlite3
import sys
from typing import Any
import urllib.parse

from vidgan_jax.study import store

_PAGE = pathlib.Path(__file__).with_name("page.html")
_MAX_BODY = 4096  # bytes
# Whatever is in a clip or a question, the page talks to this server alone.
_POLICY = (
  "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
  "connect-src 'self'; media-src blob:; img-src data:; base-uri 'none'; "
  "form-action 'none'; frame-ancestors 'none'"
)


class Server(http.server.ThreadingHTTPServer):
  """Serves one study; use as a context manager."""

  daemon_threads = True

  def __init__(self, study: store.Study, host: str, port: int):
    """Opens the answers and binds the port; port 0 takes any.

    Raises:
      StudyError: the answers cannot be used, or the port is not to be had.
    """
    self.study = study
    self._host = host.lower()
    self.page = _PAGE.read_bytes()
    if not 0 <= port < 65_536:
      raise store.StudyError(f"--port {port}: ports are 0 to 65535.")
    if ":" in host:
      self.address_family = socket.AF_INET6
    self._open = set()  # sockets of browsers, which keep them for later
    self.answers = store.Answers(study)
    try:
      super().__init__((host, port), _Handler)
    except OSError as error:
      self.answers.close()
      if error.errno == errno.EADDRINUSE:
        raise store.StudyError(
          f"port {port} of {host} is in use, perhaps by this study in another "
          "terminal: choose another with --port, or any with --port 0."
        ) from None
      raise store.StudyError(
        f"cannot listen on {host}, port {port} ({error.strerror or error}): "
        "choose others with --host and --port."
      ) from None

  def server_bind(self) -> None:
    """Binds, without asking the network for this machine's name."""
    socketserver.TCPServer.server_bind(self)
    self.server_name, self.server_port = self.server_address[:2]

  def process_request(self, request: Any, client_address: Any) -> None:
    self._open.add(request)
    super().process_request(request, client_address)

  def shutdown_request(self, request: Any) -> None:
    self._open.discard(request)
    super().shutdown_request(request)

  def server_close(self) -> None:
    """Hangs up on everybody and closes the answers."""
    super().server_close()
    for request in list(self._open):
      with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)
    self.answers.close()

  @property
  def url(self) -> str:
    """The address to open; of this machine if all are listened on."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(
      self.server_name, self.server_name
    )
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{self.server_port}/"

  def known_as(self, host: str) -> bool:
    """Whether a `Host` header names this server.

    Foreign names alone can be rebound: where the network is let in, any
    address is ours. A server of this machine alone has loopback names.
    """
    try:
      name = urllib.parse.urlsplit(f"//{host}").hostname or ""
    except ValueError:
      return False
    if name in ("localhost", self._host):
      return True
    local = ipaddress.ip_address(self.server_name).is_loopback
    try:
      return ipaddress.ip_address(name).is_loopback or not local
    except ValueError:
      ours = socket.gethostname().lower()
      return not local and name in (ours, f"{ours}.local")

  def handle_error(self, request: Any, client_address: Any) -> None:
    # A browser may go away at any time.
    if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
      super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
  server: Server
  protocol_version = "HTTP/1.1"
  server_version, sys_version = "vidgan", ""
  timeout = 120  # seconds that an idle connection keeps its thread

  def log_message(self, *args) -> None:
    pass  # Raters are anonymous.

  def parse_request(self) -> bool:
    """Reads the request's head; refuses one by a foreign name."""
    if not super().parse_request():
      return False
    known = self.server.known_as(self.headers.get("Host", ""))
    if not known:
      self.close_connection = True  # A body stays unread.
      text = "This server has another name: open it by its address."
      self._error(http.HTTPStatus.MISDIRECTED_REQUEST, text)
    return known

  def do_GET(self) -> None:
    path = self.path.partition("?")[0]
    study = self.server.study
    if path == "/":
      self._send(self.server.page, "text/html; charset=utf-8")
    elif path == "/api/study":
      self._json(
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
        self._error(http.HTTPStatus.NOT_FOUND, "This clip is missing.")
        return
      self._send(data, "video/mp4", cache="max-age=86400, immutable")
    else:
      self._error(http.HTTPStatus.NOT_FOUND, "There is nothing here.")

  do_HEAD = do_GET

  def do_POST(self) -> None:
    try:
      length = int(self.headers.get("Content-Length", ""))
    except ValueError:
      length = -1
    if not 0 <= length <= _MAX_BODY:
      self.close_connection = True  # The body stays unread.
      self._error(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Too much.")
      return
    body = self.rfile.read(length)
    try:
      # Other sites' forms cannot send this type without asking first.
      if self.headers.get_content_type() != "application/json":
        raise ValueError
      fields = json.loads(body)
      if not isinstance(fields, dict):
        raise ValueError
      action = {"/api/join": self._join, "/api/answer": self._answer}[self.path]
    except (ValueError, RecursionError):
      self._error(http.HTTPStatus.BAD_REQUEST, "Send a JSON object.")
      return
    except KeyError:
      self._error(http.HTTPStatus.NOT_FOUND, "There is nothing here.")
      return
    try:
      self._json(action(fields))
    except store.UnknownRater as error:
      self._error(http.HTTPStatus.NOT_FOUND, str(error))
    except (store.StudyError, UnicodeError) as error:
      self._error(http.HTTPStatus.BAD_REQUEST, str(error))
    except sqlite3.Error as error:  # A full disk; or the server is closing.
      print(f"vidgan study: an answer was not stored: {error}", file=sys.stderr)
      self.close_connection = True
      self._error(http.HTTPStatus.SERVICE_UNAVAILABLE, "Not stored.")

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

  def _json(self, value: Any, status: int = http.HTTPStatus.OK) -> None:
    self._send(json.dumps(value).encode(), "application/json", status)

  def _error(self, status: int, text: str) -> None:
    self._json({"error": text}, status)

  def _send(
    self,
    data: bytes,
    kind: str,
    status: int = http.HTTPStatus.OK,
    cache: str = "no-store",
  ) -> None:
    self.send_response(status)
    self.send_header("Content-Type", kind)
    self.send_header("Content-Length", str(len(data)))
    self.send_header("Cache-Control", cache)
    self.send_header("Content-Security-Policy", _POLICY)
    self.send_header("X-Content-Type-Options", "nosniff")
    self.send_header("Referrer-Policy", "no-referrer")
    if self.close_connection:
      self.send_header("Connection", "close")
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(data)
