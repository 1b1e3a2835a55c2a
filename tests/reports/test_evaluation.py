"""`report.html`: what it shows is what was found, and it needs nothing else."""

import base64
import html.parser
import io
import math
import re
import shutil
import subprocess

import numpy as np
from PIL import Image
import pytest

from vidgan_jax import evals
from vidgan_jax.reports import evaluation

CARD = {"network": "random3d-1", "frames": 8, "real": {"data": "sky"}}
BROWSER = next(
  filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None
)


class Page(html.parser.HTMLParser):
  """Elements with their attributes and their own text, every tag closed."""

  VOID = {"meta", "link", "img", "br"}
  SHAPES = {"line", "circle", "polygon", "polyline"}

  def __init__(self, path):
    super().__init__()
    self.text = path.read_text(encoding="utf-8")
    self.elements, self._open = [], []
    self.feed(self.text)
    self.close()
    assert not self._open, self._open

  def handle_starttag(self, tag, attrs):
    found = {"tag": tag, "text": "", **dict(attrs)}
    self.elements.append(found)
    if tag not in self.VOID:
      self._open.append(found)

  def handle_startendtag(self, tag, attrs):
    assert tag in self.SHAPES, tag
    self.handle_starttag(tag, attrs)
    self._open.pop()

  def handle_endtag(self, tag):
    assert self._open.pop()["tag"] == tag

  def handle_data(self, data):
    for element in self._open:
      element["text"] += data

  def all(self, tag, kind=None):
    return [
      e
      for e in self.elements
      if e["tag"] == tag
      and (kind is None or kind in e.get("class", "").split())
    ]


def value(number, low=None, high=None, **facts):
  facts = {"num": {"generated": 8, "real": 9}, "protocol": CARD} | facts
  return evals.Value(number, low, high, **facts)


def clips(num, frames=4, height=16, width=24, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (num, frames, height, width, 3)).astype(np.uint8)


def picture(element):
  """The pixels of an image, or those of all its frames."""
  start, data = element["src"].split(",", 1)
  assert start == "data:image/webp;base64"
  image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
  frames = []
  for i in range(getattr(image, "n_frames", 1)):
    image.seek(i)
    frames.append(np.asarray(image.convert("RGB")))
  return frames


def strips(page):
  (*found,) = (picture(e)[0] for e in page.all("img", "strip"))
  return found


def strip(clip):
  return np.concatenate(list(clip), 1)


@pytest.fixture
def make(tmp_path):
  def render(records, exhibits=(), settings=(), **options):
    path = tmp_path / "deep" / "report.html"
    args = records, dict(exhibits), dict(settings)
    assert evaluation.render(*args, path, **options) == path
    return Page(path)

  return render


def rows(page):
  """metric -> the cells of its row."""
  found = {}
  for e in page.elements:
    if e["tag"] == "th" and e.get("scope") == "row":
      cells = found.setdefault(e["text"], [])
    elif e["tag"] == "td":
      cells.append(e["text"])
  return found


# ---------------------------------------------------------------------- table


def test_the_newest_values(make):
  page = make(
    {
      20: {
        "fvd8_16f": evals.missing("not computed: put i3d at /a/b"),
        "frd_random": value(
          *(12.3456, 11.0, 13.5),
          note="asked 9, there are 8",
          better="lower",
        ),
        "frd_random/raw": value(20.0).record(),
        "swd": 0.25,
        "broken": "NaN",
        "speed/parameters": 1234567,
      },
      10: {
        "frd_random": value(99.0),
        "old/psnr": value(31.25, 30.0, 32.0, unit="dB", better="higher"),
      },
    }
  )
  got = rows(page)
  name = value(0).hash
  assert name and list(got) == [
    "frd_randomlower is better",
    "old/psnrdB, higher is better",
    "swd",
    "speed/parameters",
  ]
  frd, psnr, swd, parameters = got.values()
  assert frd[0] == "12.35 [11, 13.5]asked 9, there are 8"
  assert frd[1:] == ["20", "8 generated, 9 real", name]
  assert psnr[0] == "31.25 [30, 32]step 10" and psnr[1] == "–"
  assert swd == ["0.25", "–", "", ""]
  assert parameters[0] == "1\u202f235\u202f000"
  missing = dict(
    zip(
      (e["text"] for e in page.all("dt")), (e["text"] for e in page.all("dd"))
    )
  )
  assert missing["fvd8_16f"] == "not computed: put i3d at /a/b"
  assert missing["broken"] == "not computed"
  # The protocol is there in full, under its name.
  (card,) = (e for e in page.all("dl") if e.get("id") == f"protocol-{name}")
  assert card["text"] == "networkrandom3d-1frames8real.datasky"
  assert f"#protocol-{name}" in [e.get("href") for e in page.all("a")]


