"""The clients of docs/triton.md, against a gRPC server made from Triton's definitions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")

import p2

from .server import serving

PAGE = Path(__file__).parents[3] / "docs" / "triton.md"


def test_the_clients_of_the_page_write_what_generate_writes(exported, backend, monkeypatch, capsys):
    texts, steps = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(exported.parent)
    with p2.load("charlm.onnx") as model:
        wanted = model.generate("the ", length=60, tau=2, seed=7)
    with serving(exported, "charlm") as port:
        for block, shown in ((texts, wanted), (steps, "the " + wanted)):
            here = block.replace("localhost:8001", f"127.0.0.1:{port}").replace("The ", "the ")
            names = {"p2": p2}
            exec(compile(here, str(PAGE), "exec"), names)
            names["client"].close()
            assert capsys.readouterr().out.removesuffix("\n") == shown
