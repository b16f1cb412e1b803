"""Contenders in turns: the order, the arithmetic, and what becomes of those that fail."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from p2.bench import race
from p2.bench.models import Prepared
from p2.bench.options import QUICK
from p2.bench.plugins import Entrant
from p2.bench.race import Race, pieces
from p2.bench.remote import Failed
from p2.contract.card import bytes_per_step
from p2.contract.codec import Codec
from p2.contract.errors import P2Error

EFFORT = replace(QUICK, rounds=3, batches=(1, 8), prompt_length=500, text_length=40, quality_characters=12)


def contender(key, precision="float32", group="peer", missing=None):
    return SimpleNamespace(
        key=key, title=key, precision=precision, group=group, device="cpu", missing=lambda _: missing
    )


P2 = contender("p2-float32", group="p2")
INT8 = contender("p2-int8", "int8", group="p2")
CELL = contender("torch-cell")
PEER = contender("peer")


class Machine:
    """Processes that only pretend: what each does and how long it takes is laid down here.

    Attributes:
        seconds: of one step of a contender; 1 ms if it is not named.
        fails: the exception of a call, by (key, name of the call).
        log: (key, call) in order; rests too.
        bandwidths: of the memory, one after the other, again and again.
        copies: of the GPU's, or why it cannot be told.
    """

    def __init__(self, vocab):
        self.vocab = vocab
        self.seconds = {}
        self.fails = {}
        self.log = []
        self.texts = {}
        self.noise = {}
        self.bandwidths = [1e9]
        self.copies = itertools.repeat(8e9)

    def open(self, key):
        return Process(self, key)

    def race(self, model, contenders, effort=EFFORT, held_out=None, free=lambda _: 1 << 40):
        made = Race(
            Prepared(model, held_out, ""),
            effort,
            2,
            self.quiet(),
            {"cpu": lambda: next(self.memory), "cuda": self.copy},
            open_remote=self.open,
            available=lambda: free(self),
            pause=lambda seconds: self.log.append(("rest", seconds)),
            clock=lambda: float(next(self.ticks)),
        )
        self.ticks, self.memory = itertools.count(), itertools.cycle(self.bandwidths)
        found = made.run([Entrant(c.key, c) for c in contenders])
        return made, {entry["key"]: entry for entry in found}

    def copy(self):
        found = next(self.copies)
        if isinstance(found, P2Error):
            raise found
        return found

    def quiet(self):
        return SimpleNamespace(
            say=lambda text: self.log.append(("said", text)),
            phase=lambda title, steps=None: self.log.append(("phase", title)),
            now=lambda _: None,
            done=lambda: None,
        )

    def within(self, phase):
        """What was done in a phase."""
        at = self.log.index(("phase", f"a model: {phase}")) + 1
        return list(itertools.takewhile(lambda item: item[0] != "phase", self.log[at:]))


class Process:
    def __init__(self, machine, key):
        self.machine, self.key, self.turns = machine, key, 0
        machine.log.append((key, "open"))

    def do(self, what):
        self.machine.log.append((self.key, what))
        if (self.key, what) in self.machine.fails:
            raise self.machine.fails[self.key, what]

    def load(self, model, threads):
        self.do("load")
        return 2.5, threads

    def write(self, batch, seed, *, warm, chunk, chunks, expected=None):
        self.do("write" if batch == 1 else f"write {batch}")
        assert expected is None or expected > 0
        return [self.seconds(seed, batch) * chunk] * chunks

    def seconds(self, seed, batch):
        each = self.machine.seconds.get(self.key, 1e-3)
        return each(seed, batch) if callable(each) else each

    def read(self, tokens, expected):
        self.do("read")
        return tokens.size * self.seconds(0, 1) / 4

    def follow(self, first, noise, expected):
        self.do("follow")
        text = np.arange(len(noise)) % self.machine.vocab
        return (text + self.machine.texts.get(self.key, 0))[None] % self.machine.vocab

    def logits(self, tokens, expected):
        self.do("logits")
        wrong = self.machine.noise.get(self.key, 0.0)
        return np.full((*tokens.shape, self.machine.vocab), wrong, np.float32)

    def peak_memory(self):
        self.do("memory")
        return 123

    def kill(self):
        self.machine.log.append((self.key, "kill"))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.machine.log.append((self.key, "closed" if kind is None else "kill"))


@pytest.fixture
def model(model_of):
    return model_of("lstm", layers=1)


@pytest.fixture
def field(model):
    return Machine(model.card.vocab)


def test_everyone_has_a_turn_in_every_round_after_a_rest(field, model):
    field.race(model, [P2, CELL, PEER])
    keys, rest, mine = ("p2-float32", "torch-cell", "peer"), ("rest", 0.2), "p2-float32"
    beside = {key: [rest, (mine, "write"), (mine, "read")] if key != mine else [] for key in keys}
    done = []
    for key in keys:
        calls = (*["write"] * 2, "memory", *["read"] * 3)
        done += [rest, *((key, what) for what in calls), *beside[key]]
    for number in (1, 2):
        for key in keys:
            own = [(key, "write"), (key, "write"), (key, "read")]
            done += [rest, *beside[key], *own] if number % 2 else [rest, *own, *beside[key]]
    assert field.within("one text, written and read") == done


def test_p2_takes_the_pace_that_the_machine_has_in_a_peers_turn(field, model):
    """The machine is three times as slow whenever the peer has its turn; the peer takes twice as long."""

    def pace():
        turns = [key for key, what in field.log if what == "memory"]
        return 3 if turns[-1:] == ["peer"] else 1

    field.seconds["p2-float32"] = lambda seed, batch: 1e-3 * pace()
    field.seconds["peer"] = lambda seed, batch: 6e-3
    _, entries = field.race(model, [P2, PEER], replace(EFFORT, rounds=1))
    (mine,), (peer,) = (entries[key]["characters_per_second"]["values"] for key in ("p2-float32", "peer"))
    assert (mine, peer) == (pytest.approx(1000), pytest.approx(1000 / 6))
    there = entries["peer"]["beside"]
    assert there["key"] == "p2-float32"
    assert there["written"] == pytest.approx([2 * peer])
    assert there["read"] == pytest.approx([value * 2 for value in entries["peer"]["prompt"]["values"]])


def test_only_peers_in_float32_on_the_processor_have_p2_beside_them(field, model):
    gpu, rounded = contender("gpu"), contender("rounded", "int8")
    gpu.device = "cuda"
    _, entries = field.race(model, [P2, INT8, gpu, rounded, contender("ort", group="variant")])
    assert [key for key, entry in entries.items() if entry["beside"]] == []


def test_who_takes_turns_beside_others_may_fail(field, model):
    """Its own entry tells; the peer's figures remain."""
    calls = itertools.count()
    read = Process.read

    def failing(self, tokens, expected):
        if self.key == "p2-float32" and next(calls) >= 3:
            raise Failed("its process ended", gone=True)
        return read(self, tokens, expected)

    Process.read = failing
    try:
        _, entries = field.race(model, [P2, PEER])
    finally:
        Process.read = read
    assert entries["p2-float32"]["skipped"] == "writing beside peer: its process ended"
    assert entries["peer"]["skipped"] is None
    assert len(entries["peer"]["prompt"]["values"]) == 3
    assert len(entries["peer"]["beside"]["written"]) == 1


