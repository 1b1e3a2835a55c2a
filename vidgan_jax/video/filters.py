"""libavfilter between the decoder and the encoder, in its own language.

  filtered(frames, "hflip,rotate=PI/12", base=base, flag="--filter")

A text names filters as ffmpeg's `-vf` does: NAME=OPTIONS with commas between,
chains with semicolons between, and labels, of which [in] and [out] are given:
"movie=b.mp4[b];[in][b]hstack". PyAV has the filters but no reader of the text,
so `_parsed` is one, after libavfilter's graphparser.c.

Frames whose pixels nobody looked at go through as they were decoded, in the
format of the file; others as RGB.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import difflib
import fractions
from typing import Any
from typing import NamedTuple

import av
from av import filter as av_filter
from av.filter import graph as av_graph
import numpy as np

from vidgan_jax.video import read
from vidgan_jax.video import stream

_ERRORS = (av.error.FFmpegError, OSError, ValueError, MemoryError)
# (transparent?, 16 bits?) -> format of images.
_IMAGES = {(0, 0): "rgb24", (0, 1): "rgb48le", (1, 0): "rgba",
           (1, 1): "rgba64le"}  # fmt: skip


class _Filter(NamedTuple):
  """One filter of a text."""

  name: str
  options: str
  reads: list[str]  # labels before it
  writes: list[str]  # labels after it


def _token(text: str, at: int, ends: str) -> tuple[str, int]:
  r"""The text from `at` to one of `ends`, without quotes and backslashes.

  One level of quoting is removed, 'a,b' or a\,b, as av_get_token does; what is
  left goes to the filter, which removes the second.
  """
  out, keep = "", 0  # `keep`: length up to which blanks are meant
  while at < len(text) and text[at] not in ends:
    if text[at] == "\\" and at + 1 < len(text):
      out += text[at + 1]
      at, keep = at + 2, len(out)
    elif text[at] == "'":
      end = text.find("'", at + 1)
      end = len(text) if end < 0 else end
      out += text[at + 1 : end]
      at, keep = end + 1, len(out)
    else:
      out += text[at]
      at += 1
  return out[:keep] + out[keep:].rstrip(), at


def _labels(text: str, at: int) -> tuple[list[str], int]:
  labels = []
  while text[at : at + 1] == "[":
    label, at = _token(text, at + 1, "]")
    labels.append(label)
    at = _blank(text, at + 1)
  return labels, at


def _blank(text: str, at: int) -> int:
  while at < len(text) and text[at].isspace():
    at += 1
  return at


def _parsed(text: str, flag: str) -> list[list[_Filter]]:
  """The chains of a text; raises VideoError where it is none."""
  chains, at = [[]], _blank(text, 0)
  while True:
    reads, at = _labels(text, at)
    name, at = _token(text, at, "=,;[")
    options = ""
    if text[at : at + 1] == "=":
      options, at = _token(text, at + 1, "[],;")
    writes, at = _labels(text, _blank(text, at))
    if not name:
      raise read.VideoError(f"{flag} {text}: a filter's name is missing")
    chains[-1].append(_Filter(name, options, reads, writes))
    if at >= len(text):
      return chains
    if text[at] not in ",;":
      raise read.VideoError(
        f"{flag} {text}: {text[at:]!r} follows a filter; separate filters by"
        " commas"
      )
    if text[at] == ";":
      chains.append([])
    at = _blank(text, at + 1)


def _added(nodes: av_graph.Graph, part: _Filter, flag: str) -> Any:
  """One filter of a text in a graph."""
  # NAME@ID gives it a name of its own, which nothing here asks for.
  name = part.name.partition("@")[0]
  if name not in av_filter.filters_available:
    near = difflib.get_close_matches(name, av_filter.filters_available)
    raise read.VideoError(
      f"{flag}: there is no filter {name!r} here"
      + (f"; did you mean {' or '.join(near)}?" if near else "")
      + (" Use --text for texts" if name == "drawtext" else "")
    )
  with _explained(f"{flag} {name}={part.options}"):
    return nodes.add(name, part.options or None)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
  """Raises libav's errors as a VideoError with the words that it logs."""
  level = av.logging.get_level()
  with av.logging.Capture() as lines:
    av.logging.set_level(av.logging.ERROR)
    try:
      yield
    except _ERRORS as error:
      words = [text.strip() for _, _, text in lines] or [read.reason(error)]
      raise read.VideoError(f"{what}: {words[0]}") from None
    finally:
      av.logging.set_level(level)


