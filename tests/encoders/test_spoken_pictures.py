"""Spoken pictures from a miniature folder of stamps and a program in espeak-ng's place, and from the real ones."""

import collections
import json
import pathlib
import shutil
import sys
import wave

import numpy as np
import pytest
from limbeck.encoders import spoken_pictures
from limbeck.encoders.spoken_pictures import load, prepare, split_groups
from limbeck.encoders.stamps import DEBIAN_STAMPS, read_stamps, short_name
from limbeck.encoders.voices import VOICES, Voice, check_voices, speak
from PIL import Image


COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}
# Key, first line of the text, colour.
STAMPS = (
    ("animals/birds/owl", "An owl.", "red"),
    ("animals/birds/owl2", "An owl.", "green"),
    ("animals/dog", "A dog!", "blue"),
    ("food/apple", "A red apple.", "red"),
    ("food/essay", "An apple that has a worm in it.", "green"),
    ("food/coin", "A coin of 5 cents ($.05).", "green"),
    ("plants/oak", "“Oak”.", "blue"),
)
VOICE_TABLE = (Voice("en-us", "f1", 150, 50), Voice("en-us", "m1", 150, 50), Voice("en-gb", "m1", 120, 30))
SETTINGS = {"size": 16, "sample_rate": 8000, "seconds": 0.5, "voices": VOICE_TABLE}

# Says a text as a tone of 100 Hz per letter (200 Hz for m1), between silences; logs what it was called with.
FAKE = """#!{python} -S
import array, math, sys, wave
log = {log!r}
arguments = sys.argv[1:]
if arguments == ["--voices=variant"]:
    print("Pty Language Age/Gender VoiceName File\\n 5  variant 70/F female1 !v/f1\\n 5  variant 70/M male1 !v/m1")
    sys.exit()
options = dict(zip(arguments[:-1:2], arguments[1:-1:2]))
assert arguments[-1] == "--stdin" and set(options) == {{"-v", "-s", "-p", "-w"}}, arguments
text = sys.stdin.read()
with open(log, "a") as file:
    print(options["-v"], options["-s"], options["-p"], text, file=file)
if text == "oak" and {fails}:
    sys.exit("no tongue for trees")
hertz = (200 if options["-v"].endswith("m1") else 100) * len(text)
tone = [int(16000 * math.sin(2 * math.pi * hertz * n / 22050)) for n in range(22050 // 4)]
with wave.open(options["-w"], "wb") as out:
    out.setnchannels(1), out.setsampwidth(2), out.setframerate(22050)
    out.writeframes(array.array("h", [0] * 5000 + tone + [0] * 5000).tobytes())
"""


@pytest.fixture(scope="module")
def stamps(tmp_path_factory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("stamps")
    for key, text, colour in STAMPS:
        path = root / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.zeros((20, 20, 4), np.uint8)
        picture[5:15, 5:15] = (*COLOURS[colour], 255)
        Image.fromarray(picture).save(path)
        path.with_suffix(".txt").write_text(f"{text}\nfr.utf8=Nom de {path.stem}.\nca@valencia.utf8=x\n")
    (root / "animals/owl_without_text.png").touch()
    (root / "food/text_without_picture.txt").write_text("A ghost.\n")
    for name, hertz in (("animals/dog", 440), ("animals/dog_desc_fr", 880), ("food/apple_desc_fr", 1320)):
        with wave.open(str(root / f"{name}.wav"), "wb") as out:
            out.setparams((1, 2, 8000, 0, "NONE", ""))
            out.writeframes(
                (16000 * np.sin(2 * np.pi * hertz * np.arange(2400) / 8000)).astype(np.int16).tobytes()
            )
    return root


@pytest.fixture
def fake(tmp_path):
    """Makes the program; returns its path and that of its log."""

    def make(name="fake-espeak", fails=False):
        log = tmp_path / "calls.txt"
        program = tmp_path / name
        program.write_text(FAKE.format(python=sys.executable, log=str(log), fails=fails))
        program.chmod(0o755)
        return str(program), log

    return make


def hertz(samples, rate=8000):
    samples = samples[: np.flatnonzero(samples)[-1]]
    return np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8000))) * rate / 8000


def test_stamps(stamps):
    found = {stamp.key: stamp for stamp in read_stamps(stamps)}
    assert list(found) == sorted(key for key, _, _ in STAMPS)
    dog = found["animals/dog"]
    assert dog.category == "animals" and dog.picture == stamps / "animals/dog.png"
    assert dog.names == {"en": "A dog!", "fr": "Nom de dog.", "ca@valencia": "x"}
    assert dog.descriptions == {"fr": stamps / "animals/dog_desc_fr.wav"}
    assert dog.effect == stamps / "animals/dog.wav"
    assert found["animals/birds/owl"].category == "animals" and found["animals/birds/owl"].effect is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A great blue heron.", "great blue heron"),
        ("The letter A.", "letter a"),
        ("“T-intersection”.", "t-intersection"),
        ("Some cherries.", "cherries"),
        ("Another thing.", "another thing"),
        ("A singing dinosaur!", "singing dinosaur"),
        ("Six.", "six"),
        ("One two three four five.", None),
        ("A coin of 5 cents.", None),
        ("A “Fuji” apple.", None),
        ("!", None),
    ],
)
def test_short_names(text, name):
    assert short_name(text, max_words=4) == name


