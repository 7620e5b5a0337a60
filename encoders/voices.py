"""Synthetic speech by espeak-ng: a table of voices that differ in speaker, accent, speed and pitch."""

import math
import pathlib
import re
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy.signal


# Below this share of the loudest sample there is no speech yet, or no longer.
_SILENCE = 0.005


class Voice(NamedTuple):
    """How a text is spoken.

    Attributes:
      accent: espeak-ng's voice of a language, such as `en-us`.
      variant: espeak-ng's variant, which is the speaker: it sets timbre and range.
      words_per_minute: speed.
      pitch: 0 to 99; 50 is the variant's own.
    """

    accent: str
    variant: str
    words_per_minute: int
    pitch: int

    @property
    def name(self) -> str:
        """All of it in one word, fit for a file."""
        return f"{self.accent}+{self.variant}_{self.words_per_minute}_{self.pitch}"


_ACCENTS = "en-us en-gb en-gb-scotland en-029 en-gb-x-rp en-gb-x-gbclan en-gb-x-gbcwmd".split()
# Speakers, no two alike; whispers, robots and jokes are left out.
_VARIANTS = (
    "f1 f2 f3 f4 f5 m1 m2 m3 m4 m5 m6 m7 m8 Alicia Andrea Andy Annie Denis Gene Jacky Lee Marco Michael Storm "
    "adam belinda caleb edward grandma klatt linda steph"
).split()

VOICES = tuple(
    Voice(_ACCENTS[k % len(_ACCENTS)], variant, 130 + 10 * (3 * k % 5), 35 + 5 * (5 * k % 7))
    for k, variant in enumerate(_VARIANTS)
)


def check_voices(voices: Iterable[Voice], command: str = "espeak-ng") -> None:
    """Refuses variants that this espeak-ng lacks: it would speak them all in one default voice, without a word.

    Raises:
      FileNotFoundError: if there is no such command.
      ValueError: naming the variants.
    """
    if shutil.which(command) is None:
        raise FileNotFoundError(
            f"{command} is not installed; speech is made by espeak-ng: `apt-get install espeak-ng`, or give its "
            "path as the command"
        )
    listed = subprocess.run([command, "--voices=variant"], capture_output=True, text=True, check=True).stdout
    held = set(re.findall(r"!v/(\S+)", listed))
    if missing := sorted({voice.variant for voice in voices} - held):
        raise ValueError(f"{command} has no variant {', '.join(missing)}; it has {', '.join(sorted(held))}")


def speak(text: str, voice: Voice, sample_rate: int, command: str = "espeak-ng") -> np.ndarray:
    """Speaks a text, without the silence before and after it.

    Args:
      text: English.
      voice: of the table, or one of your own; `check_voices` says whether it is there.
      sample_rate: of the result, Hz.
      command: espeak-ng, or a program that takes its arguments.

    Returns:
      float32 `[N]` in [-1, 1].

    Raises:
      RuntimeError: if the command fails or gives no sound.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "speech.wav")
        arguments = ["-v", f"{voice.accent}+{voice.variant}", "-s", str(voice.words_per_minute)]
        arguments += ["-p", str(voice.pitch), "-w", str(path), "--stdin"]
        done = subprocess.run([command, *arguments], input=text, capture_output=True, text=True, check=False)
        if done.returncode or not path.is_file():
            reason = done.stderr.strip() or "it wrote nothing"
            raise RuntimeError(f"{command} could not speak {text!r} as {voice.name}: {reason}")
        with wave.open(str(path)) as sound:
            rate = sound.getframerate()
            samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16)
    heard = np.flatnonzero(np.abs(samples.astype(np.int32)) > _SILENCE * 32768)
    if not len(heard):
        raise RuntimeError(f"{command} gave no sound for {text!r} as {voice.name}")
    samples = samples[heard[0] : heard[-1] + 1].astype(np.float32) / 32768
    divisor = math.gcd(rate, sample_rate)
    return scipy.signal.resample_poly(samples, sample_rate // divisor, rate // divisor).clip(-1.0, 1.0)