def _built(nodes: av_graph.Graph, text: str, flag: str, first, last) -> None:
  """Builds a text between two nodes of a graph.

  Raises:
    read.VideoError: an unknown filter or option, or loose ends.
  """
  written, wanted = {"in": (first, 0)}, {"out": (last, 0)}  # label -> node, pad
  loose = []  # pads at the ends of chains without a label
  for chain in _parsed(text, flag):
    before = []  # pads of the filter before, which are the labels of links
    for part in chain:
      node = _added(nodes, part, flag)
      reads = part.reads + before
      if len(reads) + 1 == len(node.inputs) and "in" not in wanted:
        reads.append("in")
      if len(reads) != len(node.inputs):
        raise read.VideoError(
          f"{flag} {text}: {part.name} has {len(node.inputs)} inputs, not"
          f" {len(reads)}; name them, as in movie=b.mp4[b];[in][b]hstack"
        )
      for pad, label in enumerate(reads):
        if label in wanted:
          raise read.VideoError(
            f"{flag} {text}: [{label}] is read twice; [{label}]split[a][b]"
            " makes two of it"
          )
        wanted[label] = node, pad
      before = [(node, k) for k in range(len(part.writes), len(node.outputs))]
      written |= {end: end for end in before}
      written |= {label: (node, k) for k, label in enumerate(part.writes)}
    loose += before
  if "out" not in written and len(loose) == 1:
    written["out"] = written.pop(loose[0])
  for label in {**written, **wanted}:
    if label not in written or label not in wanted:
      name = label if isinstance(label, str) else label[0].filter.name
      side = "leads to" if label not in written else "reads from"
      raise read.VideoError(f"{flag} {text}: nothing {side} [{name}]")
    (node, out), (to, pad) = written[label], wanted[label]
    try:
      node.link_to(to, out, pad)
    except _ERRORS as error:
      raise read.VideoError(
        f"{flag} {text}: {node.filter.name} and {to.filter.name} do not go"
        f" together ({read.reason(error)}); --filter is for pictures,"
        " --audio-filter for sound"
      ) from None


def built(
  text: str, flag: str, first: tuple[str, str], last: tuple[str, str]
) -> av_graph.Graph:
  """A graph that is ready, with the text between two nodes.

  Args:
    text: filters.
    flag: what the user wrote it after, for messages.
    first: name and options of the node that takes frames.
    last: of the one before those that come out.

  Raises:
    read.VideoError: it is not a text of filters, or they do not go together.
  """
  nodes = av_graph.Graph()
  last_node = nodes.add(*last)
  sink = nodes.add("abuffersink" if first[0] == "abuffer" else "buffersink")
  _built(nodes, text, flag, nodes.add(*first), last_node)
  last_node.link_to(sink)
  with _explained(f"{flag} {text}"):
    nodes.configure()
  return nodes


