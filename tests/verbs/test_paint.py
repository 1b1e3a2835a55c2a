"""`vidgan paint`: a drawing becomes a video, in a browser and without one."""

import base64
import dataclasses
import io
import json
import threading
import time
import types

import browser
import jax
import numpy as np
from PIL import Image
import pytest

from vidgan_jax import errors
from vidgan_jax import models
from vidgan_jax import sampler as sampler_lib
from vidgan_jax import tasks
from vidgan_jax.video import read
from vidgan_jax.web import paint

SIZE, FPS = 16, 8
PALETTE = {
  "ground": (0, 0, 0),
  "disc": (214, 27, 27),
  "square": (121, 214, 27),
}
COLOURS = np.array(list(PALETTE.values()), np.uint8)
TAB, ENTER, SPACE, SHIFT, CONTROL = "\ue004", "\ue007", " ", "\ue008", "\ue009"
LEFT, UP, RIGHT, DOWN = "\ue012", "\ue013", "\ue014", "\ue015"


class Sampler:
  """As `sampler.Sampler` of a run with maps; draws them in grey, by the seed.

  Between keys the nearest is seen.
  """

  times = (0.0, 0.125, 0.25)
  resolution = SIZE

  def __init__(self, palette=PALETTE):
    self.task = types.SimpleNamespace(name="translate", palette=palette)
    self.go = threading.Event()  # Who draws waits for it.
    self.go.set()
    self.error = None

  def ask(self, num, seed, *, map, still, seconds):
    at = np.array([key[1] for key in map])
    maps = [map[abs(at - t).argmin()][0] for t in seconds]
    if maps[0].ndim == 3:
      away = abs(np.int32(maps)[..., None, :] - COLOURS).max(-1)
      if away.min(-1).max() > 24:
        raise errors.UserError(f"{map[0][2]}: not of the palette.")
      maps = away.argmin(-1)
    one_hot = np.eye(len(COLOURS), dtype=np.float32)[np.array(maps)]
    return {"map": one_hot[None], "index": np.arange(num)}

  def noise(self, seed, index, seconds):
    return {"z": np.full((1, 1), seed)}

  def film(self, z, given, times):
    for t in range(len(times)):
      assert self.go.wait(60)
      if self.error:
        raise self.error
      level = (100 + z["z"][0, 0] % 100) * (given["map"][0, t].argmax(-1) > 0)
      yield np.uint8(level)[None, None, ..., None].repeat(3, -1)


@pytest.fixture
def sampler():
  return Sampler()


@pytest.fixture
def server(sampler):
  studio = paint.Studio(sampler, "runs/map")
  with browser.running(paint.Server(studio, 0)) as server:
    yield server
    sampler.go.set()


@pytest.fixture
def client(server):
  return browser.Client(server.server_port)


def square(left=2, number=1):
  out = np.zeros((SIZE, SIZE), np.uint8)
  out[4:10, left : left + 6] = number
  return out


def drawing(*keys, seed=3, frames=6, still=False):
  keys = [
    [frame, base64.b64encode(map_.tobytes()).decode()] for frame, map_ in keys
  ]
  return {"seed": seed, "frames": frames, "still": still, "keys": keys}


def get(client, path):
  return json.loads(client.ask("GET", path)[2])


def finished(client):
  deadline = time.monotonic() + 60
  while time.monotonic() < deadline:
    job = get(client, "/api/job")
    if job["state"] not in ("waiting", "drawing"):
      return job
    time.sleep(0.01)
  raise AssertionError(job)


def video(client, number, tmp_path):
  status, headers, data = client.ask("GET", f"/videos/{number}")
  assert (status, headers["Content-Type"]) == (200, "video/mp4")
  (tmp_path / "got.mp4").write_bytes(data)
  return np.stack([f.image for f in read.frames(tmp_path / "got.mp4")])


def png(picture):
  data = io.BytesIO()
  Image.fromarray(picture).save(data, "PNG")
  return base64.b64encode(data.getvalue()).decode()


# ------------------------------------------------------------------ server


