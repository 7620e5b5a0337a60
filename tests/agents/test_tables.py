"""Tables say what would deadlock before a server starts, and a fingerprint says when two are not the same."""

import dataclasses
import json

import numpy as np
import pytest
from limbeck.agents import Table, fingerprint
from limbeck.agents.tables import tables_to_json


SIGNATURE = {"a": ((3,), "int32"), "b": ((), np.float32)}


def table(**fields):
    return Table(**({"name": "rows", "kind": "uniform", "signature": SIGNATURE, "max_size": 100} | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "name is a non-empty string"),
        ({"kind": "stack"}, "Table rows: kind is one of uniform, prioritised, queue, held; got 'stack'"),
        ({"signature": {}}, "signature maps names"),
        ({"signature": {"a": ((None,), "int32")}}, r"a has no \(shape, dtype\)"),
        ({"signature": {"a": ((3,), "float99")}}, r"a has no \(shape, dtype\)"),
        ({"signature": {"a": ((-1,), "int32")}}, "a needs a fixed shape"),
        ({"signature": {"a": ((3,), "object")}}, "a needs a fixed shape and a numeric dtype"),
        ({"max_size": 0}, "max_size is a whole number of at least 1; got 0"),
        ({"max_size": 10.5}, "max_size is a whole number"),
        ({"min_size": 0}, "min_size is a whole number of at least 1"),
        ({"max_times_sampled": -1}, "max_times_sampled is a whole number of at least 0"),
        ({"min_size": 101}, "never holds min_size = 101 items.*Lower min_size or raise max_size"),
        ({"samples_per_insert": 0.0}, "samples_per_insert is a number above 0"),
        ({"samples_per_insert": float("nan")}, "samples_per_insert is a number above 0"),
        ({"priority_exponent": -0.1}, "priority_exponent is at least 0"),
        ({"error_buffer": 5.0}, "error_buffer bounds samples_per_insert, which is None"),
        ({"samples_per_insert": 4, "error_buffer": 3.9}, "below max.* = 4.*Raise it to at least 4"),
        ({"samples_per_insert": 0.1, "error_buffer": 0.9}, "below max.* = 1.*Raise it to at least 1"),
        ({"samples_per_insert": 2.5, "max_times_sampled": 2}, "Raise max_times_sampled to at least 3"),
        ({"kind": "queue", "min_size": 2}, "min_size is 1, got 2"),
        ({"kind": "queue", "max_times_sampled": 2}, "max_times_sampled is 1, got 2"),
        ({"kind": "queue", "samples_per_insert": 1.0}, "leave samples_per_insert and error_buffer out"),
        ({"kind": "queue", "error_buffer": 1.0}, "leave samples_per_insert and error_buffer out"),
        (
            {"kind": "held", "min_size": 2},
            "a held table gives its oldest item until that is deleted: leave min_size",
        ),
        ({"kind": "held", "max_times_sampled": 1}, "a held table gives its oldest item"),
        ({"kind": "held", "samples_per_insert": 1.0}, "a held table gives its oldest item"),
    ],
)
def test_what_cannot_work_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        table(**fields)


def test_limits_in_reverbs_terms():
    limiter = table(samples_per_insert=4, min_size=10, error_buffer=16).limiter
    assert (limiter.samples_per_insert, limiter.min_size) == (4, 10)
    assert (limiter.min_diff, limiter.max_diff) == (24, 56)  # 4 · 10 ± 16
    limiter = table(samples_per_insert=0.01, min_size=10).limiter
    assert (limiter.min_diff, limiter.max_diff) == (-0.9, 1.1)  # 0.1 ± 1, the least
    limiter = table(kind="queue", max_size=7).limiter
    assert (limiter.samples_per_insert, limiter.min_size, limiter.min_diff, limiter.max_diff) == (1, 1, 0, 7)
    limiter = table(min_size=5).limiter
    assert not limiter.insert_waits(99, 10**9, 0)
    assert not limiter.sample_waits(5, 5, 10**9)
    assert limiter.sample_waits(4, 10**9, 0)