class _Pictures:
  """What a stream of frames is pushed into a graph as, and pulled as."""

  def __init__(self, text: str, flag: str, base: fractions.Fraction, aspect):
    self._text, self._flag = text, flag
    self._base, self._aspect = base, aspect
    self._kind = self._graph = None

  def push(self, frame: stream.Frame | None) -> bool:
    """Whether the filters take more; None ends them."""
    picture = frame and _picture(frame)
    if picture is not None:
      kind = picture.format.name, picture.width, picture.height
      if self._graph is None:
        self._open(kind, picture)
      if kind != self._kind:
        picture = picture.reformat(
          format=self._kind[0], width=self._kind[1], height=self._kind[2]
        )
      picture.time_base = self._base
      picture.pts = round(frame.time / self._base)
      picture.duration = round(frame.duration / self._base)
    if self._graph is None:
      return False
    try:
      self._graph.push(picture)
    except EOFError:
      return False
    except _ERRORS as error:
      raise self._failed(read.reason(error)) from None
    return True

  def _failed(self, why: str) -> read.VideoError:
    return read.VideoError(f"{self._flag} {self._text}: {why}")

  def _open(self, kind: tuple[str, int, int], picture: Any) -> None:
    matrix, full = (0, 2) if picture.format.is_rgb else read.colour(picture)
    first = (
      f"video_size={kind[1]}x{kind[2]}:pix_fmt={kind[0]}"
      f":time_base={self._base}:pixel_aspect={self._aspect}"
      f":colorspace={matrix}:range={full}"
    )
    last = "null", ""
    if kind[0] in _IMAGES.values():
      deep = kind[0].endswith("le")
      last = "format", "|".join(_IMAGES[clear, deep] for clear in (0, 1))
    self._kind = kind
    self._graph = built(self._text, self._flag, ("buffer", first), last)

  def pull(self) -> Iterator[Any]:
    """The pictures that are ready."""
    while self._graph is not None:
      try:
        picture = self._graph.pull()
      except (BlockingIOError, EOFError):
        return
      except _ERRORS as error:
        raise self._failed(read.reason(error)) from None
      if picture.width * picture.height > read.MAX_PIXELS:
        raise self._failed(
          f"frames of {picture.width}x{picture.height} are beyond the limit of"
          f" {read.MAX_PIXELS} pixels"
        )
      yield picture


def _picture(frame: stream.Frame) -> Any:
  """A frame for a graph: its image, or else as it was decoded."""
  image = frame.image
  if image is None:
    picture = frame.picture
    if not picture.format.is_rgb:
      picture.colorspace, picture.color_range = read.colour(picture)
    return picture
  if frame.alpha is not None:
    image = np.dstack([image, frame.alpha])
  name = _IMAGES[image.shape[2] == 4, image.dtype == np.uint16]
  return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=name)


def _frame(picture: Any, was: stream.Frame) -> stream.Frame:
  """A frame of what came out of a graph; `was` went in before it."""
  duration = read.seconds(picture.duration or 0, picture.time_base)
  new = stream.Frame(
    time=read.seconds(picture.pts, picture.time_base),
    duration=duration or was.duration,
    shot=was.shot,
  )
  if was.image is None:
    new.picture = picture
    return new
  image = picture.to_ndarray()
  if image.shape[2] == 4:
    image, new.alpha = np.ascontiguousarray(image[..., :3]), image[..., 3]
  new.image = new.base = image
  return new


def filtered(
  frames: Iterable[stream.Frame],
  text: str,
  *,
  flag: str,
  base: fractions.Fraction,
  aspect: fractions.Fraction = fractions.Fraction(1),
  pixels: bool = False,
) -> Iterator[stream.Frame]:
  """Frames through libavfilter.

  Args:
    frames: with images or, if not `pixels`, as they were decoded.
    text: the filters; empty: none.
    flag: what the user wrote them after.
    base: seconds, of which all times are multiples.
    aspect: width of a pixel / its height.
    pixels: frames without an image are results that exist; pass them on.

  Raises:
    read.VideoError: it is not a text of filters, or they do not go together.
  """
  if not text:
    yield from frames
    return
  pictures, frame = _Pictures(text, flag, base, aspect), None
  for frame in frames:
    if pixels and frame.image is None:
      yield frame
      continue
    more = pictures.push(frame)
    for picture in pictures.pull():
      yield _frame(picture, frame)
    if not more:
      return
  if pictures.push(None):
    for picture in pictures.pull():
      yield _frame(picture, frame)
