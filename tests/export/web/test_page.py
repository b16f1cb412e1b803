"""The folder of a page: what is in it, what it replaces and refuses; ONNX Runtime's files are stand-ins."""

from __future__ import annotations

import base64
import errno
import gzip
import hashlib
import itertools
import json
import os
import re

import onnxruntime
import pytest

import p2
from p2.cli import main
from p2.contract.errors import P2Error, UsageError
from p2.export.web import ort_web
from p2.export.web import page as web
from p2.export.web.page import Page

from .conftest import STAND_INS


@pytest.fixture
def put(stand_ins, write_step, card_of):
    """Put a model in: ``put(folder, "gru")``."""

    def write(folder, cell="lstm", **card):
        page = Page(folder, stand_ins)
        page.check()
        said = []
        page.put(write_step(card_of(cell, **card)), said.append)
        return said

    return write


def unpacked(script) -> dict[str, bytes]:
    parts = json.loads(re.search(r"= (.*);\n", script.read_text())[1])
    return {name: gzip.decompress(base64.b64decode(text)) for name, text in parts.items()}


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_holds_all_that_the_page_loads_and_nothing_from_outside(tmp_path, put, stand_ins):
    folder = tmp_path / "new" / "page"
    (said,) = put(folder)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    assert said == f"wrote {folder} ({size:.1f} MB): open {folder / 'index.html'} in a browser"
    (model,) = folder.glob("model-*.js")
    runtime = f"onnxruntime-web-{ort_web.VERSION}.js"
    assert names(folder) == ["LICENSE-onnxruntime-web.txt", "index.html", model.name, runtime]
    markup = (folder / "index.html").read_text()
    assert f'["{runtime}", "{model.name}"]' in markup
    assert not re.search(
        r"url\(['\"]|@import|https?://|<script src|<link(?! rel=\"icon\" href=\"data:,\")", markup
    )
    script = markup.partition("<script>")[2].partition("</script>")[0]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}' " in markup
    assert unpacked(folder / runtime) == dict(zip(("ort", "loader", "wasm"), STAND_INS.values(), strict=True))
    assert (folder.stat().st_mode, (folder / "index.html").stat().st_mode & 0o777) == (
        stand_ins.stat().st_mode,
        (stand_ins / "ort.wasm.min.js").stat().st_mode & 0o777,
    )
    assert names(folder.parent) == ["page"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float8", "int4"])
def test_the_page_runs_the_step_of_the_contract_in_float32(tmp_path, put, precision):
    put(tmp_path / "page", "gru", precision=precision)
    (script,) = (tmp_path / "page").glob("model-*.js")
    held = unpacked(script)
    session = onnxruntime.InferenceSession(held["step"], providers=["CPUExecutionProvider"])
    given, made = (
        {value.name: value.type for value in side} for side in (session.get_inputs(), session.get_outputs())
    )
    states = dict.fromkeys(("h_00", "h_01"), "tensor(float)")
    assert given == {"token": "tensor(int64)"} | {f"{name}_in": kind for name, kind in states.items()}
    assert made == {"logits": "tensor(float)"} | {f"{name}_out": kind for name, kind in states.items()}
    card = json.loads(held["card"])
    assert (card["file"], card["precision"], card["states"]) == ("charlm.onnx", precision, [*states])


def test_a_page_of_an_earlier_export_is_replaced_and_what_lies_beside_stays(tmp_path, put):
    folder = tmp_path / "page"
    put(folder)
    (folder / "notes.txt").write_text("mine")
    (earlier,) = folder.glob("model-*.js")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    put(folder)  # the same again
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    put(folder, "gru")
    (model,) = folder.glob("model-*.js")
    assert model != earlier
    assert model.name in (folder / "index.html").read_text()
    assert len(names(folder)) == 5


@pytest.mark.parametrize("filled", [1, 2, 3, 4])
def test_a_full_disk_leaves_the_earlier_page_or_none(tmp_path, put, monkeypatch, filled):
    """It fills with each of the files."""
    folder = tmp_path / "page"
    for earlier in (False, True):
        if earlier:
            put(folder)
        before = {path: path.read_bytes() for path in folder.glob("*")}
        syncs = itertools.count(1)  # of a file, and of its folder

        def full(_: int, syncs=syncs) -> None:
            if next(syncs) == 2 * filled - 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch, pytest.raises(P2Error, match="the disk is full"):
            patch.setattr(os, "fsync", full)
            put(folder, "gru")
        assert {path: path.read_bytes() for path in folder.glob("*")} == before
        assert names(tmp_path) == ["charlm.onnx", "ort", "page"][: 2 + earlier]


def test_what_is_nobodys_page_is_refused(tmp_path, put, stand_ins):
    (tmp_path / "file").write_text("")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<title>mine</title>")
    for name in ("file", "site", "ort"):
        with pytest.raises(P2Error, match=rf"{name} is there already, and is no page that p2 exported"):
            put(tmp_path / name)
    (tmp_path / "empty").mkdir()
    put(tmp_path / "empty")
    assert (tmp_path / "empty" / "index.html").exists()


def test_a_model_too_large_for_a_page_is_refused(tmp_path, put, monkeypatch):
    monkeypatch.setattr(web, "MOST_BYTES", 60_000)
    with pytest.raises(P2Error, match=r"is too large for a page, 0 MB as a browser runs it, of at most 0"):
        put(tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_p2_export_puts_a_page_and_says_how_to_serve_it(tmp_path, tiny_run, stand_ins, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["export", str(tiny_run), "--engine", "none", "--web", "my page", "--ort-web", str(stand_ins)]
    assert main(argv) == 0
    said = capsys.readouterr()
    assert "wrote my page (" in said.err + said.out
    assert said.out.splitlines()[-1] == "next: python -m http.server --directory 'my page'"
    assert "index.html" in names(tmp_path / "my page")
    again = p2.export(tiny_run, engine="none", web="other", ort_web=stand_ins)
    assert (str(again.web), p2.export(tiny_run, engine="none").web) == ("other", None)


def test_the_files_of_a_page_are_for_a_page(tiny_run):
    with pytest.raises(UsageError, match="--ort-web is for a page, and --web names none"):
        p2.export(tiny_run, engine="none", ort_web="x")


def test_nothing_is_exported_where_no_page_can_be(tmp_path, tiny_run):
    (tmp_path / "x").mkdir()
    before = names(tiny_run)
    with pytest.raises(P2Error, match=r"there is no onnxruntime-web in .*x: `npm install onnxruntime-web@"):
        p2.export(tiny_run, engine="none", web=tmp_path / "page", ort_web=tmp_path / "x")
    assert names(tiny_run) == before
