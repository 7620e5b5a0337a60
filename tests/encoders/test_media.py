"""Decoding against files whose every second is known, written here by PyAV itself."""

import subprocess
import sys

import numpy as np
import pytest
from limbeck.encoders import media
from limbeck.encoders.media import MediaError
from PIL import Image


av = pytest.importorskip("av", reason="needs the extra `media`")

RATE = 44100
COLOURS = ((220, 30, 30), (30, 200, 40), (40, 50, 230))
FPS = 10


def sine(frequency, seconds, rate=RATE, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def peak_hz(samples, rate):
    return np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * rate / len(samples)


def write(path, sound=None, pictures=None, codecs=("pcm_s16le", "mpeg4"), rate=RATE):
    """A file of `sound`, float `[channels, N]`, and `pictures`, uint8 `[T, H, W, 3]` at 10 a second."""
    with av.open(str(path), "w") as container:
        audio = video = None
        if sound is not None:
            layout = {1: "mono", 2: "stereo"}[len(sound)]
            audio = container.add_stream(codecs[0], rate=rate, layout=layout)
        if pictures is not None:
            video = container.add_stream(codecs[1], rate=FPS, bit_rate=2_000_000)
            video.height, video.width = pictures.shape[1:3]
            video.pix_fmt = "yuv420p"
        if audio is not None:
            samples = np.ascontiguousarray(sound, np.float32)
            for first in range(0, samples.shape[1], 1024):
                frame = av.AudioFrame.from_ndarray(samples[:, first : first + 1024].copy(), "fltp", layout)
                frame.sample_rate, frame.pts = rate, first
                for fitting in av.AudioResampler(audio.format, layout, rate).resample(frame):
                    container.mux(audio.encode(fitting))
            container.mux(audio.encode(None))
        if video is not None:
            for k, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
                frame.pts = k
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
    return path


def film(seconds_each=1.0, height=48, width=64):
    frames = [np.full((height, width, 3), colour, np.uint8) for colour in COLOURS]
    return np.repeat(np.stack(frames), round(seconds_each * FPS), axis=0)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("wav", "pcm_s16le"), ("flac", "flac"), ("mp4", "aac"), ("mkv", "mp2")]
)
def test_a_sine_keeps_its_frequency_and_its_place(tmp_path, suffix, codec):
    """Second 0 to 1 is 440 Hz, 1 to 2 is 1000 Hz, whatever the container and the new rate."""
    sound = np.concatenate([sine(440, 1), sine(1000, 1)])[None]
    path = write(tmp_path / f"tones.{suffix}", sound, codecs=(codec, ""))
    whole = media.read_audio(path, 16000)
    assert whole.dtype == np.float32 and len(whole) == pytest.approx(32000, abs=1600)
    assert np.abs(whole[2000:14000]).max() == pytest.approx(0.5, abs=0.05)
    assert peak_hz(whole[2000:14000], 16000) == pytest.approx(440, abs=3)
    later = media.read_audio(path, 8000, start_s=1.1, duration_s=0.8)
    assert later.shape == (6400,)
    assert peak_hz(later, 8000) == pytest.approx(1000, abs=3)
    # The change of tone, half a second into this part: the high tone's energy begins there.
    around = media.read_audio(path, 16000, start_s=0.5, duration_s=1.0)
    blocks = around.reshape(40, 400)
    high = [peak_hz(block, 16000) > 700 for block in blocks]
    assert abs(int(np.argmax(high)) - 20) <= 1 and all(high[22:])