def test_who_computes_a_number_says_its_unit_and_which_is_better(make):
  """Nothing is guessed from the letters of a name."""
  names = "backdrop_share", "afd", "bits_per_pixel", "ssim", "vendi_score"
  assert list(rows(make({1: dict.fromkeys(names, 0.5)}))) == list(names)
  bits = value(0.5, unit="bits", better="lower")
  for record in (bits, bits.record()):
    (row,) = rows(make({1: {"bits_per_pixel": record}}))
    assert row == "bits_per_pixelbits, lower is better"
  # Files of before have neither.
  old = bits.record()
  del old["unit"], old["better"]
  assert list(rows(make({1: {"psnr": old}}))) == ["psnr"]
  page = make({s: {"a": value(s, unit="dB", better="higher")} for s in (1, 2)})
  (figure,) = page.all("figure")
  assert "higher is better" in figure["text"] and "dB" in figure["text"]


def test_a_record_of_a_file_is_the_value(make):
  one = make({5: {"a": value(0.5, 0.25, 0.75)}}).text
  assert make({5: {"a": value(0.5, 0.25, 0.75).record()}}).text == one


@pytest.mark.parametrize(
  "number, text",
  [
    (0.0, "0"),
    (-0.12345678, "−0.1235"),
    (999.96, "1000"),
    (1234.5, "1\u202f234"),
    (12345678.0, "12\u202f350\u202f000"),
    (1e-7, "1e−7"),
    (2.5e20, "2.5e20"),
    (math.inf, "∞"),
  ],
)
def test_numbers(make, number, text):
  ((cell, *_),) = rows(make({1: {"some": number}})).values()
  assert cell == text


# --------------------------------------------------------------------- curves


def axis(page, kind):
  """Reads values off an axis: a line through its first and last tick."""
  ticks = [e for e in page.all("text", kind) if e["text"] != "step"]
  at = [float(e["x"]) if kind == "mid" else float(e["y"]) - 3.5 for e in ticks]
  units = {"k": 1e3, "M": 1e6}
  values = [
    float(e["text"].rstrip("kM").replace("−", "-"))
    * units.get(e["text"][-1], 1)
    for e in ticks
  ]
  return at, values


def read(at, values, where):
  return values[0] + (np.asarray(where) - at[0]) * (values[-1] - values[0]) / (
    at[-1] - at[0]
  )


def points(element):
  return np.array(
    [[float(x) for x in p.split(",")] for p in element["points"].split()]
  )


