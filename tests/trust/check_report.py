"""The report itself: what checks of several processes say comes together, and failures are named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

CHECKS = """
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_kills(trust, number):
    for _ in range(trust.times(10)):
        trust.count("Kills", "train", killed=1, slowest=float(number))
    trust.count("Kills", "export", killed=trust.times(10, most=15), by="SIGTERM")

def test_fault(trust):
    trust.count("Faults", "full disk", tried=3)
    assert False, trust.random().random() == trust.random().random()
"""


def test_counts_of_all_processes_come_together(tmp_path):
    folder = tmp_path / "trust"
    folder.mkdir()
    for name in ("conftest.py", "budget.py", "report.py"):
        shutil.copy(HERE / name, folder / name)
    (folder / "check_some.py").write_text(CHECKS)
    out = tmp_path / "made" / "report.json"
    words = "-n 2 --rootdir . --import-mode=importlib --trust-scale 3 --trust-seed 7 --trust-report"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words.split(), out, "trust/check_some.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "AssertionError: True" in done.stdout
    told = json.loads(out.read_text())
    assert (told["checks"], told["failed"]) == (3, ["trust/check_some.py::test_fault"])
    assert (told["scale"], told["seed"]) == (3, 7)
    assert told["sections"] == {
        "Faults": {"full disk": {"tried": 3}},
        "Kills": {
            "train": {"killed": 60, "slowest": 2.0},
            "export": {"killed": 30, "by": "SIGTERM"},
        },
    }
    assert out.with_suffix(".md").read_text() in done.stdout
