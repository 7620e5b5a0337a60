"""Caches: the same vectors, each made once, bounded in memory and on disk, also when threads or kills interfere."""

import logging
import threading

import numpy as np
import pytest
from limbeck.rewards import CachedEncoder, CachedModel, RewardError, form_of
from limbeck.rewards.frame_keys import frame_keys

from .toy_models import ColourEncoder, RedReward, some_frames


FRAMES = some_frames(11)
EXPECTED = ColourEncoder().encode_frames(FRAMES)


def test_the_hash_is_of_pixels_and_shape():
    frame = some_frames(1, side=4)[0]
    other = frame.copy()
    other[3, 3, 2] ^= 1
    turned = frame.reshape(2, 8, 3)
    assert len(set(frame_keys([frame, other, turned]))) == 3
    assert len(set(frame_keys([frame, np.asfortranarray(frame), frame.copy()]))) == 1


@pytest.mark.parametrize(
    ("count", "calls"),
    [
        (3, [4]),
        (11, [16]),
        (33, [32, 1]),
        (100, [128]),
        (74, [64, 16]),
        (300, [128, 128, 32, 16]),
        (128, [128]),
    ],
)
def test_micro_batches_are_powers_of_two_and_mostly_full(count, calls):
    encoder, frames = ColourEncoder(), some_frames(count, seed=3)
    found = CachedEncoder(encoder, 1000, batch=128).encode_frames(frames)
    assert encoder.calls == calls
    np.testing.assert_array_equal(found, ColourEncoder().encode_frames(frames))


def test_each_frame_is_encoded_once_in_ragged_micro_batches():
    encoder = ColourEncoder()
    cached = CachedEncoder(encoder, capacity=100, batch=4)
    assert form_of(cached) == "encoder"
    assert (cached.fingerprint, cached.name) == (encoder.fingerprint, "colour")
    np.testing.assert_array_equal(cached.encode_frames(FRAMES), EXPECTED)
    assert encoder.calls == [4, 4, 4]  # 11 frames: the last three are filled up to four
    order = [3, 3, 10, 0, 3]
    np.testing.assert_array_equal(cached.encode_frames(FRAMES[order]), EXPECTED[order])
    assert encoder.calls == [4, 4, 4]
    mixed = np.concatenate([some_frames(1, seed=9), FRAMES[:2], some_frames(1, seed=9)])
    np.testing.assert_array_equal(cached.encode_frames(mixed), ColourEncoder().encode_frames(mixed))
    assert encoder.calls == [4, 4, 4, 1]
    stats = cached.stats()
    assert stats == (3 + 2, 2 + 1, 0, 0, 12, 0, 12)
    assert stats.hit_rate == 1 - 12 / 20
    np.testing.assert_array_equal(cached.encode_goals(["red", "blue"]), encoder.encode_goals(["red", "blue"]))


def test_the_least_recently_used_is_forgotten():
    encoder = ColourEncoder()
    cached = CachedEncoder(encoder, capacity=2, batch=1)
    for place in (0, 1, 0, 2, 0, 1):  # 2 pushes out 1, which 0 was used after
        np.testing.assert_array_equal(cached.encode_frames(FRAMES[[place]]), EXPECTED[[place]])
    stats = cached.stats()
    assert (stats.memory_hits, stats.made, stats.evictions, stats.held) == (2, 4, 2, 2)
    # More frames at once than are held.
    np.testing.assert_array_equal(cached.encode_frames(FRAMES), EXPECTED)
    assert cached.stats().held == 2


class Gate(ColourEncoder):
    """Waits inside the encoder until it is let on, and may fail then."""

    def __init__(self, fails=False):
        super().__init__()
        self.entered, self.open, self.fails = threading.Event(), threading.Event(), fails

    def encode_frames(self, frames):
        self.entered.set()
        assert self.open.wait(20)
        if self.fails:
            raise OSError("no device")
        return super().encode_frames(frames)


def _ask(cached, frames, results):
    def ask():
        try:
            results.append(cached.encode_frames(frames))
        except OSError as error:
            results.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def _until(condition):
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("fails", [False, True])
def test_two_threads_encode_a_frame_once(fails):
    encoder, results = Gate(fails), []
    cached = CachedEncoder(encoder, capacity=10)
    threads = [_ask(cached, FRAMES[:3], results)]
    assert encoder.entered.wait(20)
    threads.append(_ask(cached, FRAMES[:3], results))
    _until(lambda: cached.stats().waits == 3)
    encoder.open.set()
    for thread in threads:
        thread.join(20)
    assert len(results) == 2
    if fails:
        assert all(isinstance(result, OSError) for result in results)
        # A failure is not remembered.
        encoder.fails = False
        results = [cached.encode_frames(FRAMES[:3])]
    for result in results:
        np.testing.assert_array_equal(result, EXPECTED[:3])
    assert encoder.calls == [4]
    assert cached.stats().made == 3


def test_threads_that_want_each_other_s_frames_do_not_wait_for_ever():
    cached = CachedEncoder(ColourEncoder(), capacity=10_000, batch=2)
    frames = some_frames(40)
    expected, wrong = ColourEncoder().encode_frames(frames), []

    def work(seed):
        random = np.random.default_rng(seed)
        for _ in range(50):
            places = random.integers(0, 40, 6)
            if not np.array_equal(cached.encode_frames(frames[places]), expected[places]):
                wrong.append(places)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert not wrong
    stats = cached.stats()
    assert stats.made == 40 and sum(stats[:5]) == 4 * 50 * 6


