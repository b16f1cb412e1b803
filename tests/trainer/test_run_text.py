"""The text of a run: the one that it began with when it goes on, another one for weights that are there."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from p2.contract.codec import Codec
from p2.contract.errors import P2Error, UsageError
from p2.trainer import checkpoint, loop, run
from p2.trainer.corpus import Corpus, load
from p2.trainer.display import Silent
from p2.trainer.model import CharModel
from p2.trainer.options import TrainOptions
from p2.trainer.runfolder import read_log
from p2.trainer.windows import RandomWindows, uniform_integers

from .whole_runs import Notes, last

Options = Callable[..., TrainOptions]

pytestmark = pytest.mark.usefixtures("without_curve")


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
