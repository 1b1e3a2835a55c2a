"""The order of clips: each epoch a permutation of its own."""

import json

import numpy as np

from vidgan_jax.data import order


def test_each_epoch_is_a_permutation_of_its_own():
  n = 97
  epochs = order.shown(3, n, np.arange(5 * n)).reshape(5, n)
  np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(n), (5, 1)))
  # Two random permutations agree in one place on average.
  for a in range(5):
    for b in range(a):
      assert np.sum(epochs[a] == epochs[b]) < 10
  assert np.sum(epochs[0] == order.shown(4, n, np.arange(n))) < 10
  assert np.sum(epochs[0] == np.arange(n)) < 10


def test_order_depends_on_the_position_alone():
  positions = np.random.default_rng(0).integers(0, 10**6, 500)
  once = order.shown(1, 13, positions)
  np.testing.assert_array_equal(
    once, [order.shown(1, 13, np.array(p)) for p in positions]
  )
  assert order.shown(1, 13, positions.reshape(50, 10)).shape == (50, 10)


def test_order_is_the_same_on_every_machine():
  # Golden: a change would change what a resumed run sees.
  assert order.shown(0, 6, np.arange(8)).tolist() == [3, 2, 5, 4, 0, 1, 1, 4]


def test_a_fingerprint_knows_the_clips_again():
  class Source:
    reads = 0

    def __init__(self, labels, frame=b"x"):
      self.labels, self.frame = labels, frame

    def __len__(self):
      return len(self.labels)

    def read(self, indices):
      self.reads += 1
      frames = np.array([self.frame, b"y"], object)
      return [{"frames": frames, "label": self.labels[i]} for i in indices]

  before = order.fingerprint(Source([0, 1, 1]))
  assert before == json.loads(json.dumps(order.fingerprint(Source([0, 1, 1]))))
  assert not order.difference(before, order.fingerprint(Source([0, 1, 1])))
  for source, words in [
    (Source([1, 0, 0]), "the label of its clips changed"),
    (Source([0, 1, 1], b"z"), "the frames of its clips changed"),
    (Source([0]), "it had 3 clips, now it has 1"),
  ]:
    assert order.difference(before, order.fingerprint(source)) == words
  many = Source([0] * 10_000), Source([0] * 1000, bytes(2**23))
  for source, reads in zip(many, (256, 8)):
    order.fingerprint(source)
    assert source.reads == reads  # Large clips: until there are enough bytes.
