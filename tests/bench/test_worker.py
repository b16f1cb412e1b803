"""A contender's process, both sides of it."""

from __future__ import annotations

import io
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from p2.bench import wire
from p2.bench.plugins import choose, find
from p2.bench.remote import Failed, Remote
from p2.bench.worker import Session, peak_memory, sentence, serve
from p2.contract.errors import P2Error, UsageError


class Recorder:
    """A contender and its running model that note what is asked of them."""

    threads = 2

    def __init__(self):
        self.calls = []

    def load(self, model, threads):
        self.calls.append(("load", model.name, threads))
        return self

    def start(self, batch, seed):
        self.calls.append(("start", batch, seed))

    def write(self, count):
        self.calls.append(("write", count))

    def read(self, tokens):
        self.calls.append(("read", tokens.shape))

    def close(self):
        self.calls.append(("close",))


def squares():
    """A clock that shows 0, 1, 4, 9, ...: every interval is another."""
    ticks = itertools.count()
    return lambda: float(next(ticks) ** 2)


def test_times_are_those_of_the_calls_alone(model_of):
    recorder = Recorder()
    session = Session(recorder, squares())
    loaded = session.answer({"do": "load", "model": wire.pack_model(model_of()), "threads": 5})
    assert loaded == {"seconds": 1.0, "threads": 2}
    wanted = {"do": "write", "batch": 3, "seed": 7, "warm": 4, "chunk": 16, "chunks": 2}
    assert session.answer(wanted) == {"seconds": [9.0 - 4.0, 25.0 - 16.0]}
    assert session.answer({"do": "read", "tokens": wire.pack(np.zeros((1, 9), np.int64))}) == {
        "seconds": 13.0
    }
    session.answer({"do": "close"})
    assert recorder.calls == [
        ("load", "a model", 5),
        ("start", 3, 7),
        ("write", 4),
        ("write", 16),
        ("write", 16),
        ("read", (1, 9)),
        ("close",),
    ]


def test_without_a_warm_up_nothing_is_written_before(model_of):
    recorder = Recorder()
    session = Session(recorder, squares())
    session.answer({"do": "load", "model": wire.pack_model(model_of()), "threads": None})
    session.answer({"do": "write", "batch": 1, "seed": 0, "warm": 0, "chunk": 1, "chunks": 1})
    assert recorder.calls[1:] == [("start", 1, 0), ("write", 1)]


def test_an_exception_is_an_answer_and_the_next_request_is_served():
    requests = io.BytesIO(wire.line({"number": 1, "do": "read"}) + wire.line({"number": 2, "do": "memory"}))
    replies = io.BytesIO()
    serve(Session(Recorder()), requests, replies)
    first, second = map(json.loads, replies.getvalue().splitlines())
    assert first == {"number": 1, "error": "KeyError: 'tokens'"}
    assert second["number"] == 2
    assert second["bytes"] > 1 << 20


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (P2Error("no such file"), "no such file"),
        (RuntimeError("bad\nworse"), "RuntimeError: bad"),
        (ValueError(), "ValueError"),
        (MemoryError(), "there is not enough memory for it"),
    ],
)
def test_exceptions_become_one_line(error, words):
    assert sentence(error) == words


def test_the_peak_only_grows():
    before = peak_memory()
    block = np.ones(8 << 20)
    assert peak_memory() >= before
    assert peak_memory() > block.nbytes


