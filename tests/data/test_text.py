"""Captions as the signal `text`: vocabulary, tokens, what is refused."""

import dataclasses
import json

import encoders
import numpy as np
import pytest

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax import sampler
from vidgan_jax.data import memory
from vidgan_jax.data import pipeline
from vidgan_jax.data import signals
from vidgan_jax.data import sprites
from vidgan_jax.data import text
from vidgan_jax.nets import texts
from vidgan_jax.store import provenance
from vidgan_jax.store import tensors

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


# ------------------------------------------------------- files of a user's own


def restored(encoder):
  """As it comes back from a checkpoint."""
  return text.restore(json.loads(json.dumps(dataclasses.asdict(encoder))))


def test_tokens_of_a_tokenizer(tmp_path):
  pytest.importorskip("tokenizers", reason="needs tokenizers")
  path = tmp_path / "tokenizer.json"
  encoders.tokenizer(path, "zebra a red disc blue ein roter b\u00e4r huge .")
  encoder = text.learn(CAPTIONS, str(path))
  # Those of the captions alone, from 1 on, whatever numbers the file has; the
  # marks that it adds, and where it cuts, are left out.
  assert encoder.length == 4 and encoder.words[:2] == ("a", "disc")
  assert set(encoder.words) == set(
    "a red disc blue . ein roter b\u00e4r".split()
  )
  assert encoder.tokens("A red disc").tolist() == [1, 7, 2, 0]
  one, other = (encoder.tokens(t) for t in ("ba\u0308r", "b\u00e4r"))
  assert one.tolist() == other.tolist() and one.any()
  with pytest.raises(errors.UserError, match="token 'huge' .*8 tokens: a"):
    encoder.check("a huge disc")
  encoder.check("a huge disc", anyway=True)
  with pytest.raises(errors.UserError, match="5 tokens; .* at most 4"):
    encoder.check("a a a a a")
  again = restored(encoder)
  np.testing.assert_array_equal(again.encode(["A red disc"]), [[1, 7, 2, 0]])

  (tmp_path / "b").mkdir()
  path.rename(tmp_path / "b/tokenizer.json")
  with pytest.raises(errors.UserError, match="no such file.*--text-weights"):
    text.learn(CAPTIONS, str(path))
  moved = again.moved(str(tmp_path / "b"))
  np.testing.assert_array_equal(moved.tokens("a red disc"), [1, 7, 2, 0])
  other = str(tmp_path / "other.json")
  encoders.tokenizer(other, "another one")
  with pytest.raises(errors.UserError, match="not the file that this run has"):
    again.moved(other).tokens("a red disc")
  with pytest.raises(errors.UserError, match="learnt words.*needs no files"):
    text.learn(CAPTIONS, "words").moved(str(path))


def vectors(path, **more):
  """A file of vectors for `CAPTIONS`, one key in another form of Unicode."""
  made = {
    "A red disc": np.float32([[1, 5, 2]]),
    "a blue  disc.": np.float32([3, 5, 2]),
    "ein roter Ba\u0308r": np.float16([[2, 5, 5], [2, 5, 3]]),
  }
  tensors.save(path, made | more, {})
  return f"{text.EMBED}{path}"


def test_vectors_of_a_file(tmp_path):
  path = tmp_path / "v.safetensors"
  kind = vectors(path)
  source = text.wrap(Captioned(), Captioned(), kind)
  assert source.spec["text_vectors"] == ((2, 3), np.float32)
  got = np.stack([e["text_vectors"] for e in source.read(range(4))])
  assert got.dtype == np.float32 and not got[2].any()  # It has no caption.
  there = got.reshape(-1, 3)[[0, 2, 6, 7]]
  np.testing.assert_allclose(there.mean(0), 0, atol=1e-6)
  # The second number is the same in all.
  np.testing.assert_allclose(there.std(0), [1, 0, 1], atol=1e-6)
  assert not got[[0, 1], 1].any()  # Behind the last.
  data = memory.InMemory(source, "clip(2) | value_range(-1, 1)", batch=3)
  assert data.size == 3 and "caption is empty" in str(data.refused)
  assert data.batch(0)["text_vectors"].shape == (3, 2, 3)
  again = restored(data.text)
  asked = ["ein roter B\u00e4r", "A red disc"]
  np.testing.assert_array_equal(again.encode(asked), got[[3, 0]])
  again.check(asked[0])
  with pytest.raises(errors.UserError, match="1 of 1 .*nearest is 'A red disc"):
    again.check("a red disk")
  with pytest.raises(errors.UserError, match="' ' is empty"):
    again.check(" ")
  vectors(path, more=np.zeros(3, np.float32))
  with pytest.raises(errors.UserError, match="not the file that this run has"):
    restored(data.text).encode(asked)


