"""Whole runs: resumed runs are the same runs, and a run folder never loses anything silently."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from p2.contract.codec import Codec
from p2.contract.documents import write_sealed
from p2.contract.errors import P2Error, UsageError
from p2.trainer import checkpoint, loop, run
from p2.trainer.corpus import Corpus, load
from p2.trainer.display import Silent
from p2.trainer.metrics import Report
from p2.trainer.model import CharModel
from p2.trainer.options import TrainOptions
from p2.trainer.runfolder import read_log
from p2.trainer.windows import RandomWindows, uniform_integers

Options = Callable[..., TrainOptions]

pytestmark = pytest.mark.usefixtures("without_curve")


class Killed(BaseException):
    """Stands for a kill: nothing may catch it and tidy up."""


class Notes(Silent):
    """Remembers what was said, and acts at one update."""

    def __init__(self, at: int = 0, act: Callable[[], object] = lambda: None) -> None:
        self.notes: list[str] = []
        self._at = at
        self._act = act

    def note(self, text: str) -> None:
        self.notes.append(text)

    def update(self, report: Report) -> None:
        if report.step == self._at:
            self._act()


def die() -> None:
    raise Killed


def last(folder: Path) -> tuple[checkpoint.Checkpoint, checkpoint.Tensors]:
    found = checkpoint.load(folder / "last")
    return found, checkpoint.load_training_state(found)


def assert_same(a: Path, b: Path) -> None:
    """Bit for bit the same weights, moments, carried state, averages and log."""
    (one, one_more), (two, two_more) = last(a), last(b)
    for first, second in ((one.model_state, two.model_state), (one_more, two_more)):
        assert set(first) == set(second)
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert one.record.train == two.record.train
    assert one.record.step == two.record.step
    assert one.record.best_validation_loss == two.record.best_validation_loss
    logs = [
        [{k: v for k, v in entry.items() if "second" not in k} for entry in read_log(folder / "log.jsonl")]
        for folder in (a, b)
    ]
    assert logs[0] == logs[1]


KINDS = {
    "lstm with dropout": {"dropout": 0.3},
    "lstm in bfloat16": {"precision": "bfloat16", "dropout": 0.3},
    "stateful": {"stateful": True, "batch_size": 16},
    "gru, reset before": {"cell": "gru", "gru_reset": "before", "dropout": 0.3},
    "rnn": {"cell": "rnn"},
    "regularised": {
        "dropout": 0.3,
        "variational": True,
        "output_dropout": 0.2,
        "embedding_dropout": 0.2,
        "recurrent_dropout": 0.2,
        "weight_drop": 0.2,
        "weight_decay": 0.1,
        "ema": 0.9,
        "accumulate": 2,
        "warmup": 3,
        "stateful": True,
        "precision": "bfloat16",
        "tied": True,
        "embedding": 8,
    },
    "plateau": {"schedule": "plateau", "val_every": 1, "lr": 0.5, "lr_decay": 0.5},
}


@pytest.mark.parametrize("kind", KINDS)
def test_2n_updates_are_n_and_n_more(kind: str, options: Options, corpus: Corpus, tmp_path: Path) -> None:
    changes = KINDS[kind]
    loop.train(options(**changes, steps=8, out=tmp_path / "whole"), corpus, Silent())
    loop.train(options(**changes, steps=4, out=tmp_path / "half"), corpus, Silent())
    result = loop.resume({"out": tmp_path / "half", "steps": 8}, [], Silent())
    assert result.record.step == 8
    assert not result.interrupted
    # The half run logged its last update, 4, as the whole one did: both validate there.
    assert_same(tmp_path / "whole", tmp_path / "half")


def test_the_plateaus_matter(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    """The half run above has cut its learning rate, or that test could not fail."""
    loop.train(options(**KINDS["plateau"], steps=4), corpus, Silent())
    assert last(tmp_path / "run")[1]["schedule"][2] > 0
    assert read_log(tmp_path / "run" / "log.jsonl")[-1]["lr"] < 0.5


def test_patience_ends_a_run_and_more_of_it_goes_on(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    """With what a run of more patience would have had."""
    bad = {"val_every": 1, "lr": 0.5, "steps": 30}
    loop.train(options(**bad, patience=4, out=tmp_path / "whole"), corpus, Silent())
    shown = Notes()
    result = loop.train(options(**bad, patience=2), corpus, shown)
    losses = [entry["val_loss"] for entry in read_log(tmp_path / "run" / "log.jsonl")]
    assert min(losses[:-2]) <= min(losses[-2:])
    assert not result.interrupted
    assert result.record.step == len(losses) < 30
    assert result.summary()[0].startswith(f"done: {len(losses)} updates")
    assert (
        f"enough after update {len(losses)}: 2 validations in a row were no better than the best"
        in shown.notes
    )
    again = loop.resume({"out": tmp_path / "run"}, [], Silent())
    assert (again.interrupted, again.record.step) == (False, len(losses))
    assert loop.resume({"out": tmp_path / "run", "patience": 4}, [], Silent()).record.step > len(losses)
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_a_finished_cosine_promises_no_more_updates(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    loop.train(options(schedule="cosine"), corpus, Silent())
    shown = Notes()
    loop.resume({"out": tmp_path / "run"}, [], shown)
    assert shown.notes == ["nothing to do: 4 of 4 updates are done"]


def test_the_carried_state_matters(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    """Without it the resumed stateful run would differ: the test above can fail."""
    changes = {"stateful": True, "batch_size": 16}
    loop.train(options(**changes, steps=4), corpus, Silent())
    _, training_state = last(tmp_path / "run")
    assert all(training_state[f"state.{name}"].any() for name in ("h_00", "h_01", "c_00", "c_01"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_the_run_goes_on_the_same(
    options: Options,
    corpus: Corpus,
    tmp_path: Path,
    number: signal.Signals,
    request: pytest.FixtureRequest,
) -> None:
    if number == signal.SIGHUP:  # which stays ignored where these tests run under nohup
        request.addfinalizer(partial(signal.signal, number, signal.signal(number, signal.SIG_DFL)))
    loop.train(options(steps=6, dropout=0.3, out=tmp_path / "whole"), corpus, Silent())
    handlers = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    stopping = Notes(3, lambda: os.kill(os.getpid(), number))
    result = loop.train(options(steps=6, dropout=0.3, out=tmp_path / "a b"), corpus, stopping)
    assert result.interrupted
    assert result.record.step == 3
    assert result.summary()[-1] == f"to go on: p2 train --resume --out '{tmp_path / 'a b'}'"
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == handlers
    assert not loop.resume({"out": tmp_path / "a b"}, [], Silent()).interrupted
    assert_same(tmp_path / "whole", tmp_path / "a b")


def test_a_run_under_nohup_outlives_its_terminal(options: Options, corpus: Corpus) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        hang_up = Notes(2, lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert not loop.train(options(), corpus, hang_up).interrupted
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_acts_as_usual(options: Options, corpus: Corpus) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    # A process that a shell started in the background may have been told to ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.train(options(), corpus, Notes(2, twice))
    finally:
        signal.signal(signal.SIGINT, before)


def test_after_a_kill_the_run_goes_on_from_the_last_save(
    options: Options, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.train(options(steps=8, out=tmp_path / "whole"), corpus, Silent())
    monkeypatch.setattr(run, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(run, "_SAVE_SHARE", math.inf)
    with pytest.raises(Killed):
        loop.train(options(steps=8), corpus, Notes(5, die))
    assert last(tmp_path / "run")[0].record.step == 4
    loop.resume({"out": tmp_path / "run"}, [], Silent())
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_saving_takes_a_bounded_share_of_the_time(
    options: Options, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(run, "_SAVE_SHARE", 1e-9)  # the first save puts the next one off for hours
    with pytest.raises(Killed):
        loop.train(options(steps=8), corpus, Notes(5, die))
    assert last(tmp_path / "run")[0].record.step == 1


def test_the_run_folder_has_what_it_promises(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    result = loop.train(options(steps=12, val_every=3, lr=0.02), corpus, Silent())
    folder = tmp_path / "run"
    entries = read_log(folder / "log.jsonl")
    assert [entry["step"] for entry in entries] == [1, 3, 6, 9, 10, 12]
    for entry in entries:
        assert entry["bits_per_character"] == pytest.approx(entry["loss"] / math.log(2))
        assert entry["lr"] == pytest.approx(0.02 * 0.1 ** ((entry["step"] - 1) / 1000))
        assert entry["characters_per_second"] > 0
        assert 0 < entry["running_accuracy"] < 1
        assert ("val_loss" in entry) == (entry["step"] % 3 == 0)
    assert entries[-1]["running_loss"] == result.record.train.loss
    best = min((entry for entry in entries if "val_loss" in entry), key=lambda entry: entry["val_loss"])
    assert checkpoint.load(folder).record.step == best["step"]
    assert checkpoint.load(folder).record.best_validation_loss == best["val_loss"]
    card, record = last(folder)[0].card, result.record
    assert card.corpus_sha256 == corpus.sha256 == record.corpus["sha256"]
    assert card.vocabulary == "".join(sorted(set(corpus.text)))
    assert record.corpus["characters"] == len(corpus.text)
    assert result.summary()[1:] == [
        f"the model is in {folder / 'best'}, the log in {folder / 'log.jsonl'}",
        f"next: p2 export --fp16 {folder}",
    ]


def test_without_validation_there_is_no_best(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    result = loop.train(options(val_fraction=0.0), corpus, Silent())
    assert not (tmp_path / "run" / "best").exists()
    assert result.record.validation is None
    assert str(tmp_path / "run" / "last") in result.summary()[1]
    assert checkpoint.load(tmp_path / "run").record.step == 4


def test_accuracies_are_kept_once(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    shown = Notes()
    loop.train(options(steps=60, val_every=60, lr=0.03, keep_at_accuracy=(0.15, 0.2, 1.0)), corpus, shown)
    folder = tmp_path / "run"
    assert sorted(path.name for path in folder.glob("accuracy-*")) == ["accuracy-0.15", "accuracy-0.2"]
    for value in (0.15, 0.2):
        found = checkpoint.load(folder / f"accuracy-{value}")
        assert value in found.record.kept_accuracies
        assert found.record.train is not None
        assert found.record.train.accuracy >= value
    assert last(folder)[0].record.kept_accuracies == [0.15, 0.2]
    assert sum("running accuracy 0.2 reached" in note for note in shown.notes) == 1


def test_a_folder_with_other_things_is_left_alone(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.doc").write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="run is not empty and holds no training run"):
        loop.train(options(), corpus, Silent())
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.doc"]


def test_the_folder_one_is_in_does_not_move(
    options: Options, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.train(options(), corpus, Silent())
    monkeypatch.chdir(tmp_path / "run" / "last")
    with pytest.raises(UsageError, match="is the folder you are in"):
        loop.train(options(out=Path("..")), corpus, Silent())


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(P2Error, match=r"there is no run to go on with in .*run: start one with"):
        loop.resume({"out": tmp_path / "run"}, [], Silent())


def test_nothing_left_to_do(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    loop.train(options(), corpus, Silent())
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*"))
    shown = Notes()
    result = loop.resume({"out": tmp_path / "run", "steps": 3}, [], shown)
    assert not result.interrupted
    assert shown.notes[0].startswith("nothing to do: 4 of 3 updates are done")
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*")) == before


def test_a_resumed_run_needs_its_own_text(
    options: Options, corpus: Corpus, text_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "my run"
    loop.train(options(out=out), corpus, Silent())
    given = {"out": out, "steps": 6}
    copy = tmp_path / "copy.md"
    copy.write_bytes(text_file.read_bytes())
    text_file.write_text(corpus.text + "more", encoding="utf-8")
    again = f"if that has moved, name it: `p2 train --resume --out '{out}' NEW/PATH`"
    for match in ("is not the one that the run began with", r"cannot read .*text\.txt: no such file"):
        with pytest.raises(P2Error, match=match) as caught:
            loop.resume(given, [], Silent())
        assert str(caught.value).endswith(again)
        text_file.unlink(missing_ok=True)
    assert loop.resume(given, [str(copy)], Silent()).record.step == 6


def test_a_text_from_standard_input_has_to_come_again(
    options: Options, corpus: Corpus, text_file: Path, tmp_path: Path
) -> None:
    piped = dataclasses.replace(corpus, sources=("-",))
    result = loop.train(options(out=tmp_path / "run"), piped, Silent())
    assert run.resume_command(result.folder, result.record) == f"p2 train --resume - --out {result.folder}"
    given = {"out": tmp_path / "run", "steps": 6}
    with pytest.raises(UsageError, match="came from standard input: give it again"):
        loop.resume(given, [], Silent())
    assert loop.resume(given, [str(text_file)], Silent()).record.step == 6


def test_the_text_inside_python_is_found_again(options: Options, tmp_path: Path) -> None:
    loop.train(options(steps=1, val_fraction=0.001), load([]), Silent())
    assert loop.resume({"out": tmp_path / "run", "steps": 2}, [], Silent()).record.step == 2


@pytest.fixture
def trained(options: Options, corpus: Corpus, tmp_path: Path) -> Path:
    """A GRU with a width of 8, ten updates old."""
    loop.train(options(cell="gru", steps=10, lr=0.02, out=tmp_path / "first"), corpus, Silent())
    return tmp_path / "first"


def test_init_from_starts_with_the_weights_alone(
    trained: Path, options: Options, text: str, text_file: Path, tmp_path: Path
) -> None:
    """The first loss is the one of the checkpoint on the first windows of the new text."""
    part = tmp_path / "part.txt"
    part.write_text(text[: len(text) // 2], encoding="utf-8")
    named = ("seq_len", "batch_size", "precision", "device", "steps", "val_every")
    given = {name: getattr(options(seed=4), name) for name in named}
    given |= {"seed": 4, "out": tmp_path / "second", "init_from": trained, "lr": 0.001}
    result = loop.begin(given, [str(part)], Silent())

    start = checkpoint.load(trained)
    model = CharModel(start.card)
    model.load_state_dict(start.model_state)
    tokens = Codec(start.card.vocabulary).encode(text[: len(text) // 2])
    inputs, targets = RandomWindows(tokens[: len(tokens) - len(tokens) // 10], 8, 4, 4).batch(0)
    expected = F.cross_entropy(model(inputs)[0].flatten(0, 1), targets.flatten()).item()
    first = read_log(tmp_path / "second" / "log.jsonl")[0]
    assert first["loss"] == pytest.approx(expected, abs=1e-6)
    assert first["lr"] == pytest.approx(0.001)
    found = last(tmp_path / "second")[0]
    assert found.record.step == result.record.step == 4
    assert found.card.vocabulary == start.card.vocabulary
    assert found.card.cell == "gru"
    assert found.card.hidden == 8


def test_init_from_refuses_what_does_not_fit(
    trained: Path, options: Options, corpus: Corpus, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text(corpus.text + "dé ßé", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        loop.begin({"init_from": trained, "out": tmp_path / "x"}, [str(other)], Silent())
    assert f"'é' (U+00E9 LATIN SMALL LETTER E WITH ACUTE) at position {len(corpus.text) + 1:,}" in str(
        caught.value
    )
    assert "does not know (nor 'ß')" in str(caught.value)
    assert "--on-unknown skip leaves" in str(caught.value)
    assert "--vocab-from" in str(caught.value)
    with pytest.raises(UsageError, match="--hidden 9 contradicts the checkpoint of --init-from, which has 8"):
        loop.begin({"init_from": trained, "hidden": 9}, [str(other)], Silent())
    with pytest.raises(UsageError, match="the options' cell lstm contradicts the checkpoint"):
        loop.train(options(init_from=trained, out=tmp_path / "x"), corpus, Silent())
    assert not (tmp_path / "x").exists()


def test_a_resumed_run_that_was_damaged(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    loop.train(options(), corpus, Silent())
    path = tmp_path / "run" / "last" / "model.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["training"]["options"]["hidden"] = 0
    write_sealed(path, manifest)
    with pytest.raises(P2Error, match=r"model\.json: the recorded options are damaged: hidden must be"):
        loop.resume({"out": tmp_path / "run", "steps": 6}, [], Silent())


def test_a_run_leaves_pytorch_as_it_was(options: Options, corpus: Corpus) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    loop.train(options(steps=1, dropout=0.5, threads=2), corpus, Silent())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_run_on_the_beginning_of_a_text_goes_on_with_it(
    options: Options, corpus: Corpus, tmp_path: Path
) -> None:
    head = corpus.head(300)
    loop.train(options(steps=2), head, Silent())
    with pytest.raises(P2Error, match="is not the one that the run began with"):
        loop.resume({"out": tmp_path / "run", "steps": 4}, [], Silent())
    result = loop.resume({"out": tmp_path / "run", "steps": 4}, [], Silent(), head)
    assert result.record.step == 4
    assert result.record.corpus["characters"] == 300


@pytest.mark.parametrize("validated", [True, False])
def test_a_run_that_diverges_in_its_last_update_keeps_what_was_saved(
    options: Options, corpus: Corpus, validated: bool
) -> None:
    """No later update meets the infinite weights, so only what saves them can."""
    wanted = options(lr=1e39, steps=1, val_fraction=0.1 if validated else 0.0)
    with pytest.raises(P2Error, match="diverged"):
        loop.train(wanted, corpus, Silent())
    assert not list(wanted.out.rglob("*.safetensors"))


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("characters", [0, 300])
def test_weights_are_those_of_whole_tokens_of_64_bits(
    options: Options, text: str, tmp_path: Path, stateful: bool, characters: int
) -> None:
    """Bit for bit what plain code makes of the text as it was kept before: int64, in one piece."""
    text += "".join(chr(0x4E00 + index) for index in range(characters))  # beyond 256: two bytes a token
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    wanted = options(stateful=stateful, steps=3, val_fraction=0.2)
    loop.train(wanted, load([str(tmp_path / "a.txt")]), Silent())
    found = checkpoint.load(wanted.out / "last")

    vocabulary = sorted(set(text))
    tokens = torch.tensor([vocabulary.index(character) for character in text])
    tokens = tokens[: len(tokens) - int(len(tokens) * 0.2)]
    model = CharModel(wanted.card("".join(vocabulary)))
    model.initialise(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=wanted.lr, fused=True)
    windows = (len(tokens) - 1) // 32
    (shift,) = uniform_integers(0, 2, 0, 1, len(tokens) - 32 * windows)
    state = None
    for step in range(3):
        if stateful:
            starts = torch.arange(4) * windows * 8 + shift + step * 8
        else:
            starts = torch.tensor(uniform_integers(0, 1, step, 4, len(tokens) - 8))
        window = tokens[starts[:, None] + torch.arange(9)]
        for group in optimiser.param_groups:
            group["lr"] = wanted.lr * math.pow(wanted.lr_decay, step / 1000)
        logits, state = model(window[:, :-1], state)
        state = {name: tensor.detach() for name, tensor in state.items()} if stateful else None
        optimiser.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    assert found.card.vocabulary == "".join(vocabulary)
    assert all(torch.equal(found.model_state[name], tensor) for name, tensor in model.state_dict().items())


def test_a_text_with_a_stray_byte_is_read_the_same_when_a_run_goes_on(
    options: Options, text: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(("“Quiet”. " * 9 + text).encode() + b"\x93odd")
    given = {
        name: getattr(options(), name) for name in ("hidden", "seq_len", "batch_size", "precision", "device")
    }
    given |= {"steps": 2, "encoding_errors": "replace", "out": tmp_path / "run"}
    said = Notes()
    loop.begin(given, [str(path)], said)
    assert f"bytes that are not UTF-8 were replaced by U+FFFD: 1 in {path}" in said.notes
    assert "\ufffd" in last(tmp_path / "run")[0].card.vocabulary
    assert loop.resume({"out": tmp_path / "run", "steps": 3}, [], Silent()).record.step == 3
    with pytest.raises(UsageError, match="--encoding-errors skip contradicts the run"):
        loop.resume({"out": tmp_path / "run", "encoding_errors": "skip"}, [], Silent())


def test_a_base_model_with_room_is_tuned_on_a_text_with_other_characters(
    options: Options, corpus: Corpus, tmp_path: Path
) -> None:
    """`vocab_from` takes a text or a checkpoint; without, the other characters are refused, or left out."""
    (tmp_path / "tune").mkdir()
    later = tmp_path / "tune" / "later.txt"
    later.write_text("déjà vu. " * 40, encoding="utf-8")
    wanted = options(vocab_from=tmp_path / "tune")
    said = Notes()
    loop.train(wanted, corpus, said)
    vocabulary = "".join(sorted(set(corpus.text) | set("déjà vu. ")))
    assert last(wanted.out)[0].card.vocabulary == vocabulary
    count = len(vocabulary) - len(corpus.vocabulary)
    assert (
        f"vocabulary: {len(vocabulary)} characters, {count} of them only in {tmp_path / 'tune'}" in said.notes
    )
    later.unlink()  # a run that goes on needs it no more
    loop.resume({"out": wanted.out, "steps": 6}, [], Silent())
    later.write_text("déjà vu. " * 40, encoding="utf-8")
    given = {"seq_len": 8, "batch_size": 4, "steps": 2, "precision": "float32", "device": "cpu"}
    loop.begin(given | {"init_from": wanted.out, "out": tmp_path / "tuned"}, [str(later)], Silent())
    assert last(tmp_path / "tuned")[0].card.vocabulary == vocabulary
    loop.train(options(vocab_from=wanted.out, out=tmp_path / "again"), corpus, Silent())
    assert last(tmp_path / "again")[0].card.vocabulary == vocabulary


def test_unknown_characters_can_be_left_out_and_stay_out(
    trained: Path, options: Options, corpus: Corpus, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("ß" + corpus.text.replace("r", "ré"), encoding="utf-8")
    given = {"seq_len": 8, "batch_size": 4, "steps": 2, "precision": "float32", "device": "cpu"}
    given |= {"init_from": trained, "on_unknown": "skip", "out": tmp_path / "second"}
    said = Notes()
    loop.begin(given, [str(other)], said)
    found = last(tmp_path / "second")[0]
    assert found.record.corpus["sha256"] == corpus.sha256
    assert found.record.corpus["characters"] == len(corpus)
    count = corpus.text.count("r") + 1
    assert f"{count} characters that the model does not know were left out: 'ß', 'é'" in said.notes
    assert loop.resume({"out": tmp_path / "second", "steps": 4}, [], Silent()).record.step == 4
