"""`p2 bench` as a whole: what it measures, writes and says, and its answer to bad calls."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from p2 import cli
from p2.bench import models, race, rates, reading, run, startup, training
from p2.bench.entries import add_matmul_share, blank
from p2.bench.options import FULL, QUICK
from p2.bench.quality import DIFFERENCE_LIMITS
from p2.contract.errors import P2Error
from p2.render.progress import Progress
from p2.trainer.options import TrainOptions

TINY = replace(
    QUICK,
    rounds=2,
    turn_seconds=0.01,
    latency_seconds=0.01,
    batches=(1, 4),
    batch_seconds=0.01,
    prompt_length=200,
    text_length=100,
    quality_characters=150,
)
RATES = {"matmul numpy": 1e10}
START_UP = {"help_s": 0.1, "generate_first_character_s": 0.3, "runs": 1}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, and everything short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "QUICK", TINY)
    monkeypatch.setattr(race, "REST_SECONDS", 0.0)
    monkeypatch.setattr(rates, "measure", lambda threads: dict(RATES))
    monkeypatch.setattr(
        rates, "Bandwidth", lambda threads: contextlib.nullcontext(SimpleNamespace(read=lambda: 2e9))
    )
    monkeypatch.setattr(startup, "measure", lambda runs, folder: dict(START_UP))
    return tmp_path


@pytest.fixture
def no_race(monkeypatch):
    """Nothing is exported or measured: every contender has the same figures."""
    raced = []
    monkeypatch.setattr(models, "export_steps", lambda *_: {})
    monkeypatch.setattr(models, "prepare_peers", lambda _: None)

    def fake(self, entrants):
        raced.append(self._model.name)
        entries = [blank(entrant.contender) for entrant in entrants]
        for entry in entries:
            entry["characters_per_second"] = race.entries.spread([10.0, 20.0, 30.0])
            entry["bytes_per_step"] = 1000
        return entries

    monkeypatch.setattr(race.Race, "run", fake)
    return raced


def bench(capsys, *argv, code=0):
    """Call ``p2 bench``, expect an exit code, return stdout and stderr."""
    assert cli.main(["bench", *map(str, argv)]) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.out, captured.err


def test_a_trained_and_a_random_model_for_real(here, capsys, tiny_run, plugins, monkeypatch):
    gpu = SimpleNamespace(read=lambda: 4e12, product=lambda: 5e13)
    monkeypatch.setattr(run.copying, "Copying", lambda device: contextlib.nullcontext(gpu))
    out, err = bench(
        capsys,
        tiny_run,
        "--shape=rnn,1,8,16",
        "--quick",
        "--contenders=p2-int8,torch-cell,bench_plugins:Crashes,bench_plugins:Absent,bench_plugins:OnGpu",
        "--out=bench/small.json",
    )
    assert "report: bench/small.json, bench/small.html, bench/small.md" in out
    assert "rnn,1,8,16: one text, written and read" in err
    document = reading.load(Path("bench/small.json"))
    assert [path.suffix for path in sorted(Path("bench").iterdir())] == [".html", ".json", ".md", ".svg"]
    assert document["quick"]
    assert document["settings"]["rounds"] == 2
    assert document["settings"]["start_up"] == START_UP
    assert [measured["name"] for measured in document["models"]] == [
        f"{tiny_run} (lstm,2,16,32)",
        "rnn,1,8,16",
    ]
    for measured in document["models"]:
        entries = {entry["key"]: entry for entry in measured["entries"]}
        assert list(entries) == ["p2-float32", "p2-int8", "torch-cell", "crashes", "absent", "on-gpu"]
        assert "exit code 3: the driver is on fire" in entries["crashes"]["skipped"]
        assert entries["absent"]["skipped"] == "it is not installed"
        assert measured["rates"]["bandwidth_bytes_per_second"] == 2e9
        assert measured["rates"]["gpu"] == {"copy_bytes_per_second": 4e12, "matmul_flops_per_second": 5e13}
        gpu = entries["on-gpu"]
        share = gpu["bytes_per_step"] * gpu["characters_per_second"]["median"] / 4e12
        assert gpu["bandwidth_share"] == pytest.approx(share)
        assert gpu["matmul_share"] > 0
        assert any(target["what"].startswith("GPU, 64 texts") for target in measured["targets"])
        assert measured["targets"]
        for key in ("p2-float32", "p2-int8", "torch-cell"):
            entry = entries[key]
            assert entry["skipped"] is None
            speed = entry["characters_per_second"]
            assert speed["p5"] <= speed["median"] <= speed["p95"]
            assert entry["latency"]["p50_us"] <= entry["latency"]["p99_us"]
            assert [point["batch"] for point in entry["batches"]] == [1, 4]
            assert entry["load_s"] < entry["first_character_s"]
            assert entry["peak_memory_bytes"] > 1 << 24
            share = entry["bytes_per_step"] * speed["median"] / 2e9
            assert entry["bandwidth_share"] == pytest.approx(share)
            assert len(speed["values"]) == len(entry["prompt"]["values"]) == 2
            growths = [point["growth"] is not None for point in entry["batches"]]
            assert growths == [False, key != "torch-cell"]
            assert entry["prompt"]["length"] == 200
        assert entries["p2-float32"]["text"]["identical"] is True
        assert entries["torch-cell"]["text"]["identical"] is True
        assert entries["p2-int8"]["text"]["identical"] is None
    trained, random = document["models"]
    qualities = {entry["key"]: entry["quality"] for entry in trained["entries"]}
    assert qualities["p2-float32"]["characters"] == 150
    assert qualities["p2-float32"]["difference"] == 0
    assert qualities["p2-int8"]["limit"] == DIFFERENCE_LIMITS["int8"]
    assert qualities["p2-int8"]["kl"] > 0
    assert qualities["torch-cell"] is None
    assert all(entry["quality"] is None for entry in random["entries"])
    assert (
        "rnn,1,8,16: no quality, the weights are random and predict no text" in document["settings"]["notes"]
    )
    compared, _ = bench(capsys, "compare", "bench/small.json", "bench/small.json", "--markdown")
    assert "| rnn,1,8,16 |" in compared
    assert "characters/s" in bench(capsys, "compare", "bench/small.json", "bench/small.json")[0]


def test_products_are_against_the_machine():
    """2 x 50 operations at 400 characters/s of 1e10."""
    entry = blank(
        type("C", (), dict.fromkeys(("key", "title", "precision", "group"), "x") | {"device": "cpu"})
    )
    entry["characters_per_second"] = race.entries.spread([10.0, 20.0, 30.0])
    entry["batches"] = [race.entries.point(8, [400.0]), race.entries.point(16, [300.0])]
    observed = rates.combine([2e9], RATES)
    add_matmul_share(entry, observed, weights=50)
    assert entry["matmul_share"] == pytest.approx(2 * 50 * 400 / 1e10)
    entry |= {"device": "cuda", "matmul_share": None}
    add_matmul_share(entry, observed, weights=50)
    assert entry["matmul_share"] is None


def test_finished_models_survive_an_interruption(here, capsys, monkeypatch, no_race):
    fake = race.Race.run

    def interrupted(self, entrants):
        if no_race:
            raise KeyboardInterrupt
        return fake(self, entrants)

    monkeypatch.setattr(race.Race, "run", interrupted)
    _, err = bench(
        capsys, "--quick", "--shape=rnn,1,8,16", "--shape=gru,1,8,16", "--contenders=p2-int8", code=130
    )
    assert "rnn,1,8,16 is done: artifacts/bench/report.json" in err
    document = reading.load(Path("artifacts/bench/report.json"))
    assert [measured["name"] for measured in document["models"]] == ["rnn,1,8,16"]
    assert "rnn,1,8,16" in Path("artifacts/bench/report.html").read_text()


def test_nothing_is_written_when_the_page_cannot_be_made(here, monkeypatch, no_race):
    def fails(document):
        raise RuntimeError("no page")

    monkeypatch.setattr(run.rendering.html, "page", fails)
    with pytest.raises(RuntimeError, match="no page"):
        cli.main(["bench", "--quick", "--shape=rnn,1,8,16", "--contenders=p2-int8", "--out=b/r.json"])
    assert list(Path("b").iterdir()) == []


def test_with_nothing_named_the_model_of_train_is_measured(here, capsys, no_race, tiny_run):
    TrainOptions.out.parent.mkdir()
    tiny_run.rename(TrainOptions.out)
    bench(capsys, "--quick", "--precisions=int8")
    assert no_race == ["artifacts/charlm (lstm,2,16,32)"]


def test_an_earlier_report_is_kept_and_a_killed_ones_folder_goes(here, capsys, monkeypatch, no_race):
    monkeypatch.setattr(tempfile, "tempdir", str(here))
    left = Path(f"{run.SCRATCH}killed")
    left.mkdir()
    (left / ".lock").touch()
    (left / "charlm.onnx").write_bytes(b"some GiB")
    for shape in ("rnn,1,8,16", "gru,1,8,16"):
        files = {path.name: path.read_bytes() for path in Path("artifacts/bench").glob("report.*")}
        _, err = bench(capsys, "--quick", f"--shape={shape}", "--contenders=p2-int8")
    kept = Path("artifacts/bench/report.json.old-1")
    assert f"the report that was in artifacts/bench/report.json is kept in {kept}\n" in err
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == files
    assert len(files) == 4
    assert sorted(path.name for path in here.iterdir()) == ["artifacts"]


def test_with_nothing_there_a_small_model_is_trained_first(here, capsys, monkeypatch, no_race):
    monkeypatch.setattr(models, "TRAINED_STEPS", 1)
    monkeypatch.setattr(models, "TRAINED_HIDDEN", 8)
    _, err = bench(capsys, "run", "--quick", "--precisions=int8")
    assert err.startswith("no model was named and there is none in artifacts/charlm: training a small one")
    assert no_race == ["artifacts/bench/model (lstm,2,64,8)"]


def test_a_model_that_is_too_large_is_skipped_with_a_sentence(here, capsys, monkeypatch, no_race):
    monkeypatch.setattr(run, "memory_available", lambda: 1 << 20)
    bench(capsys, "--quick", "--shape=lstm,2,512,4096", "--contenders=p2-int8")
    (measured,) = reading.load(Path("artifacts/bench/report.json"))["models"]
    for entry in measured["entries"]:
        assert entry["skipped"] == "to make its files, it may need 6.3 GiB of memory, and 0.0 GiB are free"
    assert no_race == []

    def refuses(card, *_):
        raise P2Error("one file cannot hold it")

    monkeypatch.setattr(run, "memory_available", lambda: None)
    monkeypatch.setattr(models, "from_shape", refuses)
    bench(capsys, "--quick", "--shape=lstm,2,512,4096", "--contenders=p2-int8")
    (measured,) = reading.load(Path("artifacts/bench/report.json"))["models"]
    assert {entry["skipped"] for entry in measured["entries"]} == {"one file cannot hold it"}


def test_start_up_that_fails_is_a_note(here, capsys, monkeypatch, no_race):
    def fails(runs, folder):
        raise P2Error("`p2 --help` fails with exit code 9")

    monkeypatch.setattr(startup, "measure", fails)
    bench(capsys, "--quick", "--shape=rnn,1,8,16", "--contenders=p2-int8")
    settings = reading.load(Path("artifacts/bench/report.json"))["settings"]
    assert settings["start_up"] is None
    assert "`p2 --help` fails with exit code 9" in settings["notes"]


def test_a_full_run_measures_training_and_all_batches(here, capsys, monkeypatch, no_race):
    speeds = {
        "p2_characters_per_second": 2.0,
        "hand_written_characters_per_second": 1.0,
        "times_hand_written": 2.0,
        "precision": "float32",
    }
    monkeypatch.setattr(training, "measure", lambda rounds, threads: speeds | {"rounds": rounds})
    bench(capsys, "--shape=rnn,1,8,16", "--contenders=p2-int8")
    settings = reading.load(Path("artifacts/bench/report.json"))["settings"]
    assert settings["training"] == speeds | {"rounds": FULL.training_rounds}
    assert settings["batches"] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    bench(capsys, "--shape=rnn,1,8,16", "--contenders=p2-int8", "--batches=3,1")
    assert reading.load(Path("artifacts/bench/report.json"))["settings"]["batches"] == [1, 3]


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--contenders", "abacus"], 2, "unknown contender 'abacus': choose from p2-float32, "),
        (["--contenders", ","], 2, "--contenders takes names with commas between, not ','"),
        (["--contenders", "no.such:Thing"], 2, "the contender no.such:Thing cannot be imported"),
        (["--precisions", "int3"], 2, "unknown precision 'int3'"),
        (["--shape", "lstm,2,64"], 2, "--shape takes cell,layers,embedding,hidden"),
        (["--shape", "lstm,2,64,many"], 2, "--shape takes cell,layers,embedding,hidden"),
        (["--shape", "lstm,2,64,-5"], 2, "--shape takes cell,layers,embedding,hidden"),
        (["--shape", "mamba,2,64,128"], 2, "--shape mamba,2,64,128: unknown cell 'mamba'"),
        (["--shape", "lstm,0,64,128"], 2, "--shape lstm,0,64,128: layers must be at least 1, not 0"),
        (["--batches", "1,x"], 2, "--batches takes numbers from 1 to 65,536"),
        (["--batches", "0"], 2, "--batches takes numbers from 1 to 65,536"),
        (["--threads", "0"], 2, "--threads must be 1 to 256, not 0"),
        (["--out", "report"], 2, "--out names the .json file to write"),
        (["--shape", "rnn,1,8,16", "--text", "a.txt"], 2, "--text measures what a trained model predicts"),
        (["nowhere"], 1, "there is no checkpoint nowhere"),
        (["nowhere", "--text", "a.txt"], 1, "cannot read a.txt: no such file"),
        (["--out", "file/report.json", "--shape", "rnn,1,8,16"], 1, "cannot write file: "),
        (["compare", "a.json", "b.json"], 1, "cannot read a.json: no such file"),
        (["compare", "a.json"], 2, "Missing argument 'B'"),
        (["--wat"], 2, "No such option: --wat"),
    ],
)
def test_bad_calls_are_answered(here, capsys, no_race, argv, code, words):
    Path("file").write_text("")
    assert words in bench(capsys, *argv, code=code)[1]
    assert no_race == []
    assert not Path("artifacts").exists()


def test_the_help_knows_both_commands(capsys):
    assert "compare  What changed" in bench(capsys, "--help")[0]
    assert "--markdown" in bench(capsys, "compare", "--help")[0]
    assert cli.main(["--help"]) == 0
    assert "bench" in capsys.readouterr().out


def test_the_command_itself_is_timed(tmp_path):
    found = startup.measure(1, tmp_path)
    assert found["help_s"] > 0
    assert found["generate_first_character_s"] > 0
    with pytest.raises(P2Error, match=r"generate .*absent.onnx .* fails with exit code 1"):
        startup.time_first_character("--engine", str(tmp_path / "absent.onnx"))


def test_training_loops_take_turns():
    """And turns in who begins."""
    calls = []

    def turn(name, seconds):
        return lambda first, end: calls.append((name, first, end)) or seconds

    speeds = training.alternate([turn("a", 2.0), turn("b", 4.0)], 2, 3, 50, pause=lambda _: None)
    assert speeds == [[75.0, 75.0], [37.5, 37.5]]
    assert calls == [(n, 3 * i, 3 * i + 3) for i, names in enumerate(["ab", "ba", "ab"]) for n in names]


def test_a_training_process_that_ends_is_said():
    with (
        training.own_process("nobody's", TrainOptions(), None) as turn,
        pytest.raises(P2Error, match="ended before its time"),
    ):
        turn(0, 1)


def test_the_hand_written_loop_learns():
    torch.manual_seed(0)
    options = TrainOptions(layers=1, embedding=4, hidden=16, seq_len=16, batch_size=8, precision="float32")
    update = training.hand_written(options.card("ab"), options, "ab" * 200)
    losses = [update(number) for number in range(30)]
    assert losses[0] == pytest.approx(np.log(2), abs=0.2)
    assert losses[-1] < 0.1


def test_training_is_measured_against_it(monkeypatch):
    """Text, shape and batch are p2's defaults; here they only have to go through."""
    monkeypatch.setattr(training, "REST_SECONDS", 0.0)
    defaults = TrainOptions(
        layers=1, embedding=4, hidden=8, seq_len=8, batch_size=4, device="cpu", val_fraction=0
    )
    monkeypatch.setattr("p2.trainer.options.TrainOptions", lambda **_: defaults)
    found = training.measure(1, 1, updates=1)
    assert found["p2_characters_per_second"] > 0
    assert found["hand_written_characters_per_second"] > 0
    assert found["times_hand_written"] > 0
    assert found["precision"] in ("float32", "bfloat16")
    assert json.loads(json.dumps(found)) == found


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self):
        return True


def test_a_terminal_shows_a_bar_and_a_pipe_shows_lines(monkeypatch, capsys):
    def show():
        with Progress() as progress:
            progress.phase("writing", 4)
            progress.now("somebody")
            progress.done(3)
            progress.say("a line that stays")

    show()
    assert capsys.readouterr().err == "writing\na line that stays\n"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", Terminal())
    show()
    shown = sys.stderr.getvalue()
    for words in ("writing", "3/4", "somebody", "a line that stays"):
        assert words in shown
