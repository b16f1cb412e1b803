"""How `p2 bench` is called."""

from __future__ import annotations

import re

from p2.cli import main
from p2.contract.card import PRECISIONS


def test_bench_helps_with_its_own_name_and_names_the_rest(capsys):
    assert main(["bench", "-h"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"Usage: p2 bench \[OPTIONS\] \[MODEL\]", said)
    assert "bench run" not in said
    assert re.search(r"Commands: compare .* profile ", said)
    assert f"Only contenders of these: {', '.join(PRECISIONS)}." in said
