"""The recorder of hosted actors: blocks of rows, kept and sent until the store has them."""

import dataclasses
import time

import dm_env
import numpy as np
import pytest
from limbeck.agents import HistoryInfo, HistoryReader, HistoryRecorder, HistoryWriter, Manifest, Rows
from limbeck.envs import LAST, MID


STREAMS, CHUNK, LENGTH, EPISODE = 2, 4, 10, 3


def manifest() -> Manifest:
    """Two actors of two environments each; the last chunk has two steps."""
    return Manifest(
        environment="toy",
        environment_kwargs={},
        observation={"x": {"shape": [2], "dtype": "int32"}, "y": {"shape": [], "dtype": "float32"}},
        action={"shape": [], "dtype": "int32", "minimum": 0, "maximum": 4},
        max_steps=None,
        split={"salt": "limbeck-0", "seed": 0, "held_out": []},
        length=LENGTH,
        histories=[HistoryInfo(-1, None, "train", "ppo", 0, stream, 0) for stream in range(2 * STREAMS)],
        histories_per_chunk=STREAMS,
        steps_per_chunk=CHUNK,
    )


def observed(number: int, final: bool = False) -> dict[str, np.ndarray]:
    """What the streams see at a step; a final observation is unlike every other."""
    x = np.array([[number, stream] for stream in range(STREAMS)], np.int32) + 100 * final
    return {"x": x, "y": np.full(STREAMS, number + 0.5, np.float32)}


def rows(number: int) -> Rows:
    """One step of both streams. Stream 0 ends an episode at every third step, stream 1 never does."""
    ends = np.array([number % EPISODE == EPISODE - 1, False])
    kinds = np.where(ends, LAST, MID).astype(np.int32)
    reward, discount = np.array([number, -number], np.float32), np.where(ends, 0, 1).astype(np.float32)
    final, following = observed(number + 1, final=True), observed(number + 1)
    next_observation = {
        name: np.where(ends.reshape(-1, *[1] * (value.ndim - 1)), final[name], value)
        for name, value in following.items()
    }
    seen = dm_env.TimeStep(np.full(STREAMS, MID, np.int32), reward, discount, observed(number))
    led_to = dm_env.TimeStep(kinds, reward, discount, following)
    return Rows(seen, np.full(STREAMS, number % 5, np.int32), led_to, next_observation, ())


class Sent:
    """Takes what a recorder sends."""

    def __init__(self):
        self.blocks: list[tuple[int, dict[str, np.ndarray]]] = []

    def __call__(self, chunk, fields):
        self.blocks.append((chunk, {name: array.copy() for name, array in fields.items()}))

    @property
    def chunks(self) -> list[int]:
        return [chunk for chunk, _ in self.blocks]


def test_actions_are_of_the_environments_dtype():
    """Agents choose int32; gymnasium's discrete actions are int64."""
    sent, about = Sent(), dataclasses.replace(manifest(), action={"shape": [], "dtype": "int64"})
    recording = HistoryRecorder(about, 1, 0, sent)
    for number in range(CHUNK):
        recording.add(rows(number))
    ((_, fields),) = sent.blocks
    assert fields["action"].dtype == np.int64 and fields["action"].tolist() == [[0, 1, 2, 3]] * 2


def recorder(send, start: int = 0, group: int = 1, resend_after_s: float = 1000.0) -> HistoryRecorder:
    return HistoryRecorder(manifest(), group, start, send, resend_after_s)


def test_blocks_are_the_rows_in_order_and_the_last_one_is_short():
    sent = Sent()
    recording = recorder(sent)
    for number in range(LENGTH):
        assert recording.recording
        recording.add(rows(number))
    assert not recording.recording
    recording.add(rows(LENGTH))  # Beyond the histories' length nothing is recorded.
    assert sent.chunks == [0, 1, 2] and recording.waiting == 3
    for chunk, fields in sent.blocks:
        numbers = np.arange(LENGTH)[chunk * CHUNK : (chunk + 1) * CHUNK]
        steps = len(numbers)
        assert steps == (2 if chunk == 2 else 4)
        assert {name: array.shape[:2] for name, array in fields.items()} == dict.fromkeys(
            fields, (STREAMS, steps)
        )
        np.testing.assert_array_equal(fields["observation.x"][:, :, 0], np.tile(numbers, (2, 1)))
        np.testing.assert_array_equal(fields["observation.x"][:, :, 1], [[0] * steps, [1] * steps])
        np.testing.assert_array_equal(fields["observation.y"][1], numbers + 0.5)
        np.testing.assert_array_equal(fields["action"][0], numbers % 5)
        np.testing.assert_array_equal(fields["reward"], [numbers, -numbers])
        ends = numbers % EPISODE == EPISODE - 1
        np.testing.assert_array_equal(fields["step_type"], [np.where(ends, LAST, MID), [MID] * steps])
        np.testing.assert_array_equal(fields["discount"], [np.where(ends, 0, 1), [1] * steps])


