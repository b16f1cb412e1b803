"""README.md, docs/: every command runs, in order, in one folder; targets and extras that they name exist."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from p2.bench import race, rates, startup
from p2.bench import run as bench
from p2.bench.options import QUICK
from p2.cli import main
from p2.contract.plan import FLAVOURS
from p2.practical.toy import runs as toy_runs
from p2.runtime.nvidia import gpus, installed
from p2.serve import serving

from . import tracing
from .practical.toy.threads import pool

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What a page needs is made by those before it.
ORDER = [
    "install",
    "train",
    "data",
    "import",
    "export",
    "triton",
    "generate",
    "eval",
    "parity",
    "bench",
    "practical",
    "gpu",
    "scale",
    "serve",
    "trust",
]
PAGES = {"README": README}
PAGES |= {name: (ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in ORDER}

BRIEF = replace(
    QUICK,
    rounds=1,
    turn_seconds=0.01,
    latency_seconds=0.01,
    batch_rounds=1,
    batch_seconds=0.01,
    prompt_length=200,
    text_length=100,
    quality_characters=100,
)

SMALL = shlex.split("--steps 4 --hidden 16 --embedding 8 --layers 2 --seq-len 16 --batch-size 4")


FEW_TEXTS = shlex.split("--length 100 --sample-length 100 --samples 2")


def commands(text: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


# Each once, however many pages have it.
COMMANDS = list(dict.fromkeys(command for text in PAGES.values() for command in commands(text)))


def shortened(argv: list[str]) -> list[str]:
    """The same with a tiny model, few contenders or characters: of an option given twice the last counts."""
    if argv[0] == "bench" and argv[1] not in ("compare", "profile"):
        return [*argv, "--quick", "--contenders", "p2-int8", "--batches", "1"]
    if argv[:2] == ["practical", "baum-sweet"]:
        return [*argv, "--quick", "--hidden", "4", "--updates", "2"]
    if argv[:2] == ["practical", "gradients"]:
        return [*argv, "--hidden", "4", "--updates", "2", "-T", "3", "--sequences", "8"]
    if argv[:2] == ["practical", "text"]:
        if "--resume" in argv:
            return [*argv, *FEW_TEXTS]
        tiny = shlex.split("--steps 4 --hidden 16 --embedding 8 --layers 1 --batch-size 4 --accuracies 1")
        return [*argv, *tiny, *FEW_TEXTS]
    if argv[0] == "parity":
        return [*argv, "--steps", "60", "--characters", "60"]
    if argv == ["export", "artifacts/imported"]:
        return [*argv, "--engine", "none"]
    if argv[0] != "train":
        return argv
    if "--resume" in argv:
        return [*argv, "--steps", "8"]
    if "--init-from" in argv:
        return [*argv, "--steps", "4", "--seq-len", "16", "--batch-size", "4"]
    return [*argv, *SMALL]


def without_a_gpu(argv: list[str]) -> str | None:
    """What a command says on a machine that has no GPU, if it is for one."""
    if argv[-1] == "charlm.plan" and not any(map(installed, FLAVOURS.values())):
        return "there is no charlm.plan"
    on_a_gpu = argv[-1] in ("charlm.plan", "cuda", "cuda-graph", "onnxruntime-cuda")
    return "needs an NVIDIA GPU" if on_a_gpu else None


def model_of_somebody_else(text: str) -> None:
    """What docs/import.md imports: model.pt, its characters, and a mapping for one with matrices by hand."""
    import torch

    characters = sorted(set(text))
    size = len(characters)
    state = {"embedding.weight": torch.rand(size, 8), "fc.weight": torch.rand(size, 8)}
    state |= {f"rnn.weight_{kind}_l0": torch.rand(32, 8) for kind in ("ih", "hh")}
    torch.save(state, "model.pt")
    state = {f"W_{gate}{kind}": torch.rand(8, size if kind == "x" else 8) for gate in "gifo" for kind in "xh"}
    torch.save(state | {"W_ph": torch.rand(size, 8)}, "by_hand.pt")
    Path("characters.json").write_text(json.dumps(characters), encoding="utf-8")
    parts = {"input": "x", "recurrent": "h"}
    layer = {part: {gate: f"W_{gate}{kind}" for gate in "gifo"} for part, kind in parts.items()}
    mapping = {"cell": "lstm", "layers": [layer], "output": "W_ph"}
    Path("mapping.json").write_text(json.dumps(mapping), encoding="utf-8")


def test_every_p2_command_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tracing.trace_once()  # also where this test is the first that exports
    # What the machine can do, and how fast a process starts, is tested elsewhere and takes seconds.
    monkeypatch.setattr(rates, "measure", lambda threads: {"matmul numpy": 1e9})
    monkeypatch.setattr(startup, "measure", lambda runs, folder: {})
    # So is a race that takes its time, and trainings in processes of their own.
    monkeypatch.setattr(bench, "QUICK", BRIEF)
    monkeypatch.setattr(race, "REST_SECONDS", 0.0)
    monkeypatch.setattr("p2.bench.profile.SECONDS", 0.01)
    monkeypatch.setattr(toy_runs, "_pool", pool)
    # As in most books, with characters that the text inside Python does not have.
    book = "The quick brown fox “jumps” over the lazy dog — and naïvely so. The end.\n"
    Path("book.txt").write_text(book * 60, encoding="utf-8")
    Path("posts.jsonl").write_text(json.dumps({"text": book * 60}), encoding="utf-8")
    model_of_somebody_else(book)
    # That a server answers is tested elsewhere; here it ends at once, on a port that is free.
    monkeypatch.setattr(serving, "listen", lambda host, _, listen=serving.listen: listen(host, 0))
    monkeypatch.setattr(serving, "run", lambda app, _: app.close())
    run = [shlex.split(command)[1:] for command in COMMANDS if command.startswith("p2 ")]
    assert len(run) > 25
    for argv in run:
        code = main(shortened(argv))
        said = capsys.readouterr()
        problem = without_a_gpu(argv)
        if problem and not gpus().devices:
            assert (code, problem in said.err) == (1, True), (argv, said.err)
        else:
            assert code == 0, (argv, said.err)


def test_the_three_commands_come_first():
    told = [command for command in commands(README) if command.startswith("p2 ")]
    assert told[:3] == ["p2 train", "p2 export --fp16", "p2 generate --engine charlm.plan"]


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text()
    targets = [command.split()[1] for command in COMMANDS if command.startswith("make ")]
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_no_command_is_of_a_kind_that_is_not_tested():
    """Every page that has commands is one of those above."""
    assert {command.split()[0] for command in COMMANDS} == {"p2", "make", "pip"}
    assert {page.stem for page in (ROOT / "docs").rglob("*.md") if commands(page.read_text())} == set(ORDER)


def test_every_extra_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for text in (README, PAGES["install"]):
        named = re.findall(r"pip install '\.\[(.*?)\]'", text)
        assert named
        assert {extra for group in named for extra in group.split(",")} <= set(extras)


def test_it_is_short():
    lines = README.splitlines()
    assert len(lines) <= 130
    assert max(map(len, lines)) <= 160


def test_its_tree_is_the_rooms_of_the_floor_plan():
    (tree,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    shown = re.findall(r"^(\w+/) ", tree, re.MULTILINE)
    table = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    assert shown == re.findall(r"^\| `(\w+/)` \|", table, re.MULTILINE)
    for name in re.findall(r"^(\w+\.py) ", tree, re.MULTILINE):
        assert (ROOT / name).is_file()


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}.md" for name in ORDER)])
def test_every_file_of_p2_that_a_page_names_is_there(page):
    rooms = "|".join(p.name for p in ROOT.iterdir() if (p / "__init__.py").is_file())
    for name in re.findall(rf"`((?:{rooms}|docs|tests)/[\w./]*)`", (ROOT / page).read_text()):
        assert (ROOT / name).exists(), name