def test_the_figures_are_those_of_the_turns(field, model):
    field.seconds["p2-float32"] = lambda seed, batch: (1e-4, 4e-4, 2e-4)[seed] * (1 if batch == 1 else 2)
    _, entries = field.race(model, [P2])
    entry = entries["p2-float32"]
    assert entry["skipped"] is None
    assert (entry["load_s"], entry["threads"], entry["peak_memory_bytes"]) == (2.5, 2, 123)
    assert entry["bytes_per_step"] == bytes_per_step(model.card)
    speed = entry["characters_per_second"]
    assert speed["values"] == pytest.approx([1e4, 2500, 5000])
    assert speed["median"] == pytest.approx(5000)
    # Of 2,500, 5,000 and 10,000, linearly: a tenth of the way from an end to the middle.
    assert (speed["p5"], speed["p95"]) == (pytest.approx(2750), pytest.approx(9500))
    latency = entry["latency"]
    assert latency["chunk"] == 16
    assert latency["p50_us"] == pytest.approx(200)
    assert latency["p99_us"] == pytest.approx(400)
    one, eight = entry["batches"]
    assert (one["batch"], one["growth"], one["values"]) == (1, None, pytest.approx([1e4, 2500, 5000]))
    assert (one["characters_per_second"], one["us_per_character"]) == (
        pytest.approx(5000),
        pytest.approx(200),
    )
    # A step of eight texts takes twice as long as one of one text, in every round.
    assert (eight["batch"], eight["growth"]) == (8, pytest.approx(2 / 8))
    assert eight["values"] == pytest.approx([4e4, 1e4, 2e4])
    assert entry["text"]["characters"] == 40
    assert entry["quality"] is None


