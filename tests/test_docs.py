"""Every block of Python in docs/ runs, page by page, beside a model of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import p2

DOCS = Path(__file__).parent.parent / "docs"
TEXT = "The quick brown fox jumps over the lazy dog. A dog sleeps.\n" * 40
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


PAGES = [page for page in sorted(DOCS.glob("*.md")) if blocks(page)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with book.txt, and charlm.onnx from a short training."""
    made = tmp_path_factory.mktemp("docs")
    (made / "book.txt").write_text(TEXT)
    run = made / "run"
    p2.train(made / "book.txt", hidden=16, embedding=8, seq_len=16, batch_size=8, steps=20, out=run)
    p2.export(run, engine="none", out=made / "charlm.onnx")
    return made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_runs(page, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    names: dict[str, object] = {"__name__": "__docs__"}
    for block in blocks(page):
        exec(compile(block, str(page), "exec"), names)
    assert capsys.readouterr().out


def test_the_sampler_of_the_contract_writes_what_p2_writes(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (block,) = blocks(DOCS / "contract.md")
    exec(compile(block, "contract.md", "exec"), {})
    with p2.load("charlm.onnx") as model:
        written = model.generate("The ", length=100, tau=2, seed=7)
    assert capsys.readouterr().out.removesuffix("\n") == "The " + written
