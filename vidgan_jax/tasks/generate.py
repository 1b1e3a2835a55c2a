"""Clips out of noise, of a class or of none, of texts, sounds or layouts.

given: {} or {'label': int32 ()}, and the signals that are named; target: the
clip.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from vidgan_jax import errors
from vidgan_jax import tasks


def make(label: bool = True, signals: Sequence[str] = ()) -> tasks.Task:
  """Builds the task.

  Args:
    label: give the class label where the data have one. A model of no classes
      does not look at it.
    signals: what else of a clip is given: 'text', 'sound', 'layout', ...; names
      of data/signals.py that the source has (of sprites: those that
      config.data.options.supervision names).
  """

  # Nothing here is of one array library: tf, NumPy and jax all pass through.
  def prepare(example: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    del seed  # nothing is random
    given = {name: example[name] for name in signals}
    if label and "label" in example:
      given["label"] = example["label"]
    return tasks.pair(example, given)

  def ask(
    num: int,
    seed: int,
    source: Any,
    facts: Mapping[str, Any],
    label: str | int | None = None,
    text: str | Sequence[str] | None = None,
    text_anyway: bool = False,
    sound: np.ndarray | None = None,
  ) -> dict[str, np.ndarray]:
    """What the generator is given: the label, if the model has classes.

    Args:
      num: clips.
      seed: not used.
      source: clips of which the signals, and their labels, are taken in turn.
      facts: see `tasks.Task`.
      label: class of all clips, by name or number; None: all in turn.
      text: what all clips should show, or a text for each.
      text_anyway: words that no caption has are left out of it.
      sound: rows of all clips (T, n), or of each (num, T, n), of times that
        are as far apart as those of a training clip; see data/sound.py.

    Raises:
      UserError: there is no such class, no source of the signals, or a word
        that no caption has.
    """
    del seed
    given = {}
    said = {"text": text, "text_vectors": text, "sound": sound}
    others = [name for name in signals if said.get(name) is None]
    if others:
      given = _of_source(num, source, others)
    if sound is not None:
      if "sound" not in signals:
        raise errors.UserError(
          "A sound is asked for, but this generator was trained without: set "
          "config.task.options.signals=('sound',), as configs/sound.py does, "
          "and train anew; or let the sound move a trained one, with --react."
        )
      sound = np.asarray(sound, np.float32)
      given["sound"] = np.broadcast_to(sound, (num, *sound.shape[-2:]))
    if text is not None:
      texts = [text] * num if isinstance(text, str) else text
      given |= _encoded(texts, signals, facts["text"], text_anyway)
    num_classes, names = facts["num_classes"], facts["class_names"]
    if label is not None:
      label = _number(str(label), num_classes, names)
      given["label"] = np.full(num, label, np.int32)
    elif num_classes and "label" not in given:
      given["label"] = np.arange(num, dtype=np.int32) % num_classes
    return given

  return tasks.Task(prepare=prepare, ask=ask)


def _of_source(
  num: int, source: Any, signals: Sequence[str]
) -> dict[str, np.ndarray]:
  """What `num` clips of a source are given, the clips in turn."""
  if source is None:
    flags = {"text": "text", "text_vectors": "text", "sound": "sound"}
    raise errors.UserError(
      f"Clips of this run are made of {' and '.join(signals)}: with "
      "`vidgan generate`, --from-data takes those of its held-out clips"
      + "".join(f", --{flags[k]} gives one" for k in flags if k in signals)
      + "."
    )
  examples = source.prepared(range(min(num, len(source))))
  index = np.arange(num) % len(examples)
  return {
    name: np.stack([example["given"][name] for example in examples])[index]
    for name in examples[0]["given"]
  }


def _encoded(
  texts: Sequence[str], signals: Sequence[str], encoder: Any, anyway: bool
) -> dict[str, np.ndarray]:
  """The texts as the signal of their encoder, (num, ...)."""
  if encoder is None or encoder.signal not in signals:
    raise errors.UserError(
      "A text is asked for, but this generator was trained without texts: set "
      "config.data.text='words' and config.task.options.signals=('text',), as "
      "configs/text.py does, and train anew."
    )
  for text in dict.fromkeys(texts):
    encoder.check(text, anyway)
  return {encoder.signal: encoder.encode(texts)}


def _number(text: str, num_classes: int, names: tuple[str, ...]) -> int:
  """A class by name or number."""
  if not num_classes:
    raise errors.UserError(
      "--label: this generator was trained without classes "
      "(config.model.num_classes is 0)."
    )
  if text in names:
    return names.index(text)
  if text.isdecimal() and int(text) < num_classes:
    return int(text)
  raise errors.UserError(
    f"--label {text}: there is no such class; the {num_classes} classes are 0 "
    f"to {num_classes - 1}" + (f" or {', '.join(names)}." if names else ".")
  )
