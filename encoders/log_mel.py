"""Log-mel spectrograms: the one front end of every network that hears."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class LogMel:
    """Waveforms to log-mel spectrograms; call it.

    Frames are windowed by a periodic Hann window. The filters are triangles of height 1 whose corners are even in the
    mel scale of HTK, 1127 ln(1 + f / 700); they weigh magnitudes, not powers, and none of them sees the constant part.

    Attributes:
      sample_rate: of the waveform, Hz.
      frame: samples of a frame.
      hop: samples from one frame's begin to the next one's.
      fft: samples that a frame is filled up to with zeros; None means `frame`.
      mels: filters.
      low: lower corner of the first filter, Hz.
      high: upper corner of the last one, Hz.
      gain: of the filters' sums before the logarithm, `log(offset + gain * sum)`.
      offset: see `gain`; with 1 silence is 0.
      pad_end: whether the waveform is filled up with zeros to `ceil(N / hop)` frames; else a last frame that is not
        full is left out.
      standardise: whether each spectrogram is shifted and scaled to mean 0 and standard deviation 1 over all its
        frames and filters; silence stays 0.
    """

    sample_rate: int
    frame: int
    hop: int
    fft: int | None = None
    mels: int = 80
    low: float = 80.0
    high: float = 7600.0
    gain: float = 1e4
    offset: float = 1.0
    pad_end: bool = True
    standardise: bool = False

    def __post_init__(self):
        for name in ("sample_rate", "frame", "hop", "mels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.fft is not None and self.fft < self.frame:
            raise ValueError(f"A frame of {self.frame} samples does not fit in fft={self.fft}.")
        if not 0 <= self.low < self.high <= self.sample_rate / 2:
            raise ValueError(
                f"Filters from {self.low} to {self.high} Hz: they must ascend and end at or below half the sample "
                f"rate, {self.sample_rate / 2:g} Hz. Lower `high`, or use a waveform of a higher rate."
            )
        if self.offset <= 0 or self.gain <= 0:
            raise ValueError(f"gain and offset must be above 0, not {self.gain} and {self.offset}.")

    def frames(self, samples: int) -> int:
        """How many frames a waveform of so many samples gives."""
        if self.pad_end:
            return -(-samples // self.hop)
        return max(0, 1 + (samples - self.frame) // self.hop)

    def __call__(self, waveform: jax.Array) -> jax.Array:
        """float `[..., N]` in [-1, 1] to float32 `[..., frames, mels]`.

        Raises:
          ValueError: for integers, or a waveform too short for one frame.
        """
        waveform = jnp.asarray(waveform)
        if not jnp.issubdtype(waveform.dtype, jnp.floating):
            raise ValueError(
                f"A waveform is floating, in [-1, 1], got {waveform.dtype}; 16-bit samples are divided by 32768."
            )
        count = self.frames(waveform.shape[-1]) if waveform.ndim else 0
        if count < 1:
            shortest = 1 if self.pad_end else self.frame
            raise ValueError(
                f"A waveform of shape {waveform.shape} is too short: [..., N] with N at least {shortest} gives a frame."
            )
        missing = max(0, (count - 1) * self.hop + self.frame - waveform.shape[-1])
        filled = jnp.pad(waveform.astype(jnp.float32), [(0, 0)] * (waveform.ndim - 1) + [(0, missing)])
        places = self.hop * np.arange(count)[:, None] + np.arange(self.frame)
        spectrum = jnp.abs(jnp.fft.rfft(filled[..., places] * _hann(self.frame), self.fft or self.frame))
        # An accelerator's matrix products round to 10 bits or fewer by default, which the logarithm shows.
        sums = jnp.matmul(spectrum, _filters(self), precision=jax.lax.Precision.HIGHEST)
        x = jnp.log(self.offset + self.gain * sums)
        if not self.standardise:
            return x
        x = x - jnp.mean(x, axis=(-2, -1), keepdims=True)
        # The root of the maximum, not the maximum of the root: the gradient of silence is 0 and not NaN.
        return x * jax.lax.rsqrt(jnp.maximum(jnp.mean(x * x, axis=(-2, -1), keepdims=True), 1e-10))


def _hann(size: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


@functools.lru_cache(maxsize=32)
def _filters(settings: LogMel) -> np.ndarray:
    """float32 `[bins, mels]`."""

    def mel(hertz):
        return 1127 * np.log1p(np.asarray(hertz) / 700)

    size = settings.fft or settings.frame
    bins = mel(np.arange(size // 2 + 1) * settings.sample_rate / size)[:, None]
    corners = np.linspace(mel(settings.low), mel(settings.high), settings.mels + 2)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    weights = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
    weights[0] = 0
    return np.maximum(weights, 0).astype(np.float32)


HARES_16K = LogMel(16_000, frame=400, hop=160, fft=512, standardise=True)
"""HARES's front end (Wang et al. 2021, arXiv 2111.12124, section 3 and appendix C): 16 kHz, 25 ms frames every 10 ms,
80 mels, each spectrogram standardised by its own mean and standard deviation. Three seconds give 300 frames.

The paper leaves these open; they are ours: 512 points of FFT, filters from 80 to 7600 Hz, magnitudes, log(1 + 1e4 x),
zeros at the end (all but the first as in BraVe, of the same group).
"""

BRAVE_48K = LogMel(48_000, frame=320, hop=160)
"""BraVe's front end (Recasens et al. 2021, arXiv 2103.16559), as its published code computes it: 48 kHz, 6.7 ms frames
every 3.3 ms. Bins are 150 Hz apart, so 16 of the 80 filters hold none and are always 0.
"""
