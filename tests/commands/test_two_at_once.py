"""Two at once in one place: commands that write several files that belong together refuse the second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2.cli import main
from p2.contract import locks

SMALL = "--hidden 4 --embedding 2 --layers 1 --seq-len 8 --batch-size 4 --steps 2 --precision float32"

# And the option that names another place. What writes one file alone, as `p2 tokenize`, replaces it whole.
COMMANDS = {
    f"train text.txt {SMALL} --out new": "--out",
    f"train text.txt {SMALL} --out run": "--out",
    "train --resume --steps 45 --out run": "--out",
    f"train text.txt --init-from run {SMALL} --out new": "--out",
    "import model.pt --vocab vocab.json --out new": "--out",
    "export run --engine none": "--out",
    "export run --engine none --out new.onnx": "--out",
    "export run --engine none --out new.onnx --triton models": "--triton",
    "export run --engine none --out new.onnx --web page": "--web",
    "parity charlm.onnx --checkpoint run --steps 5 --characters 5 --json new.json": "--json",
    "bench --quick --shape rnn,1,8,16 --contenders p2-int8 --out new.json": "--out",
    "practical baum-sweet --out new": "--out",
}
FIRST = {"--triton": "models/.p2.lock", "--web": ".page.lock"}
"""Of several locks of one command, the one that the other process holds."""


@pytest.fixture
def folder(tiny_run, tmp_path, monkeypatch) -> Path:
    import torch

    torch.save(torch.nn.ModuleDict({"rnn": torch.nn.GRU(5, 6), "fc": torch.nn.Linear(6, 5)}).state_dict(),
               tmp_path / "model.pt")  # fmt: skip
    (tmp_path / "vocab.json").write_text(json.dumps(list("abcde")))
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 20)
    tiny_run.rename(tmp_path / "run")
    (tmp_path / "charlm.onnx").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="files have no names here")
@pytest.mark.parametrize("words", COMMANDS)
def test_the_second_is_refused_and_writes_nothing(words, folder, monkeypatch, capsys):
    option, held = COMMANDS[words], []
    grab = locks.grab

    def taken(handle: int, *, wait: bool = False) -> bool | None:
        """A lock that another process holds; those of files that are being written nobody else wants."""
        name = Path(f"/proc/self/fd/{handle}").readlink()
        if wait or (option in FIRST and not name.match(FIRST[option])):
            return grab(handle, wait=wait)
        held.append(name)
        return False

    monkeypatch.setattr(locks, "grab", taken)
    if words.startswith("parity"):
        folder.joinpath("charlm.onnx").unlink()
        monkeypatch.setattr(locks, "grab", grab)
        assert main(["export", "run", "--engine", "none", "--out", "charlm.onnx"]) == 0
        monkeypatch.setattr(locks, "grab", taken)
    before = content(folder)
    assert main(words.split()) == 1
    told = capsys.readouterr().err
    assert f"is being written by another p2: wait until it has ended, or name another with {option}" in told
    assert "Traceback" not in told
    after = content(folder)
    assert held
    assert {name: data for name, data in after.items() if not name.endswith("lock")} == before


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