@given(
    arrays.arrays(
        st.sampled_from((np.int64, np.float32)), arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)
    )
)
def test_arrays_come_out_as_they_went_in(array):
    again = wire.unpack(json.loads(json.dumps(wire.pack(array))))
    assert (again.dtype, again.shape, again.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_nothing_but_arrays_of_numbers_is_unpacked():
    with pytest.raises(ValueError, match="not an array of int64 or float32: 'object'"):
        wire.unpack({"dtype": "object", "shape": [1], "data": ""})


def test_a_model_comes_out_as_it_went_in(model_of, tmp_path):
    model = model_of("gru", "before", vocabulary="\n aé😀")
    model.steps["int8"] = tmp_path / "step.onnx"
    assert wire.unpack_model(json.loads(json.dumps(wire.pack_model(model)))) == model


@pytest.mark.parametrize("data", [b"loading...\n", b"[1]\n", b'{"number": 3}\n', b"\xff\n", b"\n"])
def test_what_is_no_reply_is_passed_over(data):
    assert wire.message(data, 4) is None


def test_a_process_answers_whatever_is_printed_meanwhile(plugins, model_of):
    model = model_of()
    with Remote("bench_plugins:Noisy") as remote:
        seconds, threads = remote.load(model, None)
        assert (seconds > 0, threads) == (True, 3)
        assert len(remote.write(2, 0, warm=1, chunk=4, chunks=3)) == 3
        assert remote.read(np.zeros((1, 5), np.int64), 0.1) >= 0
        tokens = np.array([[2, 0, 1]])
        assert np.array_equal(remote.logits(tokens, 0.1), np.eye(model.card.vocab, dtype=np.float32)[tokens])
        noise = np.zeros((2, 1, model.card.vocab), np.float32)
        noise[0, 0, 3] = noise[1, 0, 1] = 1
        assert remote.follow(np.array([1]), noise, 0.1).tolist() == [[4, 2]]
        assert remote.peak_memory() > 1 << 20


@pytest.mark.parametrize(
    ("name", "seconds", "reason"),
    [
        ("Crashes", 60, r"its process ended at 'load' \(exit code 3: the driver is on fire\)"),
        ("Killed", 60, r"its process ended at 'load' \(killed by SIGKILL, often for lack of memory\)"),
        ("Hangs", 0.1, r"no answer to 'load' within 0.1 s"),
    ],
)
def test_a_process_that_is_lost_is_a_sentence(plugins, model_of, name, seconds, reason):
    remote = Remote(f"bench_plugins:{name}", load_seconds=seconds)
    with pytest.raises(Failed, match=f"^{reason}$") as caught:
        remote.load(model_of(), None)
    assert caught.value.gone
    with pytest.raises(Failed, match="its process has ended"):
        remote.peak_memory()
    remote.close()


def test_a_contender_that_cannot_do_one_thing_goes_on(plugins, model_of):
    with Remote("bench_plugins:Raises") as remote:
        remote.load(model_of(), None)
        with pytest.raises(Failed, match=r"^RuntimeError: the kernel does not like it$") as caught:
            remote.logits(np.zeros((1, 2), np.int64), 0.1)
        assert not caught.value.gone
        assert remote.write(1, 0, warm=0, chunk=1, chunks=1)


def test_an_exception_on_our_side_ends_the_process_at_once(plugins, model_of):
    with pytest.raises(KeyboardInterrupt), Remote("bench_plugins:Good") as remote:
        remote.load(model_of(), None)
        raise KeyboardInterrupt
    with pytest.raises(Failed, match="has ended"):
        remote.peak_memory()


def test_plug_ins_are_found_by_their_address(plugins):
    assert find("bench_plugins:Good").key == "good"
    for address, words in (
        ("bench_plugins:NoContender", "is no contender: it has no title, precision, group, device"),
        ("bench_plugins:Nobody", "cannot be imported: module 'bench_plugins' has no attribute 'Nobody'"),
        ("no_such_module:Good", "cannot be imported: No module named 'no_such_module'"),
        (":", "cannot be imported"),
        ("abacus", "unknown contender 'abacus': choose from p2-float32"),
    ):
        with pytest.raises(UsageError, match=words):
            find(address)


def test_float32_of_p2_is_always_first(plugins):
    keys = [entrant.contender.key for entrant in choose(["bench_plugins:Good", "p2-int4"], None)]
    assert keys == ["p2-float32", "good", "p2-int4"]
    keys = [entrant.contender.key for entrant in choose(["p2-int4", "p2-float32"], None)]
    assert keys == ["p2-float32", "p2-int4"]
    precisions = {entrant.contender.precision for entrant in choose(None, ["int8"])[1:]}
    assert precisions == {"int8"}
