"""Sound, film and pictures from files, decoded by PyAV (the FFmpeg libraries), in seconds on one clock per file.

Second 0 is where the earliest stream of a file begins, for every stream of it: what is read from the sound and from
the film at the same second was recorded together. Nothing here needs PyAV until a file is opened.
"""

import contextlib
import io
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image


Path = str | os.PathLike[str]

# What is decoded and thrown away before a later start: codecs with memory need it to settle, as does the resampler.
_PREROLL_S = 0.5
# Some containers round times to a millisecond. Only a larger jump is a gap in the sound.
_GAP_S = 0.05
_EPSILON_S = 1e-6
# Lengths in SVG may be in points; this is what CSS takes a point to be.
_SVG_DPI = 96.0


class MediaError(ValueError):
    """A file that is damaged, lacks the stream asked for, or ends before the part asked for."""


def read_audio(
    path: Path, sample_rate: int, start_s: float = 0.0, duration_s: float | None = None
) -> np.ndarray:
    """Reads the first sound stream, resampled; several channels become their mean.

    Args:
      path: of a file of any kind that FFmpeg knows.
      sample_rate: of the result, Hz.
      start_s: second of the file that the result begins at.
      duration_s: length of the result; where the file has no sound it is silent. None reads to the sound's end.

    Returns:
      float32 `[N]` in [-1, 1], `N = round(duration_s * sample_rate)`.

    Raises:
      FileNotFoundError: if there is no such file.
      MediaError: if it cannot be decoded, has no sound, or none after `start_s`.
    """
    count = _count(path, sample_rate, start_s, duration_s)
    start = round(start_s * sample_rate)
    parts: list[tuple[int, np.ndarray]] = []
    position = 0
    with _opened(path, "audio") as (container, stream, origin_s):
        frames = _frames(container, stream, start_s - _PREROLL_S, origin_s)
        for frame in _resampled(frames, sample_rate):
            samples = frame.to_ndarray().mean(axis=0)
            begin = position if frame.time is None else round((frame.time - origin_s) * sample_rate)
            if not parts or abs(begin - position) > _GAP_S * sample_rate:
                position = begin
            parts.append((position - start, samples))
            position += len(samples)
            if count is not None and position >= start + count:
                break
    end = max((place + len(samples) for place, samples in parts), default=0)
    if end <= 0:
        raise MediaError(f"{os.fspath(path)} has no sound after second {start_s:g}.")
    wave = np.zeros(end if count is None else count, np.float32)
    for place, samples in parts:
        first, after = max(place, 0), min(place + len(samples), len(wave))
        if first < after:
            wave[first:after] = samples[first - place : after - place]
    # A resampler swings past the largest sample at steep edges.
    return wave.clip(-1.0, 1.0)


def read_video(
    path: Path, fps: float, size: tuple[int, int], start_s: float = 0.0, duration_s: float | None = None
) -> np.ndarray:
    """Reads the first film stream: picture k is the one on screen at second `start_s + k / fps`.

    Before a file's first frame that one is taken, after its last frame the last. Frames are scaled until they cover
    `size`, and cropped in the middle; pixels are taken as square, and rotation marks are not followed.

    Args:
      path: of a file of any kind that FFmpeg knows.
      fps: frames of the result in a second.
      size: its height and width, pixels.
      start_s: second of the file that the result begins at.
      duration_s: length of the result. None reads to the film's end.

    Returns:
      uint8 `[T, H, W, 3]`, RGB, `T = round(duration_s * fps)`.

    Raises:
      FileNotFoundError: if there is no such file.
      MediaError: if it cannot be decoded, has no film, or none after `start_s`.
    """
    count = _count(path, fps, start_s, duration_s)
    pictures: list[np.ndarray] = []
    shown, end_s = None, -math.inf
    with _opened(path, "video") as (container, stream, origin_s):
        length_s = 1 / float(stream.average_rate or fps)

        def show_until(second: float) -> None:
            due = math.ceil((second - _EPSILON_S - start_s) * fps)
            missing = (due if count is None else min(due, count)) - len(pictures)
            if missing > 0:
                pictures.extend([_cover(shown, size)] * missing)

        for frame in _frames(container, stream, start_s, origin_s):
            begin_s = end_s if frame.time is None else frame.time - origin_s
            if shown is not None:
                show_until(begin_s)
            if len(pictures) == count:
                break
            shown = frame
            end_s = max(begin_s, 0.0) + length_s
        if end_s <= start_s:
            raise MediaError(f"{os.fspath(path)} has no film after second {start_s:g}.")
        show_until(end_s if duration_s is None else start_s + duration_s)
    return np.stack(pictures)


