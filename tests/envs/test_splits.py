import hashlib
import json

import numpy as np
import pytest
from limbeck.envs import Split, check_task, check_task_ids, make, split_of, split_tasks, task_at


def test_the_order_is_that_of_the_hashes():
    digests = {i: hashlib.sha256(f"limbeck-7:{i}".encode()).hexdigest() for i in range(81)}
    order = sorted(digests, key=digests.get)
    split = split_tasks(81, 8, 7)
    assert split.salt == "limbeck-7"
    assert list(split.held_out) == order[:8]
    assert list(split.train) == order[8:]


def test_golden_split():
    assert split_tasks(81, 8, 0).held_out == (24, 26, 25, 67, 44, 61, 37, 29)


def test_a_split_survives_json_and_refuses_edits():
    split = split_tasks(81, 8, 3)
    fields = json.loads(json.dumps(split.to_json()))
    assert Split.from_json(fields) == split
    fields["held_out"][0], fields["train"][0] = fields["train"][0], fields["held_out"][0]
    with pytest.raises(ValueError, match="never edited"):
        Split.from_json(fields)
    with pytest.raises(ValueError, match="Not a stored split"):
        Split.from_json({"seed": 3})


@pytest.mark.parametrize("held_out", [-1, 81])
def test_something_is_left_to_train_on(held_out):
    with pytest.raises(ValueError, match="can be held out"):
        split_tasks(81, held_out, 0)


def test_tasks_without_ids_are_split_by_their_bytes():
    sides = [split_of(np.float32(i).tobytes(), "limbeck-0", 0.1) for i in range(2000)]
    assert sides.count("held_out") == pytest.approx(200, abs=4 * np.sqrt(180))
    assert sides == [split_of(np.float32(i).tobytes(), "limbeck-0", 0.1) for i in range(2000)]
    assert {split_of(b"x", "limbeck-0", fraction) for fraction in (0.0,)} == {"train"}
    assert split_of(b"x", "limbeck-0", 1.0) == "held_out"
    digest = hashlib.sha256(b"limbeck-0:x").digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    assert split_of(b"x", "limbeck-0", share * 1.01) == "held_out"
    assert split_of(b"x", "limbeck-0", share * 0.99) == "train"
    with pytest.raises(ValueError, match="fraction"):
        split_of(b"x", "limbeck-0", 1.5)


def test_tasks_by_id():
    np.testing.assert_array_equal(task_at(make("dark_room"), [3, 80]), [3, 80])
    np.testing.assert_array_equal(task_at(make("dark_key_to_door"), [81 * 2 + 5]), [[2, 5]])
    assert task_at(make("dark_room"), 4).shape == ()


@pytest.mark.parametrize("ids", [81, [3, 81], [-1]])
def test_ids_outside_the_environment_are_refused(ids):
    with pytest.raises(ValueError, match="outside dark_room, whose task ids are 0 to 80"):
        check_task_ids(make("dark_room"), ids)
    with pytest.raises(ValueError, match="outside dark_room"):
        task_at(make("dark_room"), ids)


def test_ids_of_other_kinds_are_refused():
    with pytest.raises(ValueError, match="integers"):
        check_task_ids(make("dark_room"), [0.5])
    with pytest.raises(ValueError, match="no ids"):
        check_task_ids(make("adversarial_bandit"), [0])


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("dark_room", 81),
        ("dark_room", -1),
        ("dark_room", 1.5),
        ("dark_room", [1, 2]),
        ("dark_key_to_door", [1, 81]),
        ("dark_key_to_door", 5),
        ("adversarial_bandit", [0.5] * 9),
        ("adversarial_bandit", [1.5] * 10),
        ("adversarial_bandit", [float("nan")] * 10),
    ],
)
def test_tasks_outside_the_environment_are_refused(name, task):
    with pytest.raises(ValueError, match=f"outside {name}"):
        check_task(make(name), task)


def test_tasks_inside_come_back_in_the_environment_s_types():
    assert check_task(make("dark_room"), 80).dtype == np.int32
    assert check_task(make("dark_key_to_door"), (0, 80)).tolist() == [0, 80]
    assert check_task(make("adversarial_bandit"), np.full(10, 0.5)).dtype == np.float32
