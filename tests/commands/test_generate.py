"""How `p2 generate` is called: the good way through, and every bad call a sentence."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from p2.cli import main
from p2.export.exporter import export_checkpoint
from p2.runtime.onnxruntime.engine import OnnxEngine


def test_eager_and_exported_write_the_same_text(here, capsys, tiny_run):
    export_checkpoint(tiny_run, out=here / "charlm.onnx", engine="none")
    texts = []
    for name in ("charlm.onnx", str(tiny_run)):
        assert main(["generate", "--engine", name, "--prompt", "the ", "--seed", "3", "--tau", "0.5"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert len(texts[0]) >= 504


def test_a_random_seed_is_told_so_that_the_text_can_be_had_again(engine, capsys):
    main(["generate", "--length", "80"])
    first = capsys.readouterr()
    seed = first.err.split()[1]
    main(["generate", "--length", "80", "--seed", seed])
    assert capsys.readouterr().out == first.out
    main(["generate", "--length", "80"])
    assert capsys.readouterr().out != first.out


def test_json_streams_and_samples(engine, capsys):
    main(["generate", "--json", "--num-samples", "3", "--seed", "5", "--length", "40"])
    answer = json.loads(capsys.readouterr().out)
    assert [sample["stream"] for sample in answer["samples"]] == [0, 1, 2]
    main(["generate", "--no-stream", "--seed", "5", "--length", "40"])
    assert capsys.readouterr().out.rstrip("\n") == answer["samples"][0]["text"].rstrip("\n")


def test_greedy_is_temperature_zero_and_tau_is_its_inverse(engine, capsys):
    def text(*options: str) -> str:
        assert main(["generate", "--seed", "2", "--length", "60", *options]) == 0
        return capsys.readouterr().out

    assert text("--greedy") == text("--temperature", "0")
    assert text("--tau", "2") == text("--temperature", "0.5")
    assert text("--tau", "2") != text("--tau", "0.5")
    assert text("--threads", "1") == text("--threads", "2")


def test_a_prompt_from_a_file(engine, here, capsys, monkeypatch):
    (here / "prompt.txt").write_bytes(b"the fox\r\njumps\n")
    main(["generate", "--prompt-file", "prompt.txt", "--length", "20", "--seed", "1"])
    text = capsys.readouterr().out
    assert text.startswith("the fox\njumps")
    stdin = SimpleNamespace(buffer=io.BytesIO(b"the fox\r\njumps\n"))
    monkeypatch.setattr("sys.stdin", stdin)
    main(["generate", "--prompt-file", "-", "--length", "20", "--seed", "1"])
    assert capsys.readouterr().out == text


def test_an_empty_prompt_is_a_prompt(engine, capsys):
    written = []
    for prompt in (["--prompt", ""], ["--prompt="], []):
        assert main(["generate", *prompt, "--length", "20", "--seed", "1"]) == 0
        written.append(capsys.readouterr().out)
    assert written == written[:1] * 3
    assert len(written[0]) > 20


def json_lines(capsys, *options: str) -> list[dict[str, object]]:
    assert main(["generate", "--seed", "5", "--length", "60", *options]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return [json.loads(line) for line in captured.out.splitlines()]


def test_prompts_from_a_file_are_lines_of_json_in_order(engine, here, capsys):
    (here / "prompts.txt").write_bytes(b"the fox\r\n\na\n")
    lines = json_lines(capsys, "--prompts", "prompts.txt", "--num-samples", "2")
    assert [(n["prompt_index"], n["sample"], n["stream"], n["prompt"]) for n in lines] == [
        (0, 0, 0, "the fox"),
        (0, 1, 1, "the fox"),
        (1, 0, 2, ""),
        (1, 1, 3, ""),
        (2, 0, 4, "a"),
        (2, 1, 5, "a"),
    ]
    assert list(lines[0]) == ["prompt_index", "sample", "stream", "seed", "prompt", "text", "stopped"]
    assert {(n["seed"], n["stopped"], len(n["text"])) for n in lines} == {(5, False, 60)}
    assert len({n["text"] for n in lines}) == 6


def test_prompts_from_standard_input_are_those_of_a_file(engine, here, capsys, monkeypatch):
    (here / "prompts.txt").write_text("the fox\n\na")
    from_file = json_lines(capsys, "--prompts", "prompts.txt")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"the fox\n\na")))
    assert json_lines(capsys, "--prompts", "-") == from_file


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_one_text_of_a_job_can_be_had_alone(precision, here, card_of, write_step, capsys):
    write_step(card_of("lstm", hidden=40, precision=precision))
    job = json_lines(capsys, "--num-samples", "256", "--jsonl")
    assert [line["stream"] for line in job] == list(range(256))
    (alone,) = json_lines(capsys, "--num-samples", "1", "--first-stream", "17", "--jsonl")
    assert alone == job[17] | {"sample": 0}
    main(["generate", "--seed", "5", "--length", "60", "--first-stream", "255"])
    assert capsys.readouterr().out.rstrip("\n") == job[255]["text"].rstrip("\n")


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_job_can_be_cut_into_pieces(precision, here, card_of, write_step, capsys):
    write_step(card_of("gru", hidden=40, precision=precision))
    prompts = ["the fox", "", "a", "jumps over", "a", ""]
    (here / "prompts.txt").write_text("\n".join(prompts))
    job = json_lines(capsys, "--prompts", "prompts.txt", "--num-samples", "3")
    (here / "rest.txt").write_text("\n".join(prompts[2:]))
    rest = json_lines(capsys, "--prompts", "rest.txt", "--num-samples", "3", "--first-stream", "6")
    assert [line["text"] for line in rest] == [line["text"] for line in job[6:]]


def test_a_bad_prompt_in_a_file_is_refused_before_any_work(engine, here, capsys, fails):
    (here / "prompts.txt").write_text("a\n" * 200 + "Q\n")
    said = fails("generate", "--prompts", "prompts.txt", code=2)
    assert "line 201 of the prompts: the model does not know the character 'Q'" in said
    argv = ["generate", "--prompts", "prompts.txt", "--on-unknown", "skip", "--length", "3"]
    assert main(argv) == 0
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[200])["prompt"] == "Q"
    assert said.err == (
        "p2: skipped 1 character that the model does not know, in 1 of 201 prompts; nothing is left of 1 of"
        " them: a random character begins the text\n"
    )


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("aQbQ", "p2: skipped 2 characters that the model does not know\n"),
        ("Q", "skipped 1 character that the model does not know; nothing is left of the prompt"),
    ],
)
def test_what_is_skipped_of_a_prompt_is_said(prompt, words, engine, capsys):
    argv = ["generate", "--prompt", prompt, "--on-unknown", "skip", "--length", "3", "--seed", "1"]
    assert main(argv) == 0
    assert words in capsys.readouterr().err
    assert main(["generate", "--prompt", "ab", "--on-unknown", "skip", "--length", "3", "--seed", "1"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("seed", ["0", "-1", "1" + "0" * 400])
def test_any_whole_number_is_a_seed(seed, engine, capsys):
    assert main(["generate", "--length", "3", "--seed", seed]) == 0
    assert capsys.readouterr().err == ""


def test_an_interrupted_job_has_written_what_was_done(engine, here, capsys, monkeypatch):
    (here / "prompts.txt").write_text("a\n" * 100)
    decode, calls = OnnxEngine.decode, []

    def interrupted(self, state, last, noise, sampling):
        calls.append(len(last))
        if calls[-1] == 36:  # the second group: 100 prompts are 64 and 36
            raise KeyboardInterrupt
        return decode(self, state, last, noise, sampling)

    monkeypatch.setattr(OnnxEngine, "decode", interrupted)
    argv = ["generate", "--prompts", "prompts.txt", "--length", "5", "--seed", "1"]
    assert main([*argv, "--backend", "onnxruntime-cpu"]) == 130
    captured = capsys.readouterr()
    assert [json.loads(line)["stream"] for line in captured.out.splitlines()] == list(range(64))
    assert "Traceback" not in captured.err


BAD_CALLS = [
    (["generate", "--length", "-5"], 2, "length must be 0 or more, not -5"),
    (["generate", "--temperature", "1", "--tau", "1"], 2, "give one of --temperature, --tau, --greedy"),
    (["generate", "--greedy", "--tau", "1"], 2, "give one of --temperature, --tau, --greedy"),
    (["generate", "--temperature", "-1"], 2, "temperature must be 0 (greedy) or between"),
    (["generate", "--temperature", "warm"], 2, "Invalid value for '--temperature'"),
    (["generate", "--tau", "0"], 2, "tau must be between 1e-6 and 1e6"),
    (["generate", "--top-p", "0"], 2, "top-p must be above 0"),
    (["generate", "--top-k", "-1"], 2, "top-k must be 0 (off) or positive"),
    (["generate", "--min-p", "1"], 2, "min-p must be at least 0"),
    (["generate", "--num-samples", "0"], 2, "num-samples must be 1 to 1,000,000"),
    (["generate", "--first-stream", "-1"], 2, "first-stream must be 0 to"),
    (["generate", "--length", "-1"], 2, "length must be 0 or more"),
    (["generate", "--num-samples", str(10**30)], 2, "num-samples must be 1 to 1,000,000"),
    (["generate", "--first-stream", str(10**30)], 2, "first-stream must be 0 to"),
    (["generate", "--tau", "nan"], 2, "tau must be between 1e-6 and 1e6"),
    (["generate", "--temperature", "inf"], 2, "temperature must be 0 (greedy) or between"),
    (["generate", "--top-p", "nan"], 2, "top-p must be above 0"),
    (["generate", "--min-p", "nan"], 2, "min-p must be at least 0"),
    (["generate", "--stop", ""], 2, "a stop string must not be empty"),
    (["generate", "--seed", "1e3"], 2, "Invalid value for '--seed'"),
    (["generate", "--threads", "0"], 2, "threads must be 1 to 256"),
    (["generate", "--backend", "tpu"], 2, "unknown backend 'tpu': choose one of eager, cuda-graph"),
    (["generate", "--on-unknown", "guess"], 2, "on-unknown takes error or skip, not 'guess'"),
    (["generate", "--prompts", "text.txt", "--prompt", "x"], 2, "--prompts writes JSON Lines: leave"),
    (["generate", "--prompts", "text.txt", "--prompt-file", "x"], 2, "--prompts writes JSON Lines: leave"),
    (["generate", "--prompts", "text.txt", "--json"], 2, "--prompts writes JSON Lines: leave"),
    (["generate", "--json", "--jsonl"], 2, "give --json or --jsonl, not both"),
    (["generate", "--prompts", "absent.txt"], 1, "cannot read absent.txt: no such file"),
    (["generate", "--prompts", "."], 1, "cannot read .: it is a folder"),
    (["generate", "--prompts", "odd.txt"], 2, "line 2 of the prompts: the model does not know"),
    (["generate", "--prompts", "latin.txt"], 1, "latin.txt is not UTF-8: line 1, byte 2 cannot be read"),
    (["generate", "--prompt", "x", "--prompt-file", "y"], 2, "give --prompt or --prompt-file"),
    (["generate", "--prompt-file", "absent.txt"], 1, "cannot read absent.txt: no such file"),
    (["generate", "--prompt", "the Ω"], 2, "'Ω' (U+03A9 GREEK CAPITAL LETTER OMEGA) at position 4"),
    (["generate", "--engine", "absent.onnx"], 1, "there is no absent.onnx here"),
    (["generate", "--engine", "absent.plan"], 1, "there is no absent.plan here"),
    (["generate", "--engine", "text.txt"], 2, "text.txt is no engine"),
    (["generate", "--wat"], 2, "No such option: --wat"),
]


@pytest.mark.parametrize(
    ("argv", "code", "words"), BAD_CALLS, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_bad_calls_are_answered(argv, code, words, engine, here, fails):
    (here / "text.txt").write_text("x")
    (here / "odd.txt").write_text("fox\nQ\n")
    (here / "latin.txt").write_bytes(b"ca\xe9\n")
    assert words in fails(*argv, code=code)


def test_a_reader_that_leaves_is_no_error(engine):
    done = subprocess.run(
        f"{sys.executable} -m p2.cli generate --length 200000 --seed 1 | head -c 100",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(done.stdout) == 100
    assert done.stderr == ""


def test_a_full_disk_behind_stdout_is_answered(engine):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = subprocess.run(
        f"{sys.executable} -m p2.cli generate --length 30 --seed 1 > /dev/full",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "p2: cannot write the output: the disk is full\n"


def test_a_stdout_that_cannot_show_a_character_shows_its_escape(here, card_of, write_step):
    write_step(card_of("gru", layers=1, vocabulary="aé😀"), name="charlm.onnx")
    done = subprocess.run(
        [sys.executable, "-m", "p2.cli", "generate", "--prompt", "é😀", "--length", "0", "--seed", "1"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stdout) == (0, "\\xe9\\U0001f600\n")