def read_picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Reads a picture whole: scaled until it fits into `size`, in the middle of white.

    Args:
      path: of a picture that Pillow reads, or of an SVG, which resvg draws.
      size: height and width of the result, pixels.

    Returns:
      uint8 `[H, W, 3]`, RGB; what is transparent is white.

    Raises:
      FileNotFoundError: if there is no such file.
      MediaError: if it cannot be read.
    """
    height, width = size
    try:
        is_svg = os.fspath(path).lower().endswith(".svg")
        with Image.open(_drawn(path, size) if is_svg else path) as opened:
            picture = opened.convert("RGBA")
    except FileNotFoundError:
        raise FileNotFoundError(f"{os.fspath(path)} does not exist.") from None
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's damaged PNG is a SyntaxError.
        raise MediaError(f"{os.fspath(path)} is not a picture that can be read: {error}") from error
    scale = min(height / picture.height, width / picture.width)
    fitted = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    picture = picture.resize(fitted, Image.Resampling.BICUBIC)
    paper = Image.new("RGBA", (width, height), "white")
    paper.alpha_composite(picture, ((width - fitted[0]) // 2, (height - fitted[1]) // 2))
    return np.asarray(paper.convert("RGB"))


def read_duration_s(path: Path) -> float:
    """Seconds until the first of a file's streams ends, as far as the file's head says when they do.

    Raises:
      FileNotFoundError: if there is no such file.
      MediaError: if it cannot be opened or says nothing.
    """
    with _opened(path) as (container, _, origin_s):
        ends_s = [
            float(((stream.start_time or 0) + stream.duration) * stream.time_base) - origin_s
            for stream in (*container.streams.audio, *container.streams.video)
            if stream.duration is not None
        ]
        if container.duration is not None:
            ends_s.append(container.duration / 1e6)
    if not ends_s:
        raise MediaError(f"{os.fspath(path)} does not say how long it is.")
    return min(ends_s)


def _count(path: Path, rate: float, start_s: float, duration_s: float | None) -> int | None:
    if rate <= 0 or start_s < 0 or (duration_s is not None and round(duration_s * rate) < 1):
        raise ValueError(
            f"{os.fspath(path)}: a rate above 0, a start from 0 on and a duration of one sample or more are "
            f"expected, not rate {rate}, start_s {start_s}, duration_s {duration_s}"
        )
    return None if duration_s is None else round(duration_s * rate)


@contextlib.contextmanager
def _opened(path: Path, kind: str | None = None) -> Iterator[tuple[Any, Any, float]]:
    """An open file, its first stream of a kind, and the time stamp of its second 0."""
    try:
        import av
    except ImportError as error:
        raise ImportError(
            f"media files need the extra `media`: pip install 'limbeck[media]' ({error})"
        ) from error
    name = os.fspath(path)
    if not pathlib.Path(name).is_file():
        raise FileNotFoundError(f"{name} does not exist.")
    try:
        with av.open(name) as container:
            streams = [stream for stream in container.streams if stream.type == kind]
            if kind is not None and not streams:
                held = sorted({stream.type for stream in container.streams})
                raise MediaError(f"{name} has no {kind} stream; it has {', '.join(held) or 'none at all'}.")
            yield container, streams[0] if streams else None, (container.start_time or 0) / 1e6
    except av.FFmpegError as error:
        raise MediaError(f"{name} cannot be decoded: {error.strerror}") from error


def _frames(container: Any, stream: Any, start_s: float, origin_s: float) -> Iterator[Any]:
    """Decoded frames, from one that begins at or before `start_s` where there is one."""
    if start_s > 0:
        container.seek(int((start_s + origin_s) / stream.time_base), stream=stream)
        decoded = container.decode(stream)
        first = next(decoded, None)
        # Streams without an index may land late, or past their end.
        if first is not None and first.time is not None and first.time - origin_s <= start_s + _EPSILON_S:
            yield first
            yield from decoded
            return
        container.seek(container.start_time or 0)
    yield from container.decode(stream)


def _resampled(frames: Iterator[Any], sample_rate: int) -> Iterator[Any]:
    import av

    resampler = av.AudioResampler(format="fltp", rate=sample_rate)
    begun = False
    for frame in frames:
        begun = True
        yield from resampler.resample(frame)
    if begun:
        yield from resampler.resample(None)


def _cover(frame: Any, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    scale = max(height / frame.height, width / frame.width)
    rows, columns = max(round(frame.height * scale), height), max(round(frame.width * scale), width)
    scaled = frame.reformat(
        width=columns, height=rows, format="rgb24", interpolation="AREA" if scale < 1 else "BICUBIC"
    ).to_ndarray()
    top, left = (rows - height) // 2, (columns - width) // 2
    return scaled[top : top + height, left : left + width]


def _drawn(path: Path, size: tuple[int, int]) -> io.BytesIO:
    """An SVG as a PNG that fits into `size`."""
    try:
        import resvg_py
    except ImportError as error:
        raise ImportError(
            f"SVG pictures need the extra `media`: pip install 'limbeck[media]' ({error})"
        ) from error
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError
    height, width = size
    drawn = resvg_py.svg_to_bytes(svg_path=os.fspath(path), width=width, height=height, dpi=_SVG_DPI)
    return io.BytesIO(bytes(drawn))