def test_slow_contenders_write_little_and_one_character_a_call(field, model):
    field.seconds["peer"] = 0.1
    asked = []
    write = Process.write

    def noting(self, batch, seed, **values):
        asked.append((batch, values["chunk"] * values["chunks"]))
        return write(self, batch, seed, **values)

    Process.write = noting
    try:
        _, entries = field.race(model, [PEER])
    finally:
        Process.write = write
    assert max(count for batch, count in asked if batch == 1) == race.LEAST_CHARACTERS
    assert entries["peer"]["latency"]["chunk"] == 1
    assert entries["peer"]["latency"]["samples"] == 3 * 4
    assert entries["peer"]["prompt"]["length"] == 64
    assert entries["peer"]["prompt"]["characters_per_second"] == pytest.approx(40)


def test_prompts_are_as_long_as_time_allows(field, model):
    _, entries = field.race(model, [P2])
    assert entries["p2-float32"]["prompt"] == {
        "length": 500,
        "characters_per_second": pytest.approx(4000),
        "values": pytest.approx([4000] * 3),
    }


def test_p2_reads_enough_for_a_verdict(field, model):
    field.seconds["p2-float32"] = 0.1
    _, entries = field.race(model, [P2])
    assert entries["p2-float32"]["prompt"]["length"] == 256


def test_the_share_of_the_memory_is_that_of_the_turns(field, model):
    """1,000 characters/s throughout; the memory's rate before each of the three turns is another."""
    field.bandwidths = [1e9, 4e9, 2e9]
    made, entries = field.race(model, [P2])
    assert made.bandwidths == {"cpu": field.bandwidths}
    size = bytes_per_step(model.card)
    assert entries["p2-float32"]["bandwidth_share"] == pytest.approx(1000 * size / 2e9)


def test_the_share_on_a_gpu_is_of_its_own_memory(field, model):
    gpu = contender("gpu", group="p2")
    gpu.device = "cuda"
    made, entries = field.race(model, [P2, gpu])
    assert made.bandwidths == {"cpu": [1e9] * 3, "cuda": [8e9] * 3}
    size = bytes_per_step(model.card)
    assert entries["gpu"]["bandwidth_share"] == pytest.approx(1000 * size / 8e9)


def test_a_rate_that_cannot_be_told_any_more_costs_nobody_its_figures(field, model):
    gpu = contender("gpu", group="p2")
    gpu.device = "cuda"
    field.copies = iter([8e9, P2Error("the process that copies memory ended before its time")])
    made, entries = field.race(model, [P2, gpu])
    assert made.bandwidths["cuda"] == [8e9]
    assert made.notes == ["a model: the process that copies memory ended before its time"]
    assert len(entries["gpu"]["characters_per_second"]["values"]) == 3
    assert entries["gpu"]["bandwidth_share"] is not None


