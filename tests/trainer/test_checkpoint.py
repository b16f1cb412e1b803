"""Checkpoints: what is written comes back, a kill costs nothing, damage is told."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from p2.contract import documents, files
from p2.contract.card import Card
from p2.contract.documents import digest
from p2.contract.errors import ContractError, P2Error
from p2.trainer import checkpoint
from p2.trainer.checkpoint import Checkpoint, Tensors
from p2.trainer.metrics import Metrics
from p2.trainer.model import CharModel
from p2.trainer.record import Record


class Killed(BaseException):
    """Stands for a kill: nothing may catch it and tidy up."""


@pytest.fixture
def card(card_of: Callable[..., Card]) -> Card:
    return card_of("lstm", layers=1, hidden=4)


def weights(card: Card, seed: int) -> Tensors:
    model = CharModel(card)
    model.initialise(seed)
    return dict(model.state_dict())


def record_at(step: int) -> Record:
    return Record(
        options={"hidden": 4},
        corpus={"sources": ["a.txt"], "sha256": "0" * 64, "characters": 9},
        software={"torch": "x"},
        step=step,
        seconds=1.5,
        train=Metrics(1.25, 0.5),
        best_validation_loss=1.0,
        kept_accuracies=[0.5],
    )


def save(folder: Path, card: Card, step: int) -> Card:
    moments = {"exp_avg.x": torch.full((3,), float(step))}
    return checkpoint.save(folder, card, weights(card, step), record_at(step), moments)


def assert_is(found: Checkpoint, card: Card, step: int) -> None:
    """The whole checkpoint of `step`, and nothing of another one."""
    assert found.record == record_at(step)
    expected = weights(card, step)
    assert set(found.model_state) == set(expected)
    assert all(torch.equal(found.model_state[name], expected[name]) for name in expected)
    moments = checkpoint.load_training_state(found)
    assert torch.equal(moments["exp_avg.x"], torch.full((3,), float(step)))


def test_what_is_saved_is_loaded(tmp_path: Path, card: Card) -> None:
    saved = save(tmp_path / "c", card, 7)
    found = checkpoint.load(tmp_path / "c")
    assert_is(found, card, 7)
    assert found.card == saved
    assert saved.checkpoint_sha256 == files.sha256_of(tmp_path / "c" / "model-7.safetensors")
    assert saved.with_(checkpoint_sha256="") == card.with_(checkpoint_sha256="")
    manifest = json.loads((tmp_path / "c" / "model.json").read_text(encoding="utf-8"))
    assert manifest["training"]["train"]["bits_per_character"] == pytest.approx(1.25 / 0.6931471805599453)


def test_a_newer_one_replaces_it_and_leaves_nothing_behind(tmp_path: Path, card: Card) -> None:
    for step in (1, 2, 2):
        save(tmp_path, card, step)
    assert_is(checkpoint.load(tmp_path), card, 2)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_run_folder_gives_its_best_else_its_last(tmp_path: Path, card: Card) -> None:
    save(tmp_path / "last", card, 2)
    assert checkpoint.load(tmp_path).record.step == 2
    save(tmp_path / "best", card, 1)
    assert checkpoint.load(tmp_path).record.step == 1
    assert checkpoint.load(tmp_path / "last").record.step == 2


@pytest.mark.parametrize("same_step", [False, True])
@pytest.mark.parametrize("survived", range(6))
def test_a_kill_at_any_moment_leaves_the_old_or_the_new(
    tmp_path: Path, card: Card, monkeypatch: pytest.MonkeyPatch, survived: int, same_step: bool
) -> None:
    """Die at the file-system call after `survived` ones: three renames, then two removals, then none."""
    old, new = 1, 1 if same_step else 2
    save(tmp_path, card, old)
    calls = 0

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > survived:
                raise Killed
            return real(*arguments, **named)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying(os.replace))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        if survived < 5:
            with pytest.raises(Killed):
                save(tmp_path, card, new)
        else:
            save(tmp_path, card, new)
    assert_is(checkpoint.load(tmp_path), card, old if survived < 3 else new)
    save(tmp_path, card, 9)
    assert_is(checkpoint.load(tmp_path), card, 9)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_a_full_disk_is_told_and_keeps_the_old(
    tmp_path: Path, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, card, 1)

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(P2Error, match=r"cannot write .*model-2\.safetensors: the disk is full"):
            save(tmp_path, card, 2)
    assert_is(checkpoint.load(tmp_path), card, 1)
    assert len(list(tmp_path.iterdir())) == 3


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Damage done to model.json by somebody who also corrected its checksum."""

    def damage(folder: Path) -> None:
        manifest = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        change(manifest)
        manifest["document_sha256"] = digest(manifest)
        (folder / "model.json").write_text(json.dumps(manifest), encoding="utf-8")

    return damage


