"""The parity suite passes what is right and catches what is wrong."""

from __future__ import annotations

import dataclasses
import functools
import io
import json

import numpy as np
import onnx
import pytest
from rich.console import Console

from p2.cli import main
from p2.contract.errors import P2Error, UsageError
from p2.export.exporter import export_checkpoint
from p2.export.graph import stamp
from p2.parity.compare import TAUS, Reference, first_difference
from p2.parity.report import _picture, table
from p2.runtime.backends import NATIVE, ONNXRUNTIME
from p2.runtime.onnxruntime.engine import OnnxEngine, open_onnx
from p2.runtime.opening import open_step_engine, usable_backends
from p2.runtime.step_file import open_step
from p2.trainer.eager import open_checkpoint


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The run of a cell and its float32 step, exported once per cell."""
    made = {}

    def export(cell="lstm", reset="after"):
        if (cell, reset) not in made:
            run = trained(cell, reset)
            path = tmp_path_factory.mktemp("exported") / "charlm.onnx"
            export_checkpoint(run, out=path, engine="none")
            made[cell, reset] = run, path
        return made[cell, reset]

    return export


@pytest.fixture(scope="module")
def reference_of():
    """What eager PyTorch says, worked out once per run for all backends."""
    return functools.cache(lambda run: Reference(open_checkpoint(run), steps=1000, characters=2000, seed=11))


@pytest.mark.parametrize("backend", [NATIVE, ONNXRUNTIME])
def test_float32_writes_the_same_2000_characters_as_eager(cell, backend, exported, reference_of):
    run, path = exported(*cell)
    reference = reference_of(run)
    if backend not in usable_backends(path):
        pytest.skip("the compiled decoder cannot run here")
    result = reference.compare(open_step_engine(path, backend=backend), str(path))
    assert result.failures == []
    assert result.first_difference == {f"{tau:g}": None for tau in TAUS}
    assert result.forced.steps == 1000
    assert result.restored
    assert result.bits == pytest.approx(result.bits_reference, abs=1e-5)
    assert all(len(set(reference.samples[tau])) > 5 for tau in TAUS)  # it does write text


class Narrow(OnnxEngine):
    """An engine that takes few texts at once, as a plan does."""

    most = 1

    def zero_state(self, batch):
        if batch > self.most:
            raise UsageError(f"built for {self.most}, not for {batch}")
        self.widest = max(getattr(self, "widest", 0), batch)
        return super().zero_state(batch)


@pytest.mark.parametrize("most", [1, 3, 4])
def test_a_plan_for_few_texts_is_compared_with_as_many(most, exported):
    run, path = exported()
    reference = Reference(open_checkpoint(run), steps=50, characters=60, seed=11)
    engine = Narrow(open_step(path), 1)
    engine.most = most
    result = reference.compare(engine, str(path))
    assert result.failures == []
    assert engine.widest == most
    assert (result.rows is None) == (most == 1)
    assert result.to_dict()["rows"] == (result.rows and result.rows.to_dict())
    shown = io.StringIO()
    Console(file=shown, width=120).print(table([result], {}))
    assert ("takes one text" in shown.getvalue()) == (most == 1)


class Wrong(OnnxEngine):
    """An engine with one of the faults that deployed recurrent models have had."""

    fault = ""

    def feed(self, state, tokens, *, logits=False):
        if self.fault == "mixes rows" and len(tokens) > 1 and tokens.shape[1] > 1:
            tokens = tokens[::-1].copy()
        out = super().feed(state, tokens, logits=logits)
        if self.fault == "wrong from the start" and out is not None:
            out = np.roll(out, 1, axis=-1)
        return out

    def decode(self, state, last, noise, sampling):
        if self.fault == "ignores its noise":
            noise = noise[::-1].copy()
        out = super().decode(state, last, noise, sampling)
        return np.zeros_like(out) if self.fault == "writes one character" else out

    def restore(self, snapshot):
        if self.fault == "forgets a state":
            snapshot = snapshot | {"h_00": np.zeros_like(snapshot["h_00"])}
        if self.fault == "loses a digit of a state":
            snapshot = snapshot | {"h_00": np.nextafter(snapshot["h_00"], np.float32(0))}
        return super().restore(snapshot)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("mixes rows", "a row of a batch"),
        ("wrong from the start", "a single step"),
        ("ignores its noise", "at tau 0.5 the text differs from character"),
        ("forgets a state", "from a snapshot"),
        ("loses a digit of a state", "from a snapshot"),  # which no text shows
        ("writes one character", "of what it writes is what its own logits choose"),
    ],
)
def test_each_fault_is_caught_and_named(fault, words, exported, tmp_path):
    run, path = exported()
    if fault == "writes one character":  # for an integer engine too, whose text may differ from eager's
        path = tmp_path / "int8.onnx"
        export_checkpoint(run, precision="int8", out=path, engine="none")
    engine = Wrong(open_step(path))
    engine.fault = fault
    result = Reference(open_checkpoint(run), steps=60, characters=60, seed=0).compare(engine, "wrong.onnx")
    assert any(words in failure for failure in result.failures), result.failures


def test_a_step_that_is_right_once_and_then_drifts_is_caught(exported, tmp_path):
    """The forget gate of layer 1 a little off: no single step from zero shows it."""
    run, path = exported()
    model = onnx.load(path)
    # c' = f * c + i * g: scale the carried part.
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "c_01_in":
                node.input[index] = "c_01_scaled"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.9).reshape(()), "fade"))
    model.graph.node.insert(0, onnx.helper.make_node("Mul", ["c_01_in", "fade"], ["c_01_scaled"]))
    stamp(model)
    drifting = tmp_path / "drifting.onnx"
    drifting.write_bytes(model.SerializeToString())
    result = Reference(open_checkpoint(run), steps=200, characters=50, seed=0).compare(
        open_onnx(drifting), "d"
    )
    assert result.single.relative < 1e-6
    assert any("the text of 200 steps is off" in failure for failure in result.failures)


def test_another_models_engine_is_refused(exported, trained):
    _, path = exported()
    with pytest.raises(P2Error, match="another checkpoint"):
        Reference(open_checkpoint(trained("gru")), 10, 10, 0).compare(open_onnx(path), str(path))


def test_first_difference():
    assert first_difference(np.array([1, 2, 3]), np.array([1, 2, 3])) is None
    assert first_difference(np.array([1, 2, 3]), np.array([1, 0, 0])) == 1


def test_the_command_shows_a_table_and_writes_json_and_a_picture(tiny_run, capsys):
    for precision in ("float32", "int8"):
        export_checkpoint(tiny_run, precision=precision, out=tiny_run / f"{precision}.onnx", engine="none")
    code = main(["parity", "--checkpoint", str(tiny_run), "--steps", "60", "--characters", "80"])
    out = capsys.readouterr().out
    assert code == 0
    assert "float32.onnx" in out
    assert "nowhere" in out
    report = json.loads((tiny_run / "parity.json").read_text())
    assert report["passed"]
    backends = usable_backends(tiny_run / "int8.onnx")
    wanted = [(precision, len(backends)) for precision in ("float32", "int8")]
    found = [e["precision"] for e in report["engines"]]
    assert [(precision, found.count(precision)) for precision in dict.fromkeys(found)] == wanted
    assert len({e["engine"] for e in report["engines"]}) == 2 * len(backends)
    assert len(report["engines"][0]["errors"]) == 60
    assert report["machine"]["packages"]["torch"]
    assert "<svg" in (tiny_run / "parity.svg").read_text()


def test_the_command_reads_a_given_text(tiny_run, tmp_path, capsys):
    export_checkpoint(tiny_run, engine="none")
    text = tmp_path / "held-out.txt"
    text.write_text("the lazy dog sells shells by the quick sea shore.\n")
    arguments = ["parity", "--checkpoint", str(tiny_run), "--text", str(text), "--characters", "20"]
    assert main([*arguments, "--json", str(tmp_path / "p.json")]) == 0
    assert json.loads((tmp_path / "p.json").read_text())["engines"][0]["forced"]["steps"] == 49
    text.write_text("Ω")
    assert main(arguments) == 2
    assert "GREEK CAPITAL LETTER OMEGA" in capsys.readouterr().err
    text.write_text("the Ω lazy Ωdog sells shells\n")
    assert (
        main([*arguments, "--on-unknown", "skip", "--steps", "12", "--json", str(tmp_path / "p.json")]) == 0
    )
    assert "skipped 2 characters" in capsys.readouterr().out
    assert json.loads((tmp_path / "p.json").read_text())["engines"][0]["forced"]["steps"] == 12


def test_an_engine_out_of_tolerance_is_exit_code_1(tiny_run, capsys, monkeypatch):
    from p2.runtime import opening

    export_checkpoint(tiny_run, engine="none")

    def wrong(path, threads=None, backend=None):
        engine = Wrong(open_step(path), threads)
        engine.fault = "forgets a state"
        return engine

    monkeypatch.setattr(opening, "open_step_engine", wrong)
    assert main(["parity", "--checkpoint", str(tiny_run), "--steps", "30", "--characters", "20"]) == 1
    captured = capsys.readouterr()
    assert "out of tolerance" in captured.err
    assert "out of tolerance" in captured.out
    assert not json.loads((tiny_run / "parity.json").read_text())["passed"]


def test_the_errors_along_a_long_text_are_its_largest(exported):
    run, path = exported()
    result = Reference(open_checkpoint(run), steps=20, characters=20, seed=1).compare(
        OnnxEngine(open_step(path)), ""
    )
    assert result.to_dict()["steps_of_an_error"] == 1
    assert len(result.to_dict()["errors"]) == 20
    errors = [float(step % 7) for step in range(2500)]
    told = dataclasses.replace(result, errors=errors).to_dict()
    assert told["steps_of_an_error"] == 10
    assert told["errors"] == [max(errors[at : at + 10]) for at in range(0, 2500, 10)]
    assert "<svg" in _picture([dataclasses.replace(result, errors=errors)]).decode()


def test_the_table_reads_at_any_width(exported):
    """No name is cut, no figure is parted, however many engines there are."""
    run, path = exported()
    result = Reference(open_checkpoint(run), steps=20, characters=20, seed=1).compare(
        OnnxEngine(open_step(path)), ""
    )
    names = [f"[bold]-float16-{n}.onnx" for n in range(9)]
    results = [dataclasses.replace(result, path=f"folder/{name}") for name in names]
    for width in (50, 80, 120):
        shown = io.StringIO()
        Console(file=shown, width=width).print(table(results, {"a/charlm.plan": "no GPU"}))
        lines, words = shown.getvalue().splitlines(), shown.getvalue().split()
        assert max(map(len, lines)) <= width
        assert [word for word in words if word.endswith(".onnx")] == names
        assert words.count(f"{result.forced.max_abs:.1e}") >= 9
        assert "charlm.plan" in words
        assert len(lines) <= 9 * 13 + 4  # only the name of what runs it takes two


def test_engines_of_another_checkpoint_alone_are_not_a_success(tiny_run, trained, capsys):
    export_checkpoint(trained("gru"), out=tiny_run / "other.onnx", engine="none")
    assert main(["parity", "--checkpoint", str(tiny_run)]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("p2: nothing was compared:")
    assert "was exported from another checkpoint" in said


def test_a_report_that_nobody_asked_for_is_not_missed(tiny_run, tmp_path, capsys, monkeypatch):
    """A model may lie where nothing can be written."""
    export_checkpoint(tiny_run, engine="none")
    arguments = ["parity", "--checkpoint", str(tiny_run), "--steps", "8", "--characters", "8"]
    arguments += ["--backend", "onnxruntime-cpu"]
    (tiny_run / "parity.json").mkdir()
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "nowhere" in said
    assert "no report: cannot write" in said
    assert "--json names another place" in said
    assert main([*arguments, "--json", str(tiny_run / "parity.json")]) == 1
    assert "it is a folder" in capsys.readouterr().err


def test_nothing_to_compare_is_a_sentence(tiny_run, capsys):
    assert main(["parity", "--checkpoint", str(tiny_run)]) == 1
    assert "there is no engine in" in capsys.readouterr().err
    assert main(["parity", "--checkpoint", str(tiny_run), "--steps", "0"]) == 2