def test_who_cannot_read_is_asked_once(field, model):
    field.fails["peer", "read"] = Failed("RuntimeError: one character only", gone=False)
    made, entries = field.race(model, [P2, PEER])
    assert entries["peer"]["prompt"] is None
    assert entries["peer"]["characters_per_second"] is not None
    assert field.log.count(("peer", "read")) == 1
    assert made.notes == ["a model: peer, reading a prompt: RuntimeError: one character only"]


def test_a_peer_leaves_the_batches_when_they_take_too_long(field, model):
    slow = replace(EFFORT, batches=(1, 8, 64, 256))
    for key in ("peer", "p2-float32"):
        field.seconds[key] = lambda seed, batch: 1e-3 if batch < 64 else 2.0
    _, entries = field.race(model, [P2, PEER], slow)
    assert [point["batch"] for point in entries["peer"]["batches"]] == [1, 8]
    assert [point["batch"] for point in entries["p2-float32"]["batches"]] == [1, 8, 64, 256]
    assert field.log.count(("peer", "write 64")) == 1  # it was tried, once
    assert ("peer", "write 256") not in field.log


def test_the_smaller_batch_is_between_two_turns_of_the_larger(field, model):
    """A processor that gets faster within a turn, evenly, makes neither of them faster than it is."""
    calls = itertools.count()
    field.seconds["p2-float32"] = lambda seed, batch: batch * 1e-3 / (20 + next(calls))
    _, entries = field.race(model, [P2], replace(EFFORT, batch_rounds=1))
    assert entries["p2-float32"]["batches"][1]["growth"] == pytest.approx(1)
    written = [what for key, what in field.within("writing in batches of 8") if key == "p2-float32"]
    assert written == ["write 8", "write 8", "write", "write 8"]  # the first tells how long a turn may be


@pytest.mark.parametrize("call", ["load", "write", "memory", "read", "write 8", "follow"])
def test_who_loses_its_process_is_out_and_the_others_go_on(field, model, call):
    field.fails["peer", call] = Failed("its process ended", gone=True)
    made, entries = field.race(model, [P2, PEER, CELL])
    assert entries["peer"]["skipped"].endswith(": its process ended")
    assert entries["peer"]["characters_per_second"] is None
    assert entries["peer"]["batches"] == []
    assert entries["peer"]["first_character_s"] is None
    assert ("peer", "kill") in field.log
    for key in ("p2-float32", "torch-cell"):
        assert entries[key]["skipped"] is None
        assert len(entries[key]["batches"]) == 2
    assert made.notes == []


@pytest.mark.parametrize("call", ["load", "write"])
def test_who_cannot_even_write_is_out(field, model, call):
    field.fails["peer", call] = Failed("RuntimeError: no such kernel", gone=False)
    _, entries = field.race(model, [P2, PEER])
    assert entries["peer"]["skipped"].endswith("RuntimeError: no such kernel")


def test_who_cannot_do_a_later_thing_keeps_its_figures(field, model):
    field.fails["peer", "write 8"] = Failed("RuntimeError: one text only", gone=False)
    made, entries = field.race(model, [P2, PEER])
    assert entries["peer"]["skipped"] is None
    assert [point["batch"] for point in entries["peer"]["batches"]] == [1]
    assert made.notes == ["a model: peer, writing in batches of 8: RuntimeError: one text only"]


def test_who_is_not_installed_says_so(field, model):
    _, entries = field.race(model, [P2, contender("other", missing="it is not installed")])
    assert entries["other"]["skipped"] == "it is not installed"
    assert not any(key == "other" for key, _ in field.log)