def test_the_disk_tier_is_found_again(tmp_path):
    first = CachedEncoder(ColourEncoder(), 100, tmp_path)
    np.testing.assert_array_equal(first.encode_frames(FRAMES), EXPECTED)
    encoder = ColourEncoder()
    again = CachedEncoder(encoder, 100, tmp_path)
    np.testing.assert_array_equal(again.encode_frames(FRAMES[3:]), EXPECTED[3:])
    assert encoder.calls == [] and again.stats().disk_hits == 8
    # What another process adds meanwhile is seen too.
    first.encode_frames(some_frames(1, seed=5))
    again.encode_frames(some_frames(1, seed=5))
    assert encoder.calls == []
    other = ColourEncoder("colour-2")
    CachedEncoder(other, 100, tmp_path).encode_frames(FRAMES)
    assert other.calls == [16]
    files = sorted(tmp_path.glob("*/*"))
    assert [file.name for file in files] == ["embeddings_xxh3_1000000.npy"] * 2
    rows = np.load(files[0], mmap_mode="r", allow_pickle=False)
    assert len(rows) == 1_000_000 and rows["embedding"].shape[1:] == (3,)


def test_the_disk_tier_is_bounded_and_never_wrong(tmp_path):
    encoder = ColourEncoder()
    frames = some_frames(60)
    expected = encoder.encode_frames(frames)
    CachedEncoder(encoder, 100, tmp_path, disk_capacity=10).encode_frames(frames)
    (file,) = tmp_path.glob("*/*")
    assert np.load(file).shape == (12,)  # sets of four
    again = CachedEncoder(encoder, 100, tmp_path, disk_capacity=10)
    np.testing.assert_array_equal(again.encode_frames(frames), expected)
    assert again.stats().disk_hits == 12
    # The newest is always there.
    newest = CachedEncoder(ColourEncoder(), 100, tmp_path, disk_capacity=10)
    newest.encode_frames(some_frames(1, seed=7))
    last = CachedEncoder(ColourEncoder(), 100, tmp_path, disk_capacity=10)
    last.encode_frames(some_frames(1, seed=7))
    assert last.stats().disk_hits == 1


def test_a_half_written_row_is_encoded_again(tmp_path):
    CachedEncoder(ColourEncoder(), 100, tmp_path, disk_capacity=64).encode_frames(FRAMES)
    (file,) = tmp_path.glob("*/*")
    rows = np.load(file, mmap_mode="r+")
    place = next(i for i, row in enumerate(rows) if row["key"].tobytes() == frame_keys(FRAMES[4:5])[0])
    rows["embedding"][place, 1] += 0.25
    rows.flush()
    encoder = ColourEncoder()
    for _ in range(2):
        again = CachedEncoder(encoder, 100, tmp_path, disk_capacity=64)
        np.testing.assert_array_equal(again.encode_frames(FRAMES), EXPECTED)
    assert encoder.calls == [1]
    # A file that lost its end.
    with open(file, "r+b") as cut:
        cut.truncate(file.stat().st_size // 2)
    np.testing.assert_array_equal(
        CachedEncoder(encoder, 9, tmp_path, disk_capacity=64).encode_frames(FRAMES), EXPECTED
    )


def test_what_is_no_cache_is_refused(tmp_path):
    CachedEncoder(ColourEncoder(), 100, tmp_path, disk_capacity=64).encode_frames(FRAMES)
    (file,) = tmp_path.glob("*/*")
    for wrong in (b"", b"something", None):
        np.save(file, np.zeros(3)) if wrong is None else file.write_bytes(wrong)
        with pytest.raises(RewardError, match="holds no cached embeddings: delete it"):
            CachedEncoder(ColourEncoder(), 100, tmp_path, disk_capacity=64).encode_frames(FRAMES)


def test_a_full_disk_stops_nothing(tmp_path, monkeypatch, caplog):
    encoder = ColourEncoder()
    cached = CachedEncoder(encoder, 1, tmp_path)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    monkeypatch.setattr(logging.getLogger("limbeck"), "propagate", True)
    for _ in range(2):
        np.testing.assert_array_equal(cached.encode_frames(FRAMES), EXPECTED)
    assert [record.message for record in caplog.records if "No space left" in record.message] and len(
        caplog.records
    ) == 1


def test_a_model_is_called_once_for_each_goal_frame_and_version():
    model = RedReward()
    cached = CachedModel(model, capacity=100, batch=4)
    assert form_of(cached) == "callable" and (cached.name, cached.version) == ("red", "1")
    goals = ["red", "else"] * 5 + ["red"]
    expected = RedReward()(FRAMES, goals)
    for _ in range(2):
        rewards = cached(FRAMES, goals)
        assert rewards.dtype == np.float32
        np.testing.assert_array_equal(rewards, expected)
    assert model.calls == [4, 4, 4]
    other = ["else", *goals[1:]]
    np.testing.assert_array_equal(cached(FRAMES, other), RedReward()(FRAMES, other))
    assert model.calls == [4, 4, 4, 1]
    model.version = "2"
    cached(FRAMES[:1], ["red"])
    assert model.calls == [4, 4, 4, 1, 1] and cached.stats().made == 13


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: CachedEncoder(RedReward()), "takes an encoder"),  # pyright: ignore
        (lambda: CachedModel(ColourEncoder()), "takes a callable"),  # pyright: ignore
        (lambda: CachedEncoder(ColourEncoder(), 0), "capacity is at least 1, got 0"),
        (lambda: CachedEncoder(ColourEncoder(), 5, batch=6), "power of two, got 6"),
        (lambda: CachedEncoder(ColourEncoder(), 5, disk_capacity=0), "disk_capacity"),
        (lambda: CachedEncoder(ColourEncoder()).encode_frames(FRAMES / 255), "float64"),
        (lambda: CachedModel(RedReward())(FRAMES, ["red"]), "11 frames, but 1 goals"),
    ],
)
def test_what_is_wrong_is_said(make, match):
    with pytest.raises(RewardError, match=match):
        make()