@pytest.mark.parametrize("log", [False, True])
def test_a_curve_can_be_read_off(make, log):
  steps = [1000, 3000, 4000, 9000]
  values = [2000.0, 150.0, 30.0, 4.0] if log else [-0.5, 2.0, 1.5, 3.25]
  page = make(
    {s: {"fid": value(v, v - 0.2, v + 0.4)} for s, v in zip(steps, values)}
  )
  (line,), (band,) = page.all("polyline"), page.all("polygon")
  x, y = points(line).T
  np.testing.assert_allclose(read(*axis(page, "mid"), x), steps, atol=40)
  at, marks = axis(page, "end")
  assert ("log scale" in page.text) == log
  marks = np.log10(marks) if log else marks
  got = read(at, marks, y)
  want = np.log10(values) if log else values
  room = abs(marks[-1] - marks[0]) / 100
  np.testing.assert_allclose(got, want, atol=room)
  ends = read(at, marks, points(band)[:, 1])
  want = [v + 0.4 for v in values] + [v - 0.2 for v in values[::-1]]
  np.testing.assert_allclose(ends, np.log10(want) if log else want, atol=room)
  # All within the picture.
  _, _, width, height = map(float, page.all("svg")[0]["viewbox"].split())
  assert 0 <= min(x) and max(x) <= width and 0 <= min(y) and max(y) <= height


def test_curves_of_both_weights(make):
  page = make(
    {s: {"fid": 9.0 - s, "fid/raw": 10.0 - s, "once": 3.0} for s in (1, 2, 3)}
    | {4: {"fid": evals.missing("x"), "once": math.nan}}
  )
  titles = [e["text"] for e in page.all("h3")]
  assert titles == ["Not computed", "fid", "once", *titles[3:]]
  assert {e["class"] for e in page.all("polyline")} == {"ema", "raw"}
  legend = [e["text"] for e in page.all("span") if "ema" in e.get("class", "")]
  assert legend[0].split() == ["ema", "6"]  # The last one that is a number.
  hints = [e["text"] for e in page.all("title")]
  assert "step 2: 7, ema" in hints and "step 3: 7, raw" in hints


def test_other_protocols_are_not_joined(make):
  other = CARD | {"frames": 16}
  page = make(
    {
      s: {"fid": value(1.0 * s, protocol=CARD if s < 3 else other)}
      for s in range(1, 6)
    }
  )
  assert [len(points(e)) for e in page.all("polyline")] == [2, 3]
  assert len([e for e in page.all("dl") if e["id"].startswith("protocol")]) == 2


@pytest.mark.parametrize(
  "values", [[2.0, 2.0], [0.0, 0.0], [1e-9, 3e12], [-5, 5e5]]
)
def test_curves_that_are_hard_to_draw(make, values):
  page = make(dict(enumerate({"fid": v} for v in values)))
  (line,) = page.all("polyline")
  assert np.isfinite(points(line)).all() and "nan" not in page.text
  marks = [e["text"] for e in page.all("text", "end") if e["text"] != "step"]
  assert 2 <= len(marks) <= 8 and len(set(marks)) == len(marks)


def test_the_same_protocol_at_every_step(make):
  """Which checkpoint was measured is in the card and changes nothing."""
  page = make(
    {
      s: {"fid": value(1.0 * s, protocol=CARD | {"generated": {"step": s}})}
      for s in (1, 2, 3)
    }
  )
  assert [len(points(e)) for e in page.all("polyline")] == [3]
  assert len([e for e in page.all("dl") if e["id"].startswith("protocol")]) == 1


def test_one_step_has_no_curve(make):
  page = make({7: {"fid": 1.0}})
  assert not page.all("svg") and "Over training" not in page.text


# ------------------------------------------------------------------- pictures