def test_float32_texts_are_compared_with_the_written_out_cell(field, model):
    eager = contender("torch-eager")
    field.texts["torch-eager"] = 1
    field.texts["p2-int8"] = 2
    field.seconds["torch-cell"] = 0.05  # 1 second is enough for 20 characters
    _, entries = field.race(model, [P2, INT8, eager, CELL])
    texts = {key: entry["text"] for key, entry in entries.items()}
    assert [texts[key]["identical"] for key in texts] == [True, None, False, True]
    assert [texts[key]["characters"] for key in texts] == [20, 40, 20, 20]
    data = Codec(model.card.vocabulary).decode(np.arange(20) % model.card.vocab).encode()
    assert texts["p2-float32"]["sha256"] == texts["torch-cell"]["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(("others", "identical"), [([], None), ([contender("torch-eager")], True)])
def test_without_the_cell_nn_lstm_is_the_reference(field, model, others, identical):
    _, entries = field.race(model, [P2, *others])
    assert entries["p2-float32"]["text"]["identical"] is identical


def test_quality_is_of_p2_and_against_its_float32(field, model):
    field.noise["p2-int8"] = 7.0  # a constant, which softmax ignores
    held_out = np.arange(30) % model.card.vocab
    _, entries = field.race(model, [P2, INT8, PEER], held_out=held_out)
    assert entries["peer"]["quality"] is None
    for key in ("p2-float32", "p2-int8"):
        assert entries[key]["quality"]["characters"] == 12
        assert entries[key]["quality"]["bits_per_character"] == pytest.approx(np.log2(model.card.vocab))
        assert entries[key]["quality"]["passes"]


def test_predictions_that_are_no_numbers_are_told(field, model):
    field.noise["p2-int8"] = np.nan
    made, entries = field.race(model, [P2, INT8], held_out=np.zeros(30, np.int64))
    assert entries["p2-int8"]["quality"] is None
    assert made.notes == ["a model: p2-int8, reading held-out text: its predictions are not finite numbers"]


def test_the_first_character_is_the_median_of_new_processes(field, model):
    """The clock ticks once when it is read: the processes take a tick each."""
    _, entries = field.race(model, [P2, PEER], replace(EFFORT, first_characters=3))
    assert entries["peer"]["first_character_s"] == 1.0
    last = field.within("first characters")
    assert [what for what in last if what[0] == "peer"] == [
        ("peer", what) for what in ("open", "load", "write", "closed") * 2
    ]


def test_groups_take_turns_where_memory_is_short(field, model):
    """Each process keeps as much as it needed for loading: there is room for two."""
    need = race.needed_bytes(model.card)

    def free(machine):
        there = [what for _, what in machine.log]
        return int((2.5 - there.count("load") + there.count("closed")) * need)

    made, entries = field.race(model, [P2, INT8, CELL, PEER], free=free)
    assert all(entry["characters_per_second"] for entry in entries.values())
    assert made.notes == [
        "a model: memory does not hold all contenders at once, so they ran in groups:"
        " p2-float32, p2-int8; torch-cell, peer"
    ]
    assert field.log.index(("p2-int8", "closed")) < field.log.index(("torch-cell", "open"))
    # Texts are compared across the groups.
    assert entries["p2-float32"]["text"]["identical"] is True


def test_a_model_that_memory_does_not_hold_is_not_tried(field, model):
    _, entries = field.race(model, [P2, contender("other", missing="absent")], free=lambda _: 1 << 20)
    assert entries["p2-float32"]["skipped"].startswith("it may need 0.6 GiB of memory, and 0.0 GiB are free")
    assert entries["other"]["skipped"] == "absent"
    assert not any(what == "open" for _, what in field.log)


@pytest.mark.parametrize(
    ("seconds", "step", "expected"),
    [(1.0, 0.5, (16, 1)), (1.0, 0.01, (100, 1)), (1.0, 1e-4, (1024, 10)), (1.0, 1e-9, (1024, 64))],
)
def test_a_turn_is_cut_into_the_calls_of_generate(seconds, step, expected):
    assert pieces(seconds, step, 16) == expected