def test_final_observations_stand_only_where_an_episode_ends():
    sent = Sent()
    recording = recorder(sent)
    for number in range(CHUNK):
        recording.add(rows(number))
    ((_, fields),) = sent.blocks
    # Only the third step of stream 0 ends an episode: it saw 3 + 100, and 100 + its own number.
    np.testing.assert_array_equal(fields["final_observation.x"][0], [[0, 0], [0, 0], [103, 100], [0, 0]])
    np.testing.assert_array_equal(fields["final_observation.y"][0], [0, 0, 3.5, 0])
    assert not fields["final_observation.x"][1].any() and not fields["final_observation.y"][1].any()


def test_what_the_store_has_is_forgotten_and_what_it_lacks_is_sent_again():
    sent = Sent()
    recording = recorder(sent, resend_after_s=0.0)
    for number in range(LENGTH):
        recording.add(rows(number))
    first = list(sent.blocks)
    time.sleep(0.001)
    recording.acknowledge(CHUNK)
    assert recording.waiting == 2 and sent.chunks == [0, 1, 2, 1, 2]
    for (chunk, before), (again, after) in zip(first[1:], sent.blocks[3:]):
        assert chunk == again
        for name, array in before.items():
            np.testing.assert_array_equal(array, after[name])
    recording.acknowledge(LENGTH - 1)  # Not yet the whole of the short chunk.
    assert recording.waiting == 1
    recording.acknowledge(LENGTH)
    assert recording.waiting == 0
    recording.acknowledge(LENGTH)
    assert sent.chunks == [0, 1, 2, 1, 2, 2]


def test_nothing_is_sent_again_too_soon():
    sent = Sent()
    recording = recorder(sent)
    for number in range(LENGTH):
        recording.add(rows(number))
    recording.acknowledge(0)
    assert recording.waiting == 3 and sent.chunks == [0, 1, 2]


@pytest.mark.parametrize(("start", "chunks"), [(0, [0, 1, 2]), (4, [1, 2]), (8, [2]), (10, [])])
def test_a_start_goes_on_at_the_watermark(start, chunks):
    """The watermark of whole histories lies inside what would be a full last chunk: nothing is begun there."""
    sent = Sent()
    recording = recorder(sent, start)
    assert recording.recording == bool(chunks)
    for number in range(20):
        recording.add(rows(number))
    assert sent.chunks == chunks
    for chunk, fields in sent.blocks:  # Its own rows, from its own first one on.
        assert fields["observation.x"][0, 0, 0] == chunk * CHUNK - start


def test_a_store_takes_the_blocks_through_a_restart(tmp_path):
    """Group 1 is cut off in its second chunk and goes on; group 0 is never disturbed."""
    with HistoryWriter.create_or_open(tmp_path, manifest()) as writer:

        def to(group):
            return lambda chunk, fields: writer.write(group, chunk, fields)

        undisturbed, cut = recorder(to(0), group=0), recorder(to(1))
        for number in range(LENGTH):
            undisturbed.add(rows(number))
        for number in range(CHUNK + 2):
            cut.add(rows(number))
        assert writer.restart(1) == CHUNK
        again = recorder(to(1), start=CHUNK)
        for number in range(50, 60):
            again.add(rows(number))
        assert writer.complete
    reader = HistoryReader(tmp_path)
    reader.verify()
    assert reader.manifest.cuts == ((2, CHUNK), (3, CHUNK))
    shown = [reader.read(history)["observation"]["x"][:, 0].tolist() for history in range(4)]
    assert shown[0] == shown[1] == list(range(10))
    assert shown[2] == shown[3] == [0, 1, 2, 3, 50, 51, 52, 53, 54, 55]