def test_videos_over_their_references(make):
  video = clips(2)
  pair = evals.Exhibit(clips=video[:1], beside=video[1:])
  table = {f"v<{i}>": {"psnr": 30.5 + i, "tof": 0.25} for i in range(2)}
  del table["v<1>"]["tof"]
  page = make({1: {"a": 1.0}}, {"Best: v<0>": pair}, videos=table)
  for got, clip in zip(strips(page), video, strict=True):
    np.testing.assert_array_equal(got, strip(clip))
  captions = [e["text"] for e in page.all("p")]
  assert captions.index("generated") < captions.index("reference")
  assert "Best: v<0>" in [e["text"] for e in page.all("h3")]
  found = rows(page)
  assert found["v<0>"] == ["30.5", "0.25"] and found["v<1>"] == ["31.5", "–"]
  many = {str(i): {"psnr": 1.0} for i in range(40)}
  page = make({1: {"a": 1.0}}, videos=many)
  assert "40 videos" in [e["text"] for e in page.all("summary")]


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_best_and_worst(make, better):
  video, scores = clips(20), np.random.default_rng(1).permutation(20) / 4
  samples = evals.Exhibit(
    clips=video, scores=scores, score="LPIPS", better=better
  )
  page = make({1: {"a": 1.0}}, {"Clips": samples})
  order = np.argsort(scores if better == "lower" else -scores)
  want = [*order[:4], *order[::-1][:4]]
  for got, i in zip(strips(page), want, strict=True):
    np.testing.assert_array_equal(got, strip(video[i]))
  captions = [e["text"] for e in page.all("p") if e["text"].startswith("clip")]
  assert captions == [f"clip {i}, {scores[i]:.4g}" for i in want]
  heads = [e["text"] for e in page.all("h4")]
  assert heads == ["Best by LPIPS", "Worst by LPIPS"]


def test_clips_without_scores_and_how_they_move(make):
  video = clips(11, frames=12)
  # They are made for a page alone.
  samples = evals.Exhibit(clips=lambda: video)
  page = make({1: {"a": 1.0}}, {"Generated": samples})
  few = np.linspace(0, 11, 8).round().astype(int)
  for got, clip in zip(strips(page), video[:8], strict=True):
    np.testing.assert_array_equal(got, strip(clip[few]))
  for got, clip in zip(page.all("img", "moving"), video):
    np.testing.assert_array_equal(picture(got), clip)


def test_large_frames_are_shrunk(make):
  large = np.full((1, 2, 288, 384, 3), 90, np.uint8)
  page = make({1: {"a": 1.0}}, {"x": evals.Exhibit(clips=large)})
  (got,) = strips(page)
  assert got.shape == (144, 2 * 192, 3) and abs(got.astype(int) - 90).max() <= 3


def test_closest_training_clips(make):
  fake, real = clips(10), clips(10, seed=1)
  distances = np.random.default_rng(2).permutation(10) + 0.5
  closest = evals.Exhibit(
    clips=fake,
    beside=lambda: real,
    scores=distances,
    captions=("generated", "nearest in training"),
    note="Near copies, below 3: 3 of 10.",
  )
  page = make({1: {"a": 1.0}}, {"Nearest": closest})
  order = np.argsort(distances)[:8]
  want = [strip(v[i]) for i in order for v in (fake, real)]
  for got, expected in zip(strips(page), want, strict=True):
    np.testing.assert_array_equal(got, expected)
  assert "Near copies, below 3: 3 of 10." in page.text


# ------------------------------------------------------------------- the page


def test_settings_and_versions(make):
  settings = {
    "title": "Sky",
    "config": {"model": {"widths": (8, 16)}, "seed": 3},
    "versions": {"jax": "1.2.3"},
  }
  page = make({1: {"a": 1.0}}, {}, settings)
  text = [e["text"] for e in page.all("details")]
  assert "config.model.widths[8, 16]config.seed3" in text[0]
  assert text[1].endswith("jax1.2.3")
  assert page.all("h1")[0]["text"] == page.all("title")[0]["text"] == "Sky"
  own = make({1: {"a": 1.0}})
  assert f"<dt>numpy</dt><dd>{np.__version__}</dd>" in own.text


