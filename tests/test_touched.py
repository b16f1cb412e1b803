"""How many files name a cell, a precision, a backend; the page lists them, in the order of touching them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"


@pytest.fixture(scope="module")
def touched():
    spec = importlib.util.spec_from_file_location("touched", PAGE.with_name("touched.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_lists_the_files_that_name_one(touched):
    page = PAGE.read_text(encoding="utf-8")
    for kind, (name, files) in touched.lists().items():
        most = touched.COUNTED[kind][0]
        assert len(files) <= most, f"{kind} {name}: {files}"
        section = page.split(f"## To add a {kind}\n")[1].split("\n## ")[0]
        assert f"`{name}`: {len(files)} files" in section
        listed = re.findall(r"^\d+\. `([^`]+)`", section, flags=re.MULTILINE)
        assert sorted(listed) == files, f"what names {name}: python docs/touched.py"


def test_prose_is_not_counted_and_names_are(touched, tmp_path, monkeypatch):
    monkeypatch.setattr(touched, "ROOT", tmp_path)
    texts = {
        "prose.py": '"""A gru."""\n# gru\nx = 1\ndef f():\n    "gru, a docstring"\n',
        "name.py": "def f(gru_reset): pass\n",
        "string.py": 'x = {"gru": 1}\n',
        "longer.py": "congruent = 1\n",
        "call.py": "f(gru=1)\n",
        "text.py": 'x = f"a {1} GRU"\n',
        "imported.py": "from a.gru import b\n",
        "prose.c": '#include "gru.h"\n/* GRU\n * GRU */\nint x; // GRU\n',
        "name.c": "enum { GRU_BEFORE };\n",
    }
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "__init__.py").touch()
    for name, text in texts.items():
        (tmp_path / "room" / name).write_text(text)
    named = {"name.py", "string.py", "call.py", "text.py", "imported.py", "name.c"}
    assert {Path(path).name for path in touched.touched("gru")} == named


def test_tables_say_what_onnx_and_pytorch_say():
    import torch
    from onnx import TensorProto

    from p2.contract.cells import FORMS
    from p2.contract.precisions import TABLE

    for precision in TABLE.values():
        name = TensorProto.DataType.Name(precision.element)
        assert name in ("FLOAT", precision.key.upper(), "FLOAT8E4M3FN")
    for form in FORMS:
        assert getattr(torch.nn, form.title)
        assert sorted(form.gates) == sorted(form.torch_gates) == sorted(form.onnx_gates)
