"""Captions as the signal `text`: vocabulary, tokens, what is refused."""

import numpy as np
import pytest

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax.data import memory
from vidgan_jax.data import pipeline
from vidgan_jax.data import signals
from vidgan_jax.data import sprites
from vidgan_jax.data import text

CAPTIONS = ("A red disc", "a blue  disc.", "", "ein roter Bär")


class Captioned:
  """Four clips of two frames, one without a caption."""

  num_classes, class_names = 0, ()
  spec = {
    "video": ((2, 8, 8, 3), np.dtype(np.uint8)),
    "times": ((2,), np.dtype(np.float32)),
    "caption": ((), np.dtype(object)),
  }

  def __len__(self):
    return len(CAPTIONS)

  def captions(self, indices):
    return [CAPTIONS[i] for i in indices]

  def read(self, indices):
    return [
      {
        "video": np.full((2, 8, 8, 3), i, np.uint8),
        "times": np.float32([0, 1]),
        "caption": CAPTIONS[i],
      }
      for i in indices
    ]


def test_words():
  encoder = text.learn(CAPTIONS, "words")
  # The most frequent first, then by the alphabet; tokens begin at 1.
  assert list(encoder.words[:2]) == ["a", "disc"] and encoder.length == 3
  assert set(encoder.words) == {
    "a",
    "disc",
    "red",
    "blue",
    "ein",
    "roter",
    "bär",
  }
  same = [encoder.tokens(t) for t in ("A red disc", "a, RED: disc!")]
  np.testing.assert_array_equal(*same)
  assert same[0].dtype == np.int32 and (same[0] > 0).all()
  # Letters that Unicode can write in two ways are one.
  assert (
    encoder.tokens("ba\u0308r").tolist() == encoder.tokens("b\u00e4r").tolist()
  )
  assert encoder.tokens("Bär").tolist() == encoder.tokens("bär").tolist()
  # What is unknown is left out, what is too long is cut.
  np.testing.assert_array_equal(
    encoder.tokens("a huge red disc disc disc"), same[0]
  )


def test_bytes():
  encoder = text.learn(CAPTIONS, "bytes")
  assert encoder.length == len("ein roter bär".encode()) and not encoder.words
  tokens = encoder.tokens("Bär")
  assert bytes(int(t) - 1 for t in tokens if t).decode() == "bär"
  encoder.check("any wörd")


@pytest.mark.parametrize(
  "wrong, match",
  [
    ("a purpel disc", "'purpel'.*no caption.*nearest.*7 words"),
    ("a red disk", "'disk'.*nearest is 'disc'"),
    ("", "no word that is known"),
    (" .,", "no word that is known"),
    ("a a a red", "4 words; .* at most 3"),
  ],
)
def test_a_text_that_says_something_else_is_refused(wrong, match):
  encoder = text.learn(CAPTIONS, "words")
  with pytest.raises(errors.UserError, match=match):
    encoder.check(wrong)
  encoder.check("a blue disc")
  encoder.check("a purpel disc", anyway=True)
  with pytest.raises(errors.UserError, match="no word that is known"):
    encoder.check("purpel", anyway=True)


def test_captions_that_say_nothing():
  for captions, match in (
    (["", " "], "no clip has a caption"),
    (["a dog", "a dog", ""], "every clip has the caption 'a dog'"),
  ):
    with pytest.raises(signals.DataError, match=match):
      text.learn(captions, "words")

  class Silent(Captioned):
    spec = {k: v for k, v in Captioned.spec.items() if k != "caption"}

  with pytest.raises(signals.DataError, match="no captions"):
    text.wrap(Silent(), Silent(), "words")
  with pytest.raises(errors.UserError, match="Did you mean 'words'"):
    text.learn(CAPTIONS, "word")


def test_a_clip_without_a_caption_is_left_out_and_counted():
  source = text.wrap(Captioned(), Captioned(), "words")
  assert source.spec["text"] == ((3,), np.int32) and len(source) == 4
  lines = []
  data = memory.InMemory(
    source, "clip(2) | value_range(-1, 1)", batch=3, log=lines.append
  )
  assert data.size == 3 and "caption is empty" in str(data.refused)
  assert data.text is source.text
  batch = data.batch(0)
  assert batch["text"].shape == (3, 3) and "caption" not in batch
  shown = {
    int(v) for v in np.round((batch["video"][:, 0, 0, 0, 0] + 1) * 127.5)
  }
  assert shown == {0, 1, 3}


def test_all_splits_have_the_words_of_training(monkeypatch):
  config = config_lib.default()
  config.data.options = dict(resolution=8, size=40, radius=(0.2, 0.3))
  config.data.text = "words"
  train, test = (
    pipeline.make_source(config.data, s) for s in ("train", "test")
  )
  assert train.text == test.text and len(train.text.words) > 10
  example = test.read([0])[0]
  words = [train.text.words[i - 1] for i in example["text"] if i]
  assert words == text.split(example["caption"], "words")
  assert train.num_classes == 4 and train.world["resolution"] == 8
  # Whoever knows the words reads no captions.
  monkeypatch.setattr(sprites.Source, "captions", None)
  again = pipeline.make_source(config.data, "test", train.text)
  np.testing.assert_array_equal(again.read([0])[0]["text"], example["text"])