def replace_weights(make: Callable[[Tensors], bytes]) -> Callable[[Path], None]:
    """Damage to the weights by somebody who also corrected the hash."""

    def damage(folder: Path) -> None:
        path = folder / "model-1.safetensors"
        data = make(safetensors.torch.load(path.read_bytes()))
        path.write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        edit(lambda m: m["files"]["model"].update(sha256=sha256))(folder)
        edit(lambda m: m["card"].update(checkpoint_sha256=sha256))(folder)

    return damage


def overwrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes())) and None


WEIGHTS = "model-1.safetensors"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (overwrite(WEIGHTS, lambda data: data[:-5]), r"model-1\.safetensors is damaged: .*SHA-256 differs"),
        (overwrite(WEIGHTS, lambda data: b""), r"model-1\.safetensors is damaged"),
        (overwrite(WEIGHTS, lambda data: data[:-1] + b"\x55"), r"model-1\.safetensors is damaged"),
        (lambda folder: (folder / WEIGHTS).unlink(), r"cannot read .*model-1\.safetensors: no such file"),
        (replace_weights(lambda t: b"\xff" * 64), "is not a readable safetensors file"),
        (
            replace_weights(lambda t: safetensors.torch.save({k: t[k] for k in t if "bias" not in k})),
            r"lack output\.bias, rnn\.bias_hh_l0, rnn\.bias_ih_l0",
        ),
        (
            replace_weights(lambda t: safetensors.torch.save(t | {"extra": torch.zeros(1)})),
            "hold the unknown extra",
        ),
        (
            replace_weights(lambda t: safetensors.torch.save(t | {"output.bias": torch.zeros(2)})),
            r"output\.bias is torch\.float32 \[2\], not torch\.float32 \[30\]",
        ),
        (
            replace_weights(lambda t: safetensors.torch.save(t | {"output.bias": torch.zeros(30).half()})),
            r"output\.bias is torch\.float16",
        ),
        (overwrite("model.json", lambda data: data[:-20]), r"model\.json is damaged: not valid JSON"),
        (overwrite("model.json", lambda data: b"[]"), r"model\.json is damaged"),
        (overwrite("model.json", lambda data: b"\xff\xfe"), r"model\.json is damaged"),
        (edit(lambda m: m.update(format="p2 checkpoint 9")), "has the format 'p2 checkpoint 9'"),
        (edit(lambda m: m.pop("card")), "damaged: card is missing"),
        (edit(lambda m: m["card"].update(hidden="4")), "hidden is not int"),
        (edit(lambda m: m["card"].update(hidden=5)), "do not fit the card"),
        (edit(lambda m: m["card"].update(contract_version=2)), "step contract version 2"),
        (edit(lambda m: m.pop("training")), "damaged: training is missing"),
        (edit(lambda m: m["training"].pop("step")), "the training record is damaged .step is missing"),
        (edit(lambda m: m["training"].update(train=3)), "the training record is damaged"),
        (edit(lambda m: m["files"].pop("model")), r"damaged: files\.model is missing"),
        (edit(lambda m: m["files"]["model"].pop("sha256")), r"damaged: files\.model\.sha256 is missing"),
        (edit(lambda m: m.update(files=3)), "damaged: files is not an object"),
        (edit(lambda m: m.update(more=3)), "damaged: it has the unknown field 'more'"),
        (edit(lambda m: m["card"].update(more=3)), "the model card has the unknown field 'more'"),
        (edit(lambda m: m["card"].update(vocabulary="a\udfff")), r"U\+DFFF, half of a surrogate pair"),
        (edit(lambda m: m["files"]["model"].update(name="../a")), r"'\.\./a' is no name of a file beside it"),
        (edit(lambda m: m["files"]["model"].update(name="a\0")), r"'a\\x00' is no name of a file beside it"),
        (edit(lambda m: m["files"]["model"].update(name="\x1b[2J")), r"'\\x1b\[2J' is no name of a file"),
        (edit(lambda m: m["files"]["model"].update(name="..")), r"'\.\.' is no name of a file"),
        (edit(lambda m: m["files"]["model"].update(name="")), r"'' is no name of a file"),
        (
            edit(lambda m: m["files"]["model"].update(name="x" * 9999)),
            r"'x{10,100}\.\.\.' is no name of a file",
        ),
        (edit(lambda m: m["files"]["model"].update(sha256="0" * 64)), "card is of other weights"),
    ],
)
def test_damage_is_told_in_one_sentence(
    tmp_path: Path, card: Card, damage: Callable[[Path], None], message: str
) -> None:
    save(tmp_path, card, 1)
    damage(tmp_path)
    with pytest.raises(P2Error, match=message) as caught:
        checkpoint.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def as_before(folder: Path) -> dict[str, Any]:
    """Make model.json one of the format before, which had no checksum of its own."""
    manifest: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    del manifest["document_sha256"]
    manifest["format"] = "p2 checkpoint 1"
    (folder / "model.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")
    return manifest