def test_a_part_is_the_same_samples_as_in_the_whole(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 3 * RATE))
    path = write(tmp_path / "noise.wav", noise)
    whole = media.read_audio(path, RATE)
    np.testing.assert_allclose(whole, noise[0], atol=1e-4)
    for start_s in (0.0, 0.25, 1.3, 2.9):
        part = media.read_audio(path, RATE, start_s, 0.1)
        np.testing.assert_array_equal(part, whole[round(start_s * RATE) :][: RATE // 10])
    resampled = media.read_audio(path, 16000)
    np.testing.assert_allclose(media.read_audio(path, 16000, 1.25, 0.5), resampled[20000:28000], atol=2e-3)


def test_after_the_end_there_is_silence_but_not_only_silence(tmp_path):
    path = write(tmp_path / "short.wav", sine(440, 1)[None])
    part = media.read_audio(path, 8000, start_s=0.5, duration_s=2.0)
    assert part.shape == (16000,)
    assert np.abs(part[:3900]).max() > 0.4 and not part[4100:].any()
    with pytest.raises(MediaError, match=r"short\.wav has no sound after second 3"):
        media.read_audio(path, 8000, start_s=3.0, duration_s=1.0)


def test_a_gap_in_the_sound_is_silence(tmp_path):
    """Half a second of sound, one that the file leaves out, and another half."""
    path = tmp_path / "gap.mkv"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for first in (*range(0, 4000, 400), *range(12000, 16000, 400)):
            frame = av.AudioFrame.from_ndarray(np.full((1, 400), 16384, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 8000, first
            container.mux(audio.encode(frame))
    sound = media.read_audio(path, 8000)
    expected = np.repeat([0.5, 0.0, 0.0, 0.5], 4000)
    np.testing.assert_allclose(sound, expected, atol=1e-3)


def test_nothing_is_louder_than_full_scale(tmp_path):
    """A full-scale square wave swings past its edges when it is resampled."""
    square = np.sign(sine(441.0, 1) + 1e-9)[None]
    sound = media.read_audio(write(tmp_path / "square.wav", 0.999 * square), 16000)
    assert np.abs(sound).max() == 1.0


def test_channels_become_their_mean(tmp_path):
    left, right = sine(440, 1, amplitude=0.6), np.full(RATE, 0.2)
    path = write(tmp_path / "stereo.wav", np.stack([left, right]))
    np.testing.assert_allclose(media.read_audio(path, RATE), (left + right) / 2, atol=1e-3)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("avi", "mpeg4"), ("mp4", "mpeg4"), ("mkv", "ffv1"), ("ts", "mpeg2video")]
)
def test_colours_at_their_seconds(tmp_path, suffix, codec):
    # MPEG-2 knows only the rates of television. Its transport streams have no index and do not begin at 0.
    path = write_film(tmp_path / f"film.{suffix}", codec, rate=25 if suffix == "ts" else FPS)
    whole = media.read_video(path, fps=5, size=(24, 32))
    assert whole.shape == (15, 24, 32, 3) and whole.dtype == np.uint8
    for k, picture in enumerate(whole):
        np.testing.assert_allclose(picture.mean((0, 1)), COLOURS[k // 5], atol=8)
    # Before a change, after it, and past the end, where the last picture stands still.
    for start_s, expected in ((0.8, [0, 1]), (1.8, [1, 2]), (2.8, [2, 2]), (0.0, [0, 0])):
        part = media.read_video(path, fps=5, size=(24, 32), start_s=start_s, duration_s=0.4)
        assert part.shape == (2, 24, 32, 3)
        for picture, colour in zip(part, expected, strict=True):
            np.testing.assert_allclose(picture.mean((0, 1)), COLOURS[colour], atol=8)
    with pytest.raises(MediaError, match="no film after second 7"):
        media.read_video(path, fps=5, size=(24, 32), start_s=7.0, duration_s=0.4)


def write_film(path, codec, rate):
    pictures = np.repeat(film(1 / FPS), rate, axis=0)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate, bit_rate=2_000_000)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame.pts = k
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def test_a_seek_that_lands_late_is_made_again(tmp_path):
    """Ten frames of each grey, four seconds from one key frame to the next, no index: second 3 is still frame 75."""
    path = tmp_path / "greys.ts"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg2video", rate=25)
        video.height, video.width, video.pix_fmt, video.gop_size = 48, 64, "yuv420p", 100
        for k in range(200):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 12 * (k // 10), np.uint8), "rgb24")
            frame.pts = k
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    read = media.read_video(path, fps=25, size=(24, 32), start_s=3.0, duration_s=0.4)
    np.testing.assert_allclose(read.mean((1, 2, 3)), [84] * 5 + [96] * 5, atol=4)


def test_more_frames_than_the_file_has_are_repeated(tmp_path):
    """Greys 0, 80, 160 at 10 a second, read at 20 a second: each twice."""
    greys = np.uint8([0, 80, 160])
    path = write(
        tmp_path / "greys.mkv",
        pictures=np.broadcast_to(greys[:, None, None, None], (3, 48, 64, 3)),
        codecs=("", "ffv1"),
    )
    read = media.read_video(path, fps=20, size=(48, 64))
    np.testing.assert_allclose(read.mean((1, 2, 3)), [0, 0, 80, 80, 160, 160], atol=3)


def test_frames_cover_the_size_and_keep_their_middle(tmp_path):
    """A wide frame, black but for a white square in its middle: the square stays square, the sides go."""
    picture = np.zeros((1, 64, 192, 3), np.uint8)
    picture[:, 16:48, 80:112] = 255
    path = write(tmp_path / "wide.mkv", pictures=picture, codecs=("", "ffv1"))
    (read,) = media.read_video(path, fps=10, size=(32, 32))
    expected = np.zeros((32, 32))
    expected[8:24, 8:24] = 255
    np.testing.assert_allclose(read.mean(2), expected, atol=12)


def read_both(path, fps, start_s, duration_s):
    return (
        media.read_video(path, fps, (48, 64), start_s, duration_s),
        media.read_audio(path, 16000, start_s, duration_s),
    )


@pytest.mark.parametrize(
    ("suffix", "codecs"),
    [("mkv", ("flac", "ffv1")), ("mp4", ("aac", "mpeg4")), ("avi", ("pcm_s16le", "mpeg4"))],
)
@pytest.mark.parametrize("start_s", [0.0, 1.15])
def test_a_flash_and_a_click_stay_together(tmp_path, suffix, codecs, start_s):
    sound = np.zeros((1, 3 * RATE))
    sound[0, 2 * RATE : 2 * RATE + 400] = 0.9
    pictures = np.zeros((3 * FPS, 48, 64, 3), np.uint8)
    pictures[20] = 255
    path = write(tmp_path / f"flash.{suffix}", sound, pictures, codecs)
    seen, heard = read_both(path, 20.0, start_s, 1.6)
    if start_s == 0.0:
        assert seen.mean() < 5 and np.abs(heard).max() < 0.05
        seen, heard = read_both(path, 20.0, start_s, 2.5)
    flash_s = np.argmax(seen.mean((1, 2, 3)) > 128) / 20
    click_s = np.argmax(np.abs(heard) > 0.3) / 16000
    assert flash_s == pytest.approx(2.0 - start_s, abs=0.051)
    assert click_s == pytest.approx(2.0 - start_s, abs=0.005)


def test_streams_that_begin_at_different_times_share_one_clock(tmp_path):
    """The film begins half a second after the sound: the flash of its first frame is heard then."""
    sound = np.zeros((1, 2 * RATE))
    sound[0, RATE // 2 : RATE // 2 + 400] = 0.9
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("flac", rate=RATE, layout="mono")
        video = container.add_stream("ffv1", rate=FPS)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        frame = av.AudioFrame.from_ndarray((sound * 32767).astype(np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = RATE, 0
        packets = list(audio.encode(frame)) + list(audio.encode(None))
        for k in range(10):
            picture = np.full((48, 64, 3), 255 if k == 2 else 0, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = k + 5
            packets += video.encode(frame)
        packets += video.encode(None)
        for packet in sorted(packets, key=lambda packet: float(packet.pts * packet.time_base)):
            container.mux(packet)
    seen, heard = read_both(path, 10.0, 0.0, 1.5)
    assert np.argmax(np.abs(heard) > 0.3) / 16000 == pytest.approx(0.5, abs=0.005)
    assert np.argmax(seen.mean((1, 2, 3)) > 128) == 7


def test_pictures_are_whole_and_on_white(tmp_path):
    """A wide picture, half transparent: white bands above and below, white where nothing is drawn."""
    drawn = np.zeros((20, 40, 4), np.uint8)
    drawn[:, :20] = (200, 0, 0, 255)
    drawn[:, 20:] = (0, 0, 200, 0)
    Image.fromarray(drawn).save(tmp_path / "half.png")
    (tmp_path / "half.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="40pt" height="20pt">'
        '<rect width="26.667" height="30" fill="#c80000"/></svg>'
    )
    expected = np.full((32, 32, 3), 255)
    expected[8:24, :16] = (200, 0, 0)
    # Beside the edge, where bicubic weights mix.
    sure = np.ones((32, 32, 1), bool)
    sure[7:25, 13:19] = sure[6:10] = sure[22:26] = False
    np.testing.assert_allclose(
        media.read_picture(tmp_path / "half.png", (32, 32)) * sure, expected * sure, atol=2
    )
    pytest.importorskip("resvg_py", reason="needs the extra `media`")
    np.testing.assert_allclose(
        media.read_picture(tmp_path / "half.svg", (32, 32)) * sure, expected * sure, atol=2
    )


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_pictures_that_cannot_be_read(tmp_path, suffix):
    if suffix == "svg":
        pytest.importorskip("resvg_py", reason="needs the extra `media`")
    with pytest.raises(FileNotFoundError, match=f"none.{suffix} does not exist"):
        media.read_picture(tmp_path / f"none.{suffix}", (8, 8))
    (tmp_path / f"bad.{suffix}").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(MediaError, match=f"bad.{suffix} is not a picture"):
        media.read_picture(tmp_path / f"bad.{suffix}", (8, 8))


def test_files_that_cannot_be_read(tmp_path):
    readers = (
        lambda path: media.read_audio(path, 8000),
        lambda path: media.read_video(path, 5, (8, 8)),
        media.read_duration_s,
    )
    (tmp_path / "bad.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    for read in readers:
        with pytest.raises(FileNotFoundError, match=r"none\.mp4 does not exist"):
            read(tmp_path / "none.mp4")
        with pytest.raises(MediaError, match=r"bad\.mp4 cannot be decoded") as caught:
            read(tmp_path / "bad.mp4")
        assert "\n" not in str(caught.value)
    sound = write(tmp_path / "sound.wav", sine(440, 0.5)[None])
    with pytest.raises(MediaError, match=r"sound\.wav has no video stream; it has audio"):
        media.read_video(sound, 5, (8, 8))
    silent = write(tmp_path / "silent.avi", pictures=film(0.2))
    with pytest.raises(MediaError, match=r"silent\.avi has no audio stream; it has video"):
        media.read_audio(silent, 8000)
    for settings in ((0, 0.0, None), (8000, -1.0, None), (8000, 0.0, 0.0)):
        with pytest.raises(ValueError, match="expected"):
            media.read_audio(sound, *settings)


def test_a_file_cut_short_says_so(tmp_path):
    whole = write(tmp_path / "whole.mp4", sine(440, 1)[None], film(0.5), ("aac", "mpeg4")).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match=r"cut\.mp4 cannot be decoded"):
        media.read_audio(tmp_path / "cut.mp4", 8000)


def test_a_file_lasts_as_long_as_its_shortest_stream(tmp_path):
    sound = sine(440, 1.5)[None]
    assert media.read_duration_s(write(tmp_path / "sound.wav", sound)) == pytest.approx(1.5, abs=1e-3)
    both = write(tmp_path / "both.mp4", sound, film(0.3), ("aac", "mpeg4"))
    assert media.read_duration_s(both) == pytest.approx(0.9, abs=0.03)
    film_only = write(tmp_path / "film.mkv", pictures=film(0.3), codecs=("", "ffv1"))
    assert media.read_duration_s(film_only) == pytest.approx(0.9, abs=0.01)


def test_without_the_extra_only_opening_fails(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from limbeck.encoders import media\n"
        f"media.read_audio({str(tmp_path / 'a.wav')!r}, 8000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "ImportError: media files need the extra `media`: pip install"
    )
