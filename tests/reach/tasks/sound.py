"""Clips out of noise that go with a sound: given: {'sound': (T, n)}."""

import numpy as np

from vidgan_jax import tasks
from vidgan_jax.data import sprites


def make(world=None, frames=16):
  """Builds the task.

  Args:
    world: options of sprites, whose held-out sounds are asked for by default.
    frames: T of a clip.
  """

  def prepare(example, seed):
    del seed
    return {
      "given": {"sound": example["sound"]},
      "target": example["video"],
      "times": example["times"],
    }

  def ask(num, seed, source, facts, sound=None):
    """The sounds of clips, or of one file of an array (T, n)."""
    del seed, source, facts
    if sound is not None:
      return {"sound": np.repeat(np.load(sound)[None], num, 0)}
    source = sprites.make("test", **(world or {}), supervision="sound")
    clips = source.read(range(num))
    return {"sound": np.stack([clip["sound"][:frames] for clip in clips])}

  return tasks.Task(prepare=prepare, ask=ask)