def test_a_checkpoint_of_the_format_before_still_loads(tmp_path: Path, card: Card) -> None:
    save(tmp_path, card, 1)
    manifest = as_before(tmp_path)
    assert_is(checkpoint.load(tmp_path), card, 1)
    (tmp_path / "model.json").write_text(json.dumps(manifest | {"document_sha2%6": "0" * 64}))
    with pytest.raises(ContractError, match="unknown field 'document_sha2%6'"):
        checkpoint.load(tmp_path)


def test_who_edits_the_card_by_hand_is_told_what_it_is(tmp_path: Path, card: Card) -> None:
    save(tmp_path, card, 1)
    path = tmp_path / "model.json"
    path.write_text(path.read_text().replace("abc", "ab"))
    with pytest.raises(ContractError, match=r"model\.json is not as p2 wrote it: .* or edited by hand"):
        checkpoint.load(tmp_path)


def test_a_flipped_bit_of_model_json_is_refused(
    tmp_path: Path, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every bit: the weights' hash only covers the weights, and a vocabulary is as good as another."""
    save(tmp_path, card, 1)
    whole = (tmp_path / "model.json").read_bytes()

    def read() -> tuple[Card, Record, object]:
        manifest = checkpoint._manifest(tmp_path)
        record = Record.from_dict(manifest["training"], "x")
        return Card.from_dict(manifest["card"], "x"), record, manifest["files"]

    expected, refused = read(), 0
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        monkeypatch.setattr(documents, "_bytes_of", lambda path, data=bytes(flipped): data)
        try:
            assert read() == expected
        except ContractError:
            refused += 1
    assert refused > 7.5 * len(whole)


def test_weights_alone_cannot_be_resumed(tmp_path: Path, card: Card) -> None:
    checkpoint.save(tmp_path, card, weights(card, 1), record_at(1))
    with pytest.raises(ContractError, match="holds weights only"):
        checkpoint.load_training_state(checkpoint.load(tmp_path))


def test_there_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("nothing", r"there is no checkpoint .*nothing: make one with `p2 train"),
        ("file", "file is a text, not a checkpoint: a checkpoint is a folder with a model.json"),
        ("folder", r"folder holds no checkpoint: it has no model\.json"),
    ):
        with pytest.raises(P2Error, match=message):
            checkpoint.load(tmp_path / name)


def test_a_vocabulary_of_any_characters_survives(tmp_path: Path, card_of: Callable[..., Card]) -> None:
    card = card_of("rnn", layers=1, hidden=2, vocabulary='\n\r"\\é\u2028\ufeff\uffff\U0001f600')
    checkpoint.save(tmp_path, card, weights(card, 0), record_at(0))
    assert checkpoint.load(tmp_path).card.vocabulary == card.vocabulary


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["embedding.weight", "exp_avg_sq.x"])
def test_numbers_that_are_not_finite_are_neither_written_nor_read(
    tmp_path: Path, card: Card, name: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, moments = weights(card, 2), {"exp_avg_sq.x": torch.ones(3)}
    tensors = model if name in model else moments
    tensors[name].view(-1)[-1] = value  # a row that hardly any text would meet
    save(tmp_path, card, 1)
    with pytest.raises(P2Error, match=f"{name} holds NaN or infinity, so {tmp_path} was not written"):
        checkpoint.save(tmp_path, card, model, record_at(2), moments)
    assert_is(checkpoint.load(tmp_path), card, 1)
    with monkeypatch.context() as patch:  # as an earlier p2 wrote it
        patch.setattr(checkpoint, "first_not_finite", lambda arrays: None)
        checkpoint.save(tmp_path, card, model, record_at(2), moments)
    with pytest.raises(ContractError, match=rf"2\.safetensors is of no use: {name} holds NaN or infinity"):
        checkpoint.load_training_state(checkpoint.load(tmp_path))
