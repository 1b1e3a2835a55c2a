"""Experts: trained, frozen, as a loss and as a judge."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax import experts
from vidgan_jax import sampler
from vidgan_jax.data import text
from vidgan_jax.evals import retrieval
from vidgan_jax.evals import sync
from vidgan_jax.losses import reconstruction
from vidgan_jax.train import writer
from vidgan_jax.zoo import __main__ as shipping

SMALL = (
  *("total=2steps", "batch=4", "data.options.size=16"),
  *("data.options.resolution=16", "model.resolution=16"),
  *("evals={}", "cadence.log=1steps", "cadence.sample=0steps"),
)
ALIGN = ("model.generator.widths=(4,)", "model.generator.joint=8")
GENERATE = (
  *("model.generator.widths=(4,)", "model.generator.style_dim=8"),
  *("model.discriminator.widths=(4,)", "model.discriminator.joint=4"),
  *("penalties={}", "model.discriminator.match=0", "adversary.weight=0"),
)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """Of a kind -> the workdir of an expert that took two steps."""
  root = tmp_path_factory.mktemp("experts")
  return {
    of: str(runs.train(root / of, f"align.py:of={of}", *SMALL, *ALIGN))
    for of in ("text", "sound")
  }


def pleased(expert):
  """What makes a text run please an expert."""
  loss = {"alignment": {"weight": 0.2, "expert": expert}}
  return (*SMALL, *GENERATE, f"reconstruction={loss}")


@pytest.fixture(scope="module")
def generator(run, tmp_path_factory):
  """A text run that an expert of texts has helped to train."""
  root = tmp_path_factory.mktemp("generator")
  return str(runs.train(root / "run", "text.py", *pleased(run["text"])))


class Clips(list):
  """Clips as a task prepares them."""

  def prepared(self, indices):
    return [self[i] for i in indices]


def reference(source, num=16):
  """Held-out clips of noise, with noise as text or sound."""
  rng = np.random.default_rng(0)
  given = {
    "text": lambda: rng.integers(1, 9, 6).astype(np.int32),
    "sound": lambda: rng.normal(size=(16, 164)).astype(np.float32),
  }
  rows = []
  for _ in range(num):
    video = rng.uniform(-1, 1, (16, 16, 16, 3)).astype(np.float32)
    rows.append(
      {
        "given": {"video": video, source: given[source]()},
        "target": video,
        "times": np.arange(16, dtype=np.float32) / 8,
      }
    )
  return evals.Reference(clips=Clips(rows))


def test_alignment_is_the_square_of_the_angle():
  rng = np.random.default_rng(0)
  unit = lambda *s: (lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True))(
    rng.normal(size=s)
  )
  texts, sounds = unit(3, 2, 5), unit(3, 4, 2, 5)
  expert = lambda video, given, times: {"match": texts, "sync": sounds}
  batch = {"given": {}, "times": None}
  got = reconstruction.alignment(np.zeros(3), batch, None, expert=expert)
  for i in range(3):
    want = np.arccos(texts[i, 0] @ texts[i, 1]) ** 2
    want += np.mean([np.arccos(a @ b) ** 2 for a, b in sounds[i]])
    np.testing.assert_allclose(got[i], want, rtol=1e-5)

  # The slope is finite where the two are the same, or opposite.
  def loss(a):
    same = lambda *_: {
      "match": jnp.stack([jnp.stack([a, a]), jnp.stack([a, -a])])
    }
    return reconstruction.alignment(np.zeros(2), batch, None, same).sum()

  assert np.isfinite(jax.grad(loss)(jnp.array([1.0, 0.0]))).all()


def test_an_expert_learns_without_an_adversary(run):
  for workdir in run.values():
    rows = writer.read(workdir)
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["g/contrast"] > 0 and "d/loss" not in row for row in rows)


@pytest.mark.parametrize(
  "of, kind, shape", [("text", "match", ()), ("sound", "sync", (16,))]
)
def test_an_expert_compares(run, of, kind, shape, tmp_path):
  expert = experts.load(run[of])
  clips = reference(of, 5).clips.prepared(range(5))
  given, sets = experts.shown(expert.network, clips, 0)
  pairs = expert.pairs(*sets[""][:1], given, sets[""][1], batch=2)
  assert pairs.keys() == {kind} and expert.reads(kind)
  assert pairs[kind].shape == (5, *shape, 2, 64)
  np.testing.assert_allclose(np.linalg.norm(pairs[kind], axis=-1), 1, atol=1e-4)
  # Its file, in half the bytes, is the same expert; of any size of clip.
  shipping.export(run[of], tmp_path / "expert.safetensors")
  again = experts.load(str(tmp_path / "expert.safetensors"))
  assert again.digest == expert.digest
  video, times = sets[""]
  other = again.pairs(video, given, times)[kind]
  np.testing.assert_allclose(other, pairs[kind], atol=0.05)
  assert (
    again.pairs(video.repeat(2, 2), given, times)[kind].shape == other.shape
  )


def test_who_pleases_an_expert_is_not_judged_by_it(run, generator):
  expert, judged = experts.load(run["text"]), sampler.load(generator)
  assert judged.experts == (expert.digest,)
  assert all(row["g/alignment"] > 0 for row in writer.read(generator))
  _, note = experts.judge(run["text"], judged)
  assert "trained to please this expert" in note
  other = dataclasses.replace(judged, experts=())
  assert experts.judge(run["text"], other)[1] == ""
  clips = reference("text")
  for clip in clips.clips:
    del clip["given"]["video"]
  evaluator = retrieval.Evaluator(expert=run["text"], num=16)
  values = dict(evaluator.run(judged, clips))
  assert [*values] == [f"retrieval/r1{x}" for x in ("", "_real", "_floor")]
  assert all("says nothing" in value.note for value in values.values())


def test_experts_that_do_not_fit(run, generator, tmp_path):
  def refused(expert, words):
    with pytest.raises(errors.UserError, match=words):
      runs.train(tmp_path / "run", "text.py", *pleased(expert))
    assert not (tmp_path / "run").exists()

  refused(run["sound"], "'sound' or 'vector', but only 'text' is given")
  refused(generator, "is no expert")
  refused(str(tmp_path / "nowhere"), "does not exist")
  refused("", "No expert is named")
  with pytest.raises(errors.UserError, match="learnt of texts, not of sounds"):
    own = sampler.load(run["text"])
    list(sync.Evaluator().run(own, reference("sound")))
  with pytest.raises(errors.UserError, match="clips of files"):
    experts.judge(run["text"], reference("text"))
  with pytest.raises(errors.UserError, match="needs a judge"):
    own = sampler.load(generator)
    list(retrieval.Evaluator().run(own, reference("text")))
  with pytest.raises(errors.UserError, match="of another size"):
    wide = {"sound": np.zeros((1, 16, 7), np.float32)}
    expert = experts.load(run["sound"])
    expert(np.zeros((1, 16, 16, 16, 3), np.float32), wide, np.zeros((1, 16)))


def test_texts_are_read_in_the_words_of_another_run(run):
  expert = experts.load(run["text"])
  own = expert.network.text
  assert expert.of_texts(own) is expert.of_texts(None) is expert
  turned = dataclasses.replace(own, words=tuple(own.words)[::-1])
  words = " ".join([own.words[0], own.words[-1], own.words[1]])
  ours, theirs = own.tokens(words), turned.tokens(words)
  assert (ours != theirs).any()
  np.testing.assert_array_equal(expert.of_texts(turned).table[theirs], ours)
  for other in (
    dataclasses.replace(own, words=(*own.words, "zeppelin")),
    text.Encoder(kind="bytes", length=9),
  ):
    with pytest.raises(errors.UserError, match="zeppelin|on words.*on bytes"):
      expert.of_texts(other)


def test_retrieval():
  rng = np.random.default_rng(0)
  a = rng.normal(size=(8, 5))
  b = a.copy()
  b[[1, 2]] = b[[2, 1]]
  b[3] = b[4]  # Which of the two cannot be told.
  a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
  right = retrieval._own_is_nearest({"match": np.stack([a, b], 1)})
  assert right.tolist() == [True, False, False, False, False, True, True, True]


@pytest.mark.parametrize(
  "of, evaluator", [("text", retrieval), ("sound", sync)]
)
def test_the_run_of_an_expert_is_judged_on_real_clips(run, of, evaluator):
  own = sampler.load(run[of])
  values = dict(evaluator.Evaluator(num=16).run(own, reference(of)))
  if of == "text":
    assert values.keys() == {"retrieval/r1", "retrieval/r1_floor"}
    assert values["retrieval/r1_floor"].value == 1 / 16
    assert values["retrieval/r1"].value < 0.5
    return
  listed = values.pop("Out of step").text
  assert values.keys() == {
    f"sync/{x}" for x in ("offset", "confidence", "in_step")
  }
  share = values["sync/in_step"]
  out = round(16 * (1 - share.value))
  assert share.protocol["shifts"] == 17
  assert f"{out} of 16 clips are out of step" in listed
  assert listed.count("confidence") == out > 0


def test_offsets():
  rng = np.random.default_rng(0)
  frames = rng.normal(size=(3, 12, 5))
  sounds = np.roll(frames, 2, 1)  # What is heard comes two frames late.
  pairs = np.stack([frames, sounds], 2)
  pairs /= np.linalg.norm(pairs, axis=-1, keepdims=True)
  gaps = sync.distances(pairs)
  assert gaps.shape == (3, 13)  # Half of the frames have a partner.
  assert (gaps.argmin(1) - 6 == 2).all()
  np.testing.assert_allclose(gaps.min(1), 0, atol=1e-12)
  for k in (-3, 0, 4):
    want = np.mean(
      [
        np.linalg.norm(pairs[0, t, 0] - pairs[0, t + k, 1])
        for t in range(12)
        if 0 <= t + k < 12
      ]
    )
    np.testing.assert_allclose(gaps[0, k + 6], want)
  listed = sync._out_of_step(np.array([0, 2, -1]), np.array([9, 1, 2]), 0.125)
  assert listed.text.splitlines() == [
    "2 of 3 clips are out of step:",
    "  clip     2: sound 1 frames (0.125 s) early, confidence 2.000",
    "  clip     1: sound 2 frames (0.250 s) late, confidence 1.000",
  ]