def test_everything_is_escaped_and_within(make):
  evil = "<script>alert(1)</script>'\"><img src=x onerror=y>&amp;\udcff"
  number = lambda: value(1.5, 1, 2, num={evil: 3}, protocol={evil: evil})
  samples = evals.Exhibit(clips=clips(2), scores=[1, 2], score=evil, note=evil)
  beside = evals.Exhibit(
    clips=clips(1), beside=clips(1), scores=[1], captions=(evil, evil)
  )
  page = make(
    {
      1: {evil: number(), f"{evil}/raw": number()},
      2: {evil: value(2.5, note=evil), "gone": evals.missing(evil)},
    },
    {evil: samples, f"{evil} ": beside},
    {"title": evil, evil: [evil], "versions": {evil: evil}},
  )
  assert not {"script", "iframe", "object", "form"} & {
    e["tag"] for e in page.elements
  }
  assert page.text.count("<h1>") == 1 and "&lt;script&gt;" in page.text
  for e in page.elements:
    assert not [key for key in e if key.startswith("on")], e
    for key in ("src", "href"):
      assert e.get(key, "data:").startswith(("data:", "#protocol-"))
  assert not re.search(r"https?:|url\(|@import", page.text)
  policy = [e["content"] for e in page.all("meta") if "http-equiv" in e]
  assert policy == [
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
  ]


def test_the_same_again_and_never_half(make, tmp_path):
  samples = {"x": evals.Exhibit(clips=clips(2))}
  one = make({1: {"a": 1.0}}, samples).text
  assert make({1: {"a": 1.0}}, samples).text == one
  with pytest.raises(ValueError):
    make({1: {"a": 1.0}}, {"x": evals.Exhibit(clips=clips(2)[0])})
  (page,) = (tmp_path / "deep").iterdir()
  assert page.read_text() == one


SOME = {1: {"a": 1.0}}


def show(**fields):
  return {"x": evals.Exhibit(**fields)}


@pytest.mark.parametrize(
  "args, words",
  [
    (({},), "there is none"),
    (({1: {}},), "there is none"),
    (({"1": {"a": 1.0}},), "integers, not '1'"),
    (({1: {"a": None}},), "'a' of step 1"),
    (({1: {"a": {"low": 3}}},), "'a' of step 1"),
    (({1: {"a": {"value": 1, "protocol": {"x": {1, 2}}}}},), "plain JSON"),
    ((SOME, show(clips=clips(2).astype(float))), "'x' are .* float64"),
    ((SOME, show(clips=clips(0))), "at least one"),
    (
      (SOME, show(clips=clips(2), scores=[1.0])),
      r"scores of 'x' are \(1,\)",
    ),
    ((SOME, show(clips=clips(1), scores=[math.nan])), "finite number"),
    (
      (SOME, show(clips=clips(1), scores=[1], better="top")),
      "'lower' or 'higher'",
    ),
    (
      (SOME, show(clips=clips(2), beside=clips(3))),
      "2 clips and 3 beside them",
    ),
  ],
)
def test_what_is_refused(make, args, words):
  with pytest.raises(ValueError, match=words):
    make(*args)


@pytest.mark.skipif(not BROWSER, reason="there is no Chromium")
def test_a_browser_draws_it(make, tmp_path):
  """Curves and pictures come through the page's own policy."""
  video = np.zeros((1, 4, 16, 16, 3), np.uint8) + np.uint8([255, 0, 255])
  values = {1: {"a": 1.0, "a/raw": 1.5}, 2: {"a": 2.0, "a/raw": 4.0}}
  make(values, show(clips=video))
  shot = tmp_path / "shot.png"
  done = subprocess.run(
    [
      BROWSER,
      *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
      *("--disable-background-networking", "--disable-component-update"),
      *("--disable-sync", "--disable-quic", "--hide-scrollbars"),
      f"--user-data-dir={tmp_path / 'profile'}",
      "--window-size=900,1200",
      f"--screenshot={shot}",
      (tmp_path / "deep" / "report.html").as_uri(),
    ],
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert shot.exists(), done.stderr[-2000:]
  pixels = np.asarray(Image.open(shot).convert("RGB"))
  count = lambda *colour: int((pixels == np.uint8(colour)).all(-1).sum())
  assert count(0xFC, 0xFC, 0xFA) > pixels[..., 0].size / 2  # The ground.
  assert count(255, 0, 255) > 5 * 54 * 54  # The clip, large.
  assert count(0x1F, 0x66, 0xC9) > 100 and count(0xB8, 0x60, 0x0B) > 100