def test_who_starves():
    limiter = table(samples_per_insert=2, min_size=3, error_buffer=4).limiter  # error within [2, 10]
    assert limiter.starving(2, 2, 0) == "samples"
    assert limiter.starving(3, 3, 0) is None
    assert limiter.starving(5, 5, 0) == "inserts"  # the sixth insert would make it 12
    assert limiter.starving(5, 5, 1) == "inserts"
    assert limiter.starving(5, 5, 2) is None
    assert limiter.starving(5, 5, 8) == "samples"  # a ninth sample would make it 1


def run_until_blocked(limiter, inserts, samples):
    """Inserts until one waits, then samples until one waits: how many samples."""
    while not limiter.insert_waits(inserts, inserts, samples):
        inserts += 1
    taken = 0
    while not limiter.sample_waits(inserts, inserts, samples + taken):
        taken += 1
    return inserts, samples, taken


def test_a_batch_that_is_let_through_can_always_be_sampled():
    """By playing the limiter from every start, with tables of every ratio."""
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        ratio = float(rng.choice([0.1, 0.5, 1.0, 1.7, 4.0, 8.0]))
        buffer = max(1.0, ratio) * float(rng.uniform(1, 6))
        batch = int(rng.integers(1, 20))
        made = table(samples_per_insert=ratio, min_size=int(rng.integers(1, 12)), error_buffer=buffer)
        try:
            made.check_batch(batch)
        except ValueError:
            refused += 1
            continue
        inserts = samples = 0
        for _ in range(15):  # In lock step: whole batches only.
            inserts, samples, taken = run_until_blocked(made.limiter, inserts, samples)
            assert taken >= batch, made
            samples += batch
    assert 50 < refused < 250


def test_a_batch_that_could_deadlock_is_refused():
    small = table(samples_per_insert=1, min_size=1, error_buffer=4)
    small.check_batch(7)
    with pytest.raises(ValueError, match=r"fewer than 9 samples.*at least .* = 5, or sample smaller"):
        small.check_batch(9)
    # It would deadlock: five inserts, then they wait; eight samples, then these wait.
    inserts, _, taken = run_until_blocked(small.limiter, 0, 0)
    assert (inserts, taken) == (5, 8)
    dataclasses.replace(small, error_buffer=5).check_batch(9)
    with pytest.raises(ValueError, match="the default, is too small"):
        table(samples_per_insert=0.25, min_size=20).check_batch(32)
    queue = table(kind="queue", max_size=8)
    queue.check_batch(8)
    with pytest.raises(ValueError, match="Raise max_size to at least 9"):
        queue.check_batch(9)
    with pytest.raises(ValueError, match="at least 1 item; got 0"):
        queue.check_batch(0)
    table(min_size=100).check_batch(10**6)  # No ratio: samples never wait for inserts.


def test_json_and_fingerprint():
    tables = [
        table(kind="prioritised", samples_per_insert=4, min_size=10, error_buffer=64, priority_exponent=1),
        table(name="queue", kind="queue"),
    ]
    written = json.loads(json.dumps([made.to_json() for made in tables]))
    assert [Table.from_json(value) for value in written] == tables
    assert written[0]["signature"] == {"a": [[3], "int32"], "b": [[], "float32"]}
    mark = fingerprint(tables)
    assert len(mark) == 64
    assert mark == fingerprint(tables[::-1]) == fingerprint([Table.from_json(value) for value in written])
    assert mark != fingerprint(tables[:1])
    changes = {
        "max_size": 99, "min_size": 11, "samples_per_insert": 5, "error_buffer": 65, "priority_exponent": 0.9,
        "max_times_sampled": 4, "signature": {"a": ((3,), "int64"), "b": ((), "float32")}, "name": "r",
        "kind": "uniform",
    }  # fmt: skip
    marks = {fingerprint([dataclasses.replace(tables[0], **{key: value})]) for key, value in changes.items()}
    assert len(marks) == len(changes) == len(dataclasses.fields(Table))
    assert fingerprint(tables[:1]) not in marks
    assert set(tables_to_json(tables)) == {"rows", "queue"}
    assert tables[1].max_times_sampled == 1
    assert fingerprint([table(kind="queue")]) == fingerprint([table(kind="queue", max_times_sampled=1)])
    for wrong in ({"name": "x"}, {**written[0], "size": 3}, [1]):
        with pytest.raises(ValueError, match="Not a table"):
            Table.from_json(wrong)
