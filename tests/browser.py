"""Headless Chromium, and one connection to a local page's server."""

import base64
import contextlib
import http.client
import json
import re
import shutil
import subprocess
import threading
import time

import numpy as np

CHROMIUM = next(
  filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))),
  None,
)
DRIVER = shutil.which("chromedriver")
_FLAGS = (
  "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
  "--disable-background-networking --disable-component-update --disable-sync "
  "--disable-dev-shm-usage --hide-scrollbars --window-size=1280,860"
)


class Browser:
  """Headless Chromium by the WebDriver protocol, which is JSON over HTTP."""

  def __init__(self, profile):
    self.driver = subprocess.Popen(
      [DRIVER, "--port=0"],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for line in self.driver.stdout:
      if found := re.search(r"successfully on port (\d+)", line):
        break
    self.http = http.client.HTTPConnection("127.0.0.1", int(found[1]))
    self.session = "/session"
    flags = [*_FLAGS.split(), f"--user-data-dir={profile}"]
    options = {"binary": CHROMIUM, "args": flags}
    want = {"alwaysMatch": {"goog:chromeOptions": options}}
    self.session += "/" + self.call("POST", "", capabilities=want)["sessionId"]

  def call(self, method, path, **fields):
    body = None if method != "POST" else json.dumps(fields)
    self.http.request(method, self.session + path, body)
    reply = json.loads(self.http.getresponse().read())
    if isinstance(reply["value"], dict) and "error" in reply["value"]:
      raise RuntimeError(reply["value"]["message"])
    return reply["value"]

  def close(self):
    try:
      self.call("DELETE", "")
    finally:
      self.driver.terminate()
      self.driver.wait()
      self.driver.stdout.close()

  def open(self, url):
    self.call("POST", "/url", url=url)

  def js(self, code, *args):
    return self.call("POST", "/execute/sync", script=code, args=args)

  def wait(self, code):
    """Until a JavaScript expression is true; returns its value."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
      if value := self.js(f"return {code}"):
        return value
      time.sleep(0.05)
    raise AssertionError(f"never true: {code}")

  def press(self, *keys, held=""):
    """Presses keys one after the other, while others are held."""
    steps = [{"type": "keyDown", "value": k} for k in held]
    steps += [
      {"type": t, "value": k} for k in keys for t in ("keyDown", "keyUp")
    ]
    steps += [{"type": "keyUp", "value": k} for k in held]
    source = {"type": "key", "id": "keys", "actions": steps}
    self.call("POST", "/actions", actions=[source])

  def tap(self, selector):
    """A finger on the middle of an element."""
    self.drag(selector, (0.5, 0.5), kind="touch")

  def drag(self, selector, *points, kind="mouse"):
    """Leads a pointer over points (x, y) of an element, shares of its sides."""
    left, top, width, height = self.js(
      "const e = document.querySelector(arguments[0]);"
      "e.scrollIntoView({block: 'center'});"
      "const b = e.getBoundingClientRect();"
      "return [b.x, b.y, b.width, b.height]",
      selector,
    )
    steps = [
      {
        "type": "pointerMove",
        "x": round(left + x * width),
        "y": round(top + y * height),
      }
      for x, y in points
    ]
    steps.insert(1, {"type": "pointerDown", "button": 0})
    steps.append({"type": "pointerUp", "button": 0})
    source = {"type": "pointer", "id": kind, "actions": steps}
    source["parameters"] = {"pointerType": kind}
    self.call("POST", "/actions", actions=[source])

  def track(self, seconds):
    """Where both videos are at each frame of the screen: (N, 2) seconds."""
    code = """
      const [seconds, done] = arguments, rows = [];
      const videos = [...document.querySelectorAll('video')];
      const end = performance.now() + 1000 * seconds;
      const look = () => {
        rows.push(videos.map((v) => v.currentTime));
        performance.now() < end ? requestAnimationFrame(look) : done(rows);
      };
      look();"""
    rows = self.call("POST", "/execute/async", script=code, args=[seconds])
    return np.array(rows)

  def command(self, name, **fields):
    """Of the DevTools protocol."""
    self.call("POST", "/goog/cdp/execute", cmd=name, params=fields)

  def picture(self, path):
    path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))


# The texts of a page, what they are written in, and on.
TEXTS = """
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (c !== 'rgba(0, 0, 0, 0)') return c;
    }
  };
  return [...document.querySelectorAll(
      'h1, h2, p, span, button, label, dd, figcaption')]
    .filter((e) => e.textContent.trim() && !e.disabled)
    .map((e) => [e.textContent, getComputedStyle(e).color, ground(e)]);"""


def contrast(front, back):
  """Of two 'rgb(r, g, b)' (WCAG 2.1)."""

  def luminance(text):
    c = np.array([int(x) for x in re.findall(r"\d+", text)[:3]]) / 255
    c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return c @ [0.2126, 0.7152, 0.0722]

  low, high = sorted((luminance(front), luminance(back)))
  return (high + 0.05) / (low + 0.05)


@contextlib.contextmanager
def running(server):
  """Serves in a thread while the block runs."""
  with server:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
      yield server
    finally:
      server.shutdown()
      thread.join()


class Client:
  """One connection that sends paths as they are."""

  def __init__(self, port):
    self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

  def ask(self, method, path, body=None, kind="application/json", **headers):
    """Returns (status, headers, bytes)."""
    if isinstance(body, dict):
      body = json.dumps(body)
    headers = {"Content-Type": kind} | headers
    self.http.request(method, path, body, headers)
    reply = self.http.getresponse()
    return reply.status, reply.headers, reply.read()

  def post(self, path, **fields):
    status, _, data = self.ask("POST", path, fields)
    return status, json.loads(data)