def test_what_is_prepared(stamps, fake, tmp_path):
    command, log = fake()
    made = prepare(tmp_path / "out", stamps, **SETTINGS, command=command)
    assert made.keys == (
        "animals/birds/owl",
        "animals/birds/owl2",
        "animals/dog",
        "food/apple",
        "plants/oak",
    )
    assert made.names == ("dog", "oak", "owl", "red apple") and made.name_ids.tolist() == [2, 2, 0, 3, 1]
    assert made.categories == ("animals", "food", "plants") and made.category_ids.tolist() == [0, 0, 0, 1, 2]
    assert made.pictures.shape == (5, 16, 16, 3) and made.pictures.dtype == np.uint8
    for picture, colour in zip(made.pictures, ("red", "green", "blue", "red", "blue"), strict=True):
        assert (picture[0] == 255).all() and (abs(picture[8, 8].astype(int) - COLOURS[colour]) < 8).all()
    # Each name once a voice, with that voice's settings.
    calls = collections.Counter(log.read_text().splitlines())
    spoken = ("dog", "oak", "owl", "red apple")
    settings = ("en-us+f1 150 50", "en-us+m1 150 50", "en-gb+m1 120 30")
    assert calls == {f"{setting} {name}": 1 for setting in settings for name in spoken}
    # Without the silence before it, at its tone, and silent after a quarter of a second.
    waves = made.waves([[0], [3]], [[0, 1, 2]])
    assert waves.shape == (2, 3, 4000) and waves.dtype == np.float32
    assert hertz(waves[0, 0]) == pytest.approx(300, abs=3) and hertz(waves[0, 2]) == pytest.approx(600, abs=3)
    assert hertz(waves[1, 1]) == pytest.approx(1800, abs=3)
    assert np.abs(waves[0, 0]).max() == pytest.approx(16000 / 32768, abs=0.02)
    assert np.abs(waves[0, 0, :50]).max() > 0.1 and not waves[..., 2100:].any()
    np.testing.assert_array_equal(made.waves(0, 0), made.waves(1, 0))


def test_recordings(stamps, tmp_path):
    pytest.importorskip("av", reason="recordings need the extra `media`")
    settings = SETTINGS | {"voices": (), "recordings": ("fr", "effect")}
    made = prepare(tmp_path / "out", stamps, **settings, command="no-such-program")
    assert made.with_recording("fr").tolist() == [2, 3] and made.with_recording("effect").tolist() == [2]
    assert hertz(made.recorded("fr", 3)) == pytest.approx(1320, abs=4)
    assert hertz(made.recorded("effect", 2)) == pytest.approx(440, abs=4)


def test_another_call_makes_only_what_is_missing(stamps, fake, tmp_path):
    command, log = fake()
    out = tmp_path / "out"
    first = prepare(out, stamps, **SETTINGS, command=command)
    kept = np.array(first.waves(np.arange(5)[:, None], np.arange(3)))
    voice = out / "voices" / f"{VOICE_TABLE[1].name}.npy"
    voice.write_bytes(voice.read_bytes()[:-10])  # Cut short.
    (out / "pictures.npy").unlink()
    log.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 2 of 4 files, such as pictures\.npy"):
        load(out)
    again = prepare(out, stamps, **SETTINGS, command=command)
    assert {line.split()[0] for line in log.read_text().splitlines()} == {"en-us+m1"}
    np.testing.assert_array_equal(again.waves(np.arange(5)[:, None], np.arange(3)), kept)
    np.testing.assert_array_equal(again.pictures, first.pictures)
    # When all is there espeak-ng is not even looked for.
    log.unlink()
    prepare(out, stamps, **SETTINGS, command="no-such-program")
    assert not log.exists()
    with pytest.raises(ValueError, match="other size, voices; use another folder"):
        prepare(out, stamps, **(SETTINGS | {"size": 8, "voices": VOICE_TABLE[:1]}), command=command)


def test_a_stop_in_the_middle_leaves_what_is_whole(stamps, fake, tmp_path):
    out = tmp_path / "out"
    command, _ = fake("broken", fails=True)
    with pytest.raises(RuntimeError, match="could not speak 'oak' as en-us.f1_150_50: no tongue for trees"):
        prepare(out, stamps, **SETTINGS, command=command)
    assert json.loads((out / "manifest.json").read_text())["names"] == [
        "owl",
        "owl",
        "dog",
        "red apple",
        "oak",
    ]
    assert not list((out / "voices").iterdir())
    command, _ = fake("sound")
    assert len(prepare(out, stamps, **SETTINGS, command=command).speech) == 3