@pytest.mark.parametrize(
  "more, match",
  [
    ({"b": np.zeros(4, np.float32)}, "one n for all.*tensors of 2 kinds"),
    ({"b": np.zeros((1, 2, 3), np.float32)}, "tensors of 2 kinds"),
    ({"b": np.float32([0, np.nan, 0])}, "numbers that are not finite"),
  ],
)
def test_files_without_vectors(tmp_path, more, match):
  kind = vectors(tmp_path / "v.safetensors", **more)
  with pytest.raises(errors.UserError, match=match):
    text.learn(CAPTIONS, kind)
  with pytest.raises(errors.UserError, match="3 captions, but not of 1 of 2"):
    text.learn(["A red disc", "no"], vectors(tmp_path / "v.safetensors"))


def test_vectors_that_say_nothing(tmp_path):
  made = {k: np.float32([i, 1]) for i, k in enumerate("abc")}
  tensors.save(tmp_path / "v", made | {"d": made["c"]}, {})
  kind = f"{text.EMBED}{tmp_path / 'v'}"
  got = text.learn("abc", kind).encode("abc")
  assert got.any(-1).all()  # That of 'b' is the mean, and yet one.
  np.testing.assert_allclose(
    got[:, 0, 0], [-(1.5**0.5), 0, 1.5**0.5], 1e-5, 1e-5
  )
  with pytest.raises(
    errors.UserError, match="2 different captions one and the"
  ):
    text.learn("cd", kind)
  with pytest.raises(errors.UserError, match="every clip has the caption"):
    text.learn(["a", " a"], kind)


def test_vectors_of_a_network(tmp_path, monkeypatch):
  pytest.importorskip("tokenizers", reason="needs tokenizers")
  folder = encoders.folder(tmp_path / "e5")
  encoder = text.learn([*CAPTIONS, CAPTIONS[0]], f"{text.EMBED}{folder}")
  raw = np.concatenate(texts.Folder(folder, {})(CAPTIONS[:2] + CAPTIONS[3:]))
  want = (raw - raw.mean(0)) / raw.std(0)
  got = encoder.encode(CAPTIONS)
  assert got.shape == (4, 1, 8) and not got[2].any()
  np.testing.assert_allclose(got[[0, 1, 3], 0], want, atol=1e-4)
  with monkeypatch.context() as context:
    context.setattr(texts, "Folder", None)  # Nothing is read until it must be.
    again = restored(encoder).moved(str(tmp_path / "there"))
  (tmp_path / "e5").rename(tmp_path / "there")
  np.testing.assert_allclose(again.encode(CAPTIONS), got, atol=1e-4)
  new = again.encode(["a green cross", "a green cross"])
  np.testing.assert_array_equal(*new)
  assert np.isfinite(new).all() and new.any()
  with pytest.raises(errors.UserError, match="'' is empty"):
    again.check("")
  again.check("a green cross")


def test_a_checkpoint_and_its_folder_read_texts(tmp_path):
  """From the config to what a generator is given, without the clips."""
  pytest.importorskip("tokenizers", reason="needs tokenizers")
  folder = encoders.folder(tmp_path / "e5")
  config = config_lib.default()
  config.data.options = dict(resolution=8, size=12, radius=(0.2, 0.3))
  config.data.text = f"embed:{folder}"
  config.data.ops = "clip(4) | value_range(-1, 1)"
  config.data.memory = True
  config.task.options = dict(label=False, signals=("text_vectors",))
  config_lib.validate(config)
  data = pipeline.create(config.data, batch=2)
  assert data.batch(0)["text_vectors"].shape == (2, 1, 8)
  fields = {"seconds": 1.0, "times": (0.0,), "class_names": ()}
  fields["text"] = dataclasses.asdict(data.text)
  record = provenance.make(config, **fields)
  record = json.loads(json.dumps(record.to_json()))
  made = sampler.build({}, provenance.from_json(record))
  given = made.ask(2, text=["a red disc", "two blue squares"])
  np.testing.assert_allclose(
    given["text_vectors"],
    data.text.encode(["a red disc", "two blue squares"]),
    atol=1e-5,
  )
  for wrong in ("vectors.txt", "tokenizer.jso"):
    config.data.text = wrong
    with pytest.raises(errors.UserError, match=r"data.text.*'embed:\*'"):
      config_lib.validate(config)
