"""The one server of local pages, on the standard library's HTTP server.

It serves one page at /, which needs nothing from anywhere else, and answers
what the page asks for with JSON. No request is logged.

A foreign page can give its own name the address of this machine, and then read
what the browser gets from it (DNS rebinding). The browser still sends that
name as `Host`, so a request by a name that is not ours is refused.
"""

from collections.abc import Callable
import contextlib
import errno
import http
import http.server
import ipaddress
import json
import pathlib
import socket
import socketserver
import sys
from typing import Any
import urllib.parse

from vidgan_jax import errors

LOOPBACK = "127.0.0.1"
# Whatever comes into the page, it talks to this server alone.
_POLICY = (
  "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
  "connect-src 'self'; media-src blob:; img-src data:; base-uri 'none'; "
  "form-action 'none'; frame-ancestors 'none'"
)


class Server(http.server.ThreadingHTTPServer):
  """Serves one page; use as a context manager."""

  daemon_threads = True

  def __init__(
    self, page: pathlib.Path, handler: type["Handler"], host: str, port: int
  ):
    """Binds the port; port 0 takes any.

    Args:
      page: HTML that is served at /.
      handler: answers what the page asks for.
      host: address or name to listen on.
      port: 0 to 65535.

    Raises:
      UserError: the port is not to be had.
    """
    self._host = host.lower()
    self.page = page.read_bytes()
    if not 0 <= port < 65_536:
      raise errors.UserError(f"--port {port}: ports are 0 to 65535.")
    if ":" in host:
      self.address_family = socket.AF_INET6
    self._open = set()  # sockets of browsers, which keep them for later
    try:
      super().__init__((host, port), handler)
    except OSError as error:
      if error.errno == errno.EADDRINUSE:
        raise errors.UserError(
          f"port {port} of {host} is in use, perhaps by this command in "
          "another terminal: choose another with --port, or any with --port 0."
        ) from None
      raise errors.UserError(
        f"cannot listen on {host}, port {port} ({error.strerror or error}): "
        "choose another address or port."
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
    """Hangs up on everybody."""
    super().server_close()
    for request in list(self._open):
      with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)

  @property
  def url(self) -> str:
    """The address to open; of this machine if all are listened on."""
    host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(
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


class Handler(http.server.BaseHTTPRequestHandler):
  """Answers one browser; rooms say what there is beside the page.

  Attributes:
    largest: bytes of a body.
  """

  server: Server
  protocol_version = "HTTP/1.1"
  server_version, sys_version = "vidgan", ""
  timeout = 120  # seconds that an idle connection keeps its thread
  largest = 4096

  def look(self, path: str) -> None:
    """Sends what there is at a path other than /."""
    del path
    self.error(http.HTTPStatus.NOT_FOUND, "There is nothing here.")

  def actions(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
    """Path of a POST -> (fields) -> what is answered, JSON both."""
    return {}

  def act(self, action: Callable, fields: dict[str, Any]) -> None:
    """Sends the answer; what a user can mend as one paragraph."""
    try:
      self.json(action(fields))
    except errors.UserError as error:
      self.error(http.HTTPStatus.BAD_REQUEST, errors.text(error))

  def log_message(self, *args) -> None:
    pass  # Who uses the page is anonymous.

  def parse_request(self) -> bool:
    """Reads the request's head; refuses one by a foreign name."""
    if not super().parse_request():
      return False
    known = self.server.known_as(self.headers.get("Host", ""))
    if not known:
      self.close_connection = True  # A body stays unread.
      text = "This server has another name: open it by its address."
      self.error(http.HTTPStatus.MISDIRECTED_REQUEST, text)
    return known

  def do_GET(self) -> None:
    path = self.path.partition("?")[0]
    if path == "/":
      self.send(self.server.page, "text/html; charset=utf-8")
    else:
      self.look(path)

  do_HEAD = do_GET

  def do_POST(self) -> None:
    try:
      length = int(self.headers.get("Content-Length", ""))
    except ValueError:
      length = -1
    if not 0 <= length <= self.largest:
      self.close_connection = True  # The body stays unread.
      self.error(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Too much.")
      return
    body = self.rfile.read(length)
    try:
      # Other sites' forms cannot send this type without asking first.
      if self.headers.get_content_type() != "application/json":
        raise ValueError
      fields = json.loads(body)
      if not isinstance(fields, dict):
        raise ValueError
      action = self.actions()[self.path]
    except (ValueError, RecursionError):
      self.error(http.HTTPStatus.BAD_REQUEST, "Send a JSON object.")
      return
    except KeyError:
      self.error(http.HTTPStatus.NOT_FOUND, "There is nothing here.")
      return
    self.act(action, fields)

  def json(self, value: Any, status: int = http.HTTPStatus.OK) -> None:
    """Sends a value."""
    self.send(json.dumps(value).encode(), "application/json", status)

  def error(self, status: int, text: str) -> None:
    """Sends what is wrong, for people."""
    self.json({"error": text}, status)

  def send(
    self,
    data: bytes,
    kind: str,
    status: int = http.HTTPStatus.OK,
    cache: str = "no-store",
  ) -> None:
    """Sends bytes of a MIME type."""
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