def test_what_cannot_be_prepared(stamps, fake, tmp_path):
    command, _ = fake()
    out = tmp_path / "out"
    with pytest.raises(
        FileNotFoundError, match="no-such-program is not installed.*apt-get install espeak-ng"
    ):
        prepare(out, stamps, **SETTINGS, command="no-such-program")
    with pytest.raises(FileNotFoundError, match="has no stamps.*apt-get install tuxpaint-stamps-default"):
        prepare(out, tmp_path / "nothing", **SETTINGS, command=command)
    with pytest.raises(ValueError, match="no variant f9; it has f1, m1"):
        prepare(out, stamps, **(SETTINGS | {"voices": (Voice("en", "f9", 150, 50),)}), command=command)
    with pytest.raises(ValueError, match=r"no stamp has recordings of \['xx'\]"):
        prepare(out, stamps, **SETTINGS, recordings=("xx",), command=command)
    with pytest.raises(FileNotFoundError, match="English name of 0 words"):
        prepare(out, stamps, **SETTINGS, max_words=0, command=command)
    with pytest.raises(ValueError, match="at least a pixel and a sample"):
        prepare(out, stamps, **(SETTINGS | {"seconds": 0.0}), command=command)
    assert not out.exists()
    with pytest.raises(FileNotFoundError, match="has no spoken pictures"):
        load(out)


def test_no_group_straddles_a_split():
    groups = np.random.default_rng(0).permutation(np.arange(200) % 40)
    parts = split_groups(groups, (0.6, 0.2, 0.2), seed=3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(200))
    held = [set(groups[part].tolist()) for part in parts]
    assert not held[0] & held[1] and not held[0] & held[2] and not held[1] & held[2]
    assert [len(group) for group in held] == [24, 8, 8]
    same, other = split_groups(groups, (0.6, 0.2, 0.2), seed=3), split_groups(groups, (0.6, 0.2, 0.2), seed=4)
    assert all((a == b).all() for a, b in zip(parts, same, strict=True))
    assert set(other[0].tolist()) != set(parts[0].tolist())
    for fractions in ((0.5, 0.4), (1.5, -0.5)):
        with pytest.raises(ValueError, match="sum to 1"):
            split_groups(groups, fractions)
    with pytest.raises(ValueError, match="2 groups are too few"):
        split_groups([1, 1, 2], (0.4, 0.3, 0.3))


def test_pictures_of_one_name_and_voices_of_one_speaker_stay_together(stamps, fake, tmp_path):
    command, _ = fake()
    made = prepare(tmp_path / "out", stamps, **SETTINGS, command=command)
    sides = collections.Counter()
    for seed in range(20):
        train, test = made.split_pictures((0.5, 0.5), seed)
        assert ({0, 1} <= set(train)) != ({0, 1} <= set(test))
        train, test = made.split_voices((0.5, 0.5), seed)
        assert {tuple(train), tuple(test)} == {(0,), (1, 2)}
        sides[len(train)] += 1
    assert set(sides) == {1, 2}


def test_the_table_of_voices():
    assert (
        len({voice.name for voice in VOICES}) == len({voice.variant for voice in VOICES}) == len(VOICES) >= 20
    )
    assert len({voice.accent for voice in VOICES}) >= 5
    assert (
        len({voice.words_per_minute for voice in VOICES}) >= 5 and len({voice.pitch for voice in VOICES}) >= 5
    )


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_real_voices_differ_and_speak_the_same_text_twice_alike():
    check_voices(VOICES)
    spoken = [speak("great blue heron", voice, 16000) for voice in VOICES]
    assert all(4000 < len(wave) < 32000 and np.abs(wave).max() > 0.1 for wave in spoken)
    assert len({wave.tobytes() for wave in spoken}) == len(VOICES)
    np.testing.assert_array_equal(spoken[0], speak("great blue heron", VOICES[0], 16000))
    assert len(speak("great blue heron in the reeds", VOICES[0], 16000)) > len(spoken[0])
    with pytest.raises(RuntimeError, match="could not speak 'owl' as zz"):
        speak("owl", Voice("zz", "f1", 150, 50), 16000)


@pytest.mark.skipif(
    not pathlib.Path(DEBIAN_STAMPS).is_dir(), reason="tuxpaint-stamps-default is not installed"
)
def test_the_real_stamps():
    """Counts of Debian 12's package."""
    stamps = read_stamps()
    assert len(stamps) >= 900 and len({stamp.category for stamp in stamps}) >= 15
    assert sum("fr" in stamp.descriptions for stamp in stamps) >= 900
    assert sum(stamp.effect is not None for stamp in stamps) >= 100
    names = [short_name(stamp.names["en"], 4) for stamp in stamps]
    assert sum(name is not None for name in names) >= 700
    categories = {name: stamp.category for stamp, name in zip(stamps, names, strict=True)}
    assert categories["rabbit"] == "animals" and categories["electric kettle"] == "household"


def test_reading_does_not_unpickle(tmp_path):
    with (tmp_path / "pictures.npy").open("wb") as file:
        np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    forms = {"pictures.npy": ((1,), np.dtype(object))}
    assert spoken_pictures._open(tmp_path, "pictures.npy", forms) is None
