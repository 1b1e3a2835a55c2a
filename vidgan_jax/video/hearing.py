"""Sounds that stages follow: of the film itself, or of a file of its own.

A file's sound is also that of the result, in place of the film's.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import numpy as np

from vidgan_jax.video import kept
from vidgan_jax.video import pieces as pieces_lib
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import sound
from vidgan_jax.video import soundtrack
from vidgan_jax.video import stream

_SILENT = 10 ** (-50 / 20)  # of full scale
_CLOSE = 0.02  # seconds; half a frame


def voiced(stages: list[Any], options: plan.Options) -> plan.Options:
  """The options with the file whose sound a stage follows, if one does.

  Raises:
    read.VideoError: stages follow several.
  """
  voices = {s.voice for s in stages if _hears(s) and s.voice.path}
  if len(voices) > 1:
    names = ", ".join(sorted(voice.path for voice in voices))
    raise read.VideoError(
      f"{names}: stages follow different sounds, but the result has one: give"
      " all the same"
    )
  for voice in voices:
    options = dataclasses.replace(
      options, voice=voice.path, voice_offset=voice.offset
    )
  return options


def heard(
  stages: list[Any],
  pieces: pieces_lib.Pieces,
  options: plan.Options,
  tell: Callable[[str], None],
) -> list[Any]:
  """The stages, each with the sound that it follows; tells what that lacks.

  Raises:
    read.VideoError: there is no sound.
  """
  return [
    s.hear(_wave(s, pieces, options, tell)) if _hears(s) else s for s in stages
  ]


def streams(
  options: plan.Options, container: str, tell: Callable[[str], None]
) -> list[soundtrack.Voice]:
  """The sound that the result has in place of the film's, if it can."""
  if not (options.voice and options.sound):
    return []
  voice = soundtrack.Voice(options.voice, options.voice_offset)
  if container in kept.PICTURES or sound.encoder(container, voice) is None:
    tell(f"{options.voice}: {container} cannot hold its sound: left out")
    return []
  return [voice]


def _hears(stage: Any) -> bool:
  return isinstance(stage, stream.Stage) and bool(stage.voice and stage.pixels)


def _wave(
  stage: stream.Stage,
  pieces: pieces_lib.Pieces,
  options: plan.Options,
  tell: Callable[[str], None],
) -> np.ndarray:
  """What a stage hears: (S,) from the time 0 of the output on."""
  voice, path = stage.voice, stage.voice.path
  if path:
    wave = sound.decode(path, voice.rate)
    _tell_length(voice, len(wave) / voice.rate, float(pieces.length), tell)
    begin = round(voice.offset * voice.rate)
    wave = np.pad(wave, (begin, 0)) if begin > 0 else wave[-begin:]
  else:
    path = pieces.sources[0].path
    try:
      wave = _own(pieces, options, voice.rate)
    except read.VideoError as error:
      raise read.VideoError(
        f"{error}. {stage.name} follows a sound: give one, as"
        f" {stage.name}:sound=speech.wav"
      ) from None
  if np.abs(wave).max(initial=0.0) < _SILENT:
    tell(f"{path}: its sound is silence, so nothing follows it")
  return wave


def _tell_length(
  voice: stream.Voice,
  seconds: float,
  film: float,
  tell: Callable[[str], None],
) -> None:
  """Says that a sound is shorter or longer than the film."""
  over = voice.offset + seconds - film
  if abs(over) < _CLOSE:
    return
  begin = f" from {voice.offset:g} s on" if voice.offset else ""
  tell(
    f"{voice.path}: {seconds:.2f} s of sound{begin} for {film:.2f} s of film: "
    + ("what is longer is cut" if over > 0 else "the end is silent")
  )


def _own(
  pieces: pieces_lib.Pieces, options: plan.Options, rate: int
) -> np.ndarray:
  """The sound of a film of one piece, from the time 0 of the output on."""
  [piece, *more] = pieces.pieces
  source = piece.source
  if source.live or more or options.reverse:
    raise read.VideoError(
      f"{source.path}: its sound cannot be followed here: that is for one file"
      " or one range of it, not reversed"
    )
  wave = sound.decode(source.path, rate)
  begin = piece.start
  if piece.begin is not None:  # The output begins with a picture.
    base = source.reader.stream.time_base
    begin += read.seconds(source.picture.pts, base) - source.origin
  return wave[round(begin * rate) :]
