"""Every block of Python in README.md and docs/ runs beside a model of its own; links lead somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import p2

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ALL = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted(DOCS.rglob("*.md")),
    *sorted((ROOT / "artifacts").rglob("*.md")),
]
TEXT = "The quick brown fox jumps over the lazy dog. A dog sleeps.\n" * 40
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


# What these need is brought by tests/export/triton/test_clients.py and tests/ray/test_cluster.py.
ELSEWHERE = ("triton.md", "scale.md")
PAGES = [page for page in ALL if blocks(page) and page.name not in ELSEWHERE]


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


def anchors(page: Path) -> set[str]:
    """What links can name inside a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        assert file.is_file(), link
        assert not anchor or anchor in anchors(file), link


def test_every_page_can_be_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page not in reached:
            reached.add(page)
            links = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text(encoding="utf-8"))
            waiting += [page.parent / link for link in links if "://" not in link]
    assert set(DOCS.rglob("*.md")) <= reached


def test_the_changelog_has_the_form_of_keep_a_changelog():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased, *released = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert unreleased == "[Unreleased]"
    assert released
    for version in released:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version)
    kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        shown = re.findall(r"^### (.*)$", part, re.MULTILINE)
        assert shown
        assert set(shown) <= set(kinds)
        assert len(set(shown)) == len(shown)


def test_what_shows_a_promise_of_security_is_there():
    """Tests that SECURITY.md names by file: in that file, or in the one named before."""
    text, file = (ROOT / "SECURITY.md").read_text(encoding="utf-8"), ROOT
    named = re.findall(r"`((?:tests/[\w/]+/)?(?:(?:test|check)_\w+\.py)?(?:::)?(?:test_\w+)?)`", text)
    named = [name for name in named if name and not name.endswith("/")]
    assert len(named) > 12
    for name in named:
        path, _, test = name.rpartition("::") if ".py" in name else ("", "", name)
        path = path or (test if test.endswith(".py") else "")
        if path:
            file = ROOT / path if "/" in path else file.parent / path
            assert file.is_file(), name
        if not test.endswith(".py"):
            assert f"def {test}(" in file.read_text(encoding="utf-8"), name


def test_no_committed_report_names_a_folder_of_somebodys_machine():
    """Reports record commands and files; where those lay is nobody else's business."""
    private = re.compile(r"(?<![\w.])/(work|home|tmp|root|Users)/")
    assert private.search('"p2 train /home/me/book.txt"')
    kept = subprocess.run(
        ["git", "ls-files", "artifacts"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    reports = [ROOT / name for name in kept if name.endswith((".json", ".jsonl", ".md"))]
    assert not [path for path in reports if private.search(path.read_text(encoding="utf-8"))]