def test_a_drawing_becomes_a_video(server, client, tmp_path):
  status, headers, page = client.ask("GET", "/")
  assert status == 200 and page.startswith(b"<!doctype html>")
  assert "default-src 'none'" in headers["Content-Security-Policy"]
  for outside in (b"https://", b"http://", b"@import", b"url("):
    assert outside not in page
  facts = get(client, "/api/run")
  assert [c["name"] for c in facts["classes"]] == list(PALETTE)
  assert facts["classes"][1]["colour"] == [214, 27, 27]
  assert (facts["size"], facts["fps"], facts["frames"]) == (SIZE, FPS, 16)
  keys = (0, square(2)), (5, square(8, 2))
  maps = client.post("/api/maps", **drawing(*keys))[1]["maps"]
  maps = np.frombuffer(base64.b64decode(maps), np.uint8)
  expected = np.stack([square(2)] * 3 + [square(8, 2)] * 3)
  np.testing.assert_array_equal(maps.reshape(6, SIZE, SIZE), expected)
  for number, seed in ((1, 3), (2, 60)):
    asked = client.post("/api/generate", **drawing(*keys, seed=seed))
    assert asked == (200, {"job": number})
    job = finished(client)
    assert (job["job"], job["state"], job["frames"]) == (number, "done", 6)
    got = video(client, number, tmp_path)
    assert got.shape[:2] == (6, 384) and got.shape[2:] == (384, 3)
    scale = 384 // SIZE
    middle = got[:, scale // 2 :: scale, scale // 2 :: scale].astype(int)
    level = (100 + seed) * (expected > 0)
    assert abs(middle - level[..., None]).max() < 8
  assert client.ask("GET", "/videos/1")[0] == 404  # The last alone is kept.


def test_one_at_a_time_and_cancel(server, client, sampler):
  sampler.go.clear()
  wish = drawing((0, square()))
  assert client.post("/api/generate", **wish)[0] == 200
  status, answer = client.post("/api/generate", **wish)
  assert status == 400 and "press Cancel" in answer["error"]
  assert client.post("/api/maps", **wish)[0] == 200  # One can go on painting.
  assert client.post("/api/cancel")[1]["state"] == "cancelled"
  # The next waits for what cannot be stopped at once.
  assert client.post("/api/generate", **wish) == (200, {"job": 2})
  sampler.go.set()
  job = finished(client)
  assert (job["job"], job["state"], job["frames"]) == (2, "done", 6)
  assert client.post("/api/cancel")[1]["state"] == "done"


@pytest.mark.parametrize(
  "change, words",
  [
    ({"keys": drawing((0, square(number=0)))["keys"]}, "paint something first"),
    ({"keys": []}, "no keys"),
    ({"keys": [[0, "AAAA"]]}, "load the page anew"),
    ({"keys": [[0, 7]]}, "load the page anew"),
    ({"keys": [["a", "AAAA"]]}, "load the page anew"),
    ({"keys": 5}, "load the page anew"),
    ({"keys": drawing((0, square(number=3)))["keys"]}, "load the page anew"),
    ({"seed": -1}, "The seed is a whole number"),
    ({"seed": 1.5}, "load the page anew"),
    ({"frames": 0}, "1 to 600 frames"),
    ({"frames": 601}, "1 to 600 frames"),
  ],
)
def test_what_cannot_be_made_is_one_sentence(change, words, client):
  wish = drawing((0, square())) | change
  status, answer = client.post("/api/generate", **wish)
  assert status == 400 and words in answer["error"]
  assert "\n" not in answer["error"]
  assert finished(client)["job"] == 0


def test_faults_while_it_draws(server, client, sampler, capfd):
  wish = drawing((0, square()))
  sampler.error = errors.UserError("The run diverged:\ntake another.")
  client.post("/api/generate", **wish)
  job = finished(client)
  assert (job["state"], job["error"]) == (
    "failed",
    "The run diverged: take another.",
  )
  assert capfd.readouterr().err == ""
  sampler.error = ZeroDivisionError("a fault")
  client.post("/api/generate", **wish)
  assert "the terminal says more" in finished(client)["error"]
  assert "ZeroDivisionError: a fault" in capfd.readouterr().err
  sampler.error = None
  client.post("/api/generate", **wish)
  assert finished(client)["state"] == "done"


def test_pictures_are_read(client):
  map_ = square(5, 2)
  status, answer = client.post(
    "/api/read", name="a.png", file=png(COLOURS[map_])
  )
  assert status == 200
  got = np.frombuffer(base64.b64decode(answer["map"]), np.uint8)
  np.testing.assert_array_equal(got.reshape(map_.shape), map_)
  for picture, words in (
    (png(COLOURS[map_] + np.uint8(40)), "../a.png: not of the palette"),
    (png(COLOURS[map_][:, 2:]), "a.png is 14 x 16 pixels: maps"),
    (base64.b64encode(b"no picture").decode(), "a.png: not an image"),
    (7, "load the page anew"),
  ):
    name = "../a.png" if "../" in words else "a.png"
    status, answer = client.post("/api/read", name=name, file=picture)
    assert status == 400 and words.removeprefix("../") in answer["error"]
    assert "/" not in answer["error"]  # Nothing of where it lay meanwhile.


def test_this_machine_alone(server, client):
  assert server.server_address[0] == "127.0.0.1"
  port = server.server_port
  for host in ("evil.example", f"evil.example:{port}", "10.0.0.1", ""):
    assert client.ask("GET", "/api/run", Host=host)[0] == 421, host
    client = browser.Client(port)
  kind = "text/plain"  # What a foreign form can send.
  assert client.ask("POST", "/api/cancel", "{}", kind)[0] == 400
  for path in ("/paint.html", "/videos/", "/videos/999", "/videos/../x", "/x"):
    assert client.ask("GET", path)[0] == 404, path
  big = {"Content-Length": str(1 << 30)}
  assert client.ask("POST", "/api/read", "", **big)[0] == 413


def test_a_run_without_maps_cannot_be_painted():
  with pytest.raises(errors.UserError, match="trained without maps"):
    paint.Studio(Sampler({}), "runs/x")


# ----------------------------------------------------------------- browser


@pytest.fixture
def page(server, chromium):
  """The page, and (T, H, W) of what the canvas shows at some frames."""
  chromium.open(server.url)
  chromium.wait("!document.querySelector('main').hidden")
  return chromium


def shown(page):
  """Colours of the drawing: (H, W, 3)."""
  rgba = page.js(
    "const c = document.getElementById('canvas');"
    "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
  )
  return np.array(rgba).reshape(SIZE, SIZE, 4)[..., :3]


def classes(page):
  away = abs(shown(page)[..., None, :] - COLOURS.astype(int)).max(-1)
  assert away.min(-1).max() == 0
  return away.argmin(-1)


def click(page, name):
  page.js("document.getElementById(arguments[0]).click()", name)


def notice(page):
  return page.js("return document.getElementById('notice').textContent")


def keys(page):
  return page.js(
    "return [...document.querySelectorAll('.key')].map("
    "(k) => Number(k.dataset.frame))"
  )


def plays(page):
  """Waits until the video is there and its frames move."""
  page.wait("document.getElementById('made').textContent")
  page.wait("document.getElementById('video').videoWidth === 384")
  page.wait("document.getElementById('video').currentTime > 0.1")


def test_a_mouse_paints_two_keys_and_a_video_comes(server, page, tmp_path):
  click(page, "generate")
  assert "The drawing is empty" in notice(page)
  page.drag("#canvas", (0.2, 0.3), (0.4, 0.3))
  first = classes(page)
  assert first[4, 4] == first[4, 6] == 1 and first[10:].max() == 0
  # A copy at the end, in which the shape is moved.
  click(page, "duplicate")
  assert keys(page) == [0, 15]
  page.drag("[value=move]", (0.5, 0.5))
  page.drag("#canvas", (0.3, 0.3), (0.6, 0.3), (0.6, 0.7))
  last = classes(page)
  np.testing.assert_array_equal(last[6:], np.roll(first, (7, 5), (0, 1))[6:])
  # Painted between keys, one is set there.
  page.js(
    "const at = document.getElementById('at'); at.value = 7;"
    "at.dispatchEvent(new Event('input'))"
  )
  page.press("f", "3")
  page.drag("#canvas", (0.9, 0.9))
  assert keys(page) == [0, 7, 15] and "frame 8" in notice(page)
  assert classes(page)[15, 15] == 2
  page.press("z", held=[CONTROL])
  assert keys(page) == [0, 15]
  page.press("z", held=[CONTROL, SHIFT])
  assert keys(page) == [0, 7, 15]
  click(page, "remove")
  click(page, "clear")  # A key that is empty, at the same time.
  assert keys(page) == [0, 7, 15] and classes(page).max() == 0
  click(page, "undo")
  # A key is dragged along.
  page.drag(".key[data-frame='15']", (0.5, 0.5), (-3, 0.5))
  assert len(keys(page)) == 2 and keys(page)[1] < 15

  click(page, "generate")
  plays(page)
  click(page, "generate")
  page.wait("document.getElementById('video').currentTime > 0.1")
  origins = page.js(
    "return [...new Set(performance.getEntriesByType('resource')"
    ".map((e) => new URL(e.name).origin))]"
  )
  assert set(origins) <= {server.url[:-1], "null"}

  # Both are saved; the drawing is read again.
  page.command(
    "Browser.setDownloadBehavior",
    behavior="allow",
    downloadPath=str(tmp_path),
  )
  click(page, "save-drawing")
  click(page, "save-video")
  deadline = time.monotonic() + 30
  while len(list(tmp_path.glob("*.[pm][np][g4]"))) < 2:
    assert time.monotonic() < deadline, list(tmp_path.iterdir())
    time.sleep(0.05)
  saved = np.asarray(Image.open(tmp_path / "drawing.png").convert("RGB"))
  np.testing.assert_array_equal(saved, shown(page))
  clip = [f.image for f in read.frames(tmp_path / "map-seed0.mp4")]
  assert len(clip) == 16


def test_one_sentence_for_what_goes_wrong(server, page, sampler, tmp_path):
  def load(picture, name="mine.png"):
    page.js(
      "const bytes = Uint8Array.from(atob(arguments[0]), (c) =>"
      " c.charCodeAt(0)); load(new File([bytes], arguments[1]))",
      png(picture),
      name,
    )

  load(COLOURS[square(5, 2)])
  page.wait("document.getElementById('notice').textContent.includes('mine')")
  np.testing.assert_array_equal(classes(page), square(5, 2))
  load(COLOURS[square(5, 2)] + np.uint8(40), "odd.png")
  page.wait("document.getElementById('notice').textContent.includes('palette')")
  assert notice(page) == "odd.png: not of the palette."
  np.testing.assert_array_equal(classes(page), square(5, 2))

  sampler.go.clear()
  click(page, "generate")
  page.wait("!document.getElementById('progress').hidden")
  click(page, "generate")
  page.wait(
    "document.getElementById('notice').textContent.includes('press Cancel')"
  )
  click(page, "cancel")
  page.wait("document.getElementById('notice').textContent === 'Cancelled.'")
  sampler.go.set()
  click(page, "generate")
  plays(page)
  server.studio.name = "gone"
  page.js(
    "document.getElementById('seed').value = '';"
    "document.getElementById('generate').click()"
  )
  assert "The seed is a whole number" in notice(page)


def test_by_keyboard_alone(page):
  """All that can be done is reached by Tab, and is seen to be."""
  page.js("window.stops = []; document.activeElement.blur()")
  stops = []
  for _ in range(40):
    page.press(TAB)
    name, outline = page.js(
      "const e = document.activeElement, s = e.closest('.tile') || e;"
      "const name = e.id || e.value || e.className || e.tagName;"
      "return [name, getComputedStyle(s).outlineStyle]"
    )
    if name in stops:
      break
    stops.append(name)
    if name not in ("BODY", "SUMMARY"):
      assert outline == "solid", name
  for name in (
    *("open", "save-drawing", "canvas", "1", "brush", "size", "clear"),
    *("generate", "seed", "dice", "play", "add", "duplicate", "glide"),
    *("frames", "key", "at"),
  ):  # fmt: skip
    assert name in stops, (name, stops)
  # Shift with arrows paints from the middle, here with a smaller brush.
  page.js("document.getElementById('canvas').focus()")
  page.press("[", "[", "[", "2")
  page.press(RIGHT, RIGHT, held=[SHIFT])
  map_ = classes(page)
  assert map_[8, 8:11].min() == 1 and map_[8:9].sum() <= 5
  said = "return document.getElementById('canvas').ariaLabel"
  assert page.js(said) == "Drawing, column 11, row 9: disc"
  # At another time: a key, moved by its own arrows; then the shape is moved.
  page.press(".", ".", ".", "k")
  assert keys(page) == [0, 3]
  page.js("document.querySelectorAll('.key')[1].focus()")
  page.press(RIGHT, RIGHT)
  assert keys(page) == [0, 5]
  assert page.js("return document.activeElement.dataset.frame") == "5"
  page.js("document.getElementById('canvas').focus()")
  page.press("m")
  page.press(DOWN, DOWN, held=[SHIFT])
  np.testing.assert_array_equal(classes(page), np.roll(map_, 2, 0))
  page.press("k")
  assert "already" in notice(page)
  page.press("g")
  plays(page)
  # Who types numbers, or wants no single keys, presses no buttons by it.
  page.js("document.getElementById('single').click()")
  before = keys(page)
  page.press("d")
  assert keys(page) == before


def test_on_a_phone_by_touch(page, tmp_path):
  page.command(
    "Emulation.setDeviceMetricsOverride",
    width=390, height=760, deviceScaleFactor=2, mobile=True,
  )  # fmt: skip
  page.command("Emulation.setTouchEmulationEnabled", enabled=True)
  try:
    page.drag("#canvas", (0.2, 0.2), (0.2, 0.6), kind="touch")
    assert classes(page)[3:10, 3].min() == 1  # It paints, and does not scroll.
    page.tap("[value=eraser]")
    page.wait("chosen('tool') === 'eraser'")
    page.drag("#canvas", (0.2, 0.6), kind="touch")
    assert classes(page)[9, 3] == 0
    page.tap("#generate")
    plays(page)
    boxes = page.js(
      "return [...document.querySelectorAll('button, .tile, input')].filter("
      "(e) => e.checkVisibility() && !e.closest('.key, details, .tile > *')"
      " && e.type !== 'range' && e.type !== 'radio').map((e) => {"
      " const b = e.getBoundingClientRect();"
      " return [e.id || e.textContent, b.left, b.right, b.height] })"
    )
    assert len(boxes) > 15
    for name, left, right, height in boxes:
      assert left >= 0 and right <= 390 and height >= 44, name
    wide = "return document.documentElement.scrollWidth"
    assert page.js(wide) == 390
  finally:
    page.command("Emulation.clearDeviceMetricsOverride")
    page.command("Emulation.setTouchEmulationEnabled", enabled=False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in(scheme, page):
  scheme = {"name": "prefers-color-scheme", "value": scheme}
  page.command("Emulation.setEmulatedMedia", features=[scheme])
  pairs = page.js(browser.TEXTS)
  page.command("Emulation.setEmulatedMedia", features=[])
  assert len(pairs) > 25
  for text, front, back in pairs:
    assert browser.contrast(front, back) >= 4.5, text
  assert {front == pairs[0][1] for _, front, _ in pairs} == {True, False}


# -------------------------------------------------------------- a generator


def test_a_real_generator_goes_where_the_keys_say(tmp_path):
  """Untrained it shows the map in its colours."""
  options = {
    "kind": "labels",
    "classes": tuple(PALETTE),
    "palette": tuple(PALETTE.values()),
  }
  generator, _ = models.create(
    {
      "name": "trunk",
      "variant": "XS",
      "generator": {"width": 4, "blocks": 1, "noise_dim": 2},
      "discriminator": {},
      "resolution": SIZE,
      "frames": 3,
      "num_classes": 0,
    },
    np.float32,
  )
  sampler = sampler_lib.Sampler(
    generator=generator,
    params=None,
    step=0,
    task=tasks.create({"name": "translate", "options": options}),
    times=Sampler.times,
    resolution=SIZE,
  )
  given = sampler.ask(1, 0, map=square())
  index = given.pop("index")
  z = sampler.noise(0, index, 1.0)
  times = np.array([sampler.times], np.float32)
  params = generator.init(jax.random.key(0), given, z, times)["params"]
  sampler = dataclasses.replace(sampler, params=params)
  with browser.running(
    paint.Server(paint.Studio(sampler, "runs/map"), 0)
  ) as server:
    client = browser.Client(server.server_port)
    first, last = square(1), square(9)
    keys = drawing((0, first), (4, last), frames=5)
    assert client.post("/api/generate", **keys)[0] == 200
    assert finished(client)["state"] == "done"
    got = video(client, 1, tmp_path)[:, 12::24, 12::24].astype(int)
    away = abs(got[..., None, :] - COLOURS.astype(int)).max(-1)
    expected = np.stack([square(left) for left in (1, 3, 5, 7, 9)])
    np.testing.assert_array_equal(away.argmin(-1), expected)
    # The same numbers as a picture, and what is not of the palette.
    file = png(COLOURS[last])
    answer = client.post("/api/read", name="a.png", file=file)[1]
    assert base64.b64decode(answer["map"]) == last.tobytes()
    file = png(COLOURS[last] + np.uint8(40))
    status, answer = client.post("/api/read", name="a.png", file=file)
    assert status == 400 and "a.png: 100% of the pixels" in answer["error"]
