"""Where ONNX Runtime's files come from, with stand-ins for them and for npm."""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path

import pytest

from p2.contract.errors import P2Error
from p2.export.web import ort_web
from p2.runtime import cache

from .conftest import STAND_INS

ROOT = Path(__file__).parents[3]

NPM = """#!/bin/sh
echo "$@" >> {log}
test -z "{code}" || exit {code}
cp {archive} "$4/onnxruntime-web-{version}.tgz"
"""


@pytest.fixture
def archive(tmp_path, stand_ins):
    path = tmp_path / "ort.tgz"
    with tarfile.open(path, "w:gz") as made:
        for name in STAND_INS:
            made.add(stand_ins / name, f"package/dist/{name}")
    return path


@pytest.fixture
def npm(tmp_path, archive, monkeypatch):
    """Put an npm first in PATH that packs `archive`, or fails: ``npm(code=1)``; returns its log."""
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "cache")

    def make(code=""):
        log, program = tmp_path / "calls", tmp_path / "bin" / "npm"
        program.parent.mkdir(exist_ok=True)
        program.write_text(NPM.format(log=log, code=code, archive=archive, version=ort_web.VERSION))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        return log

    return make


def test_the_docs_name_the_version():
    assert f"`npm pack {ort_web.PACKAGE}`" in (ROOT / "docs" / "export.md").read_text(encoding="utf-8")


def test_npm_is_asked_once(npm, tmp_path):
    log = npm()
    assert ort_web.find(None) == ort_web.find(None) == STAND_INS
    assert log.read_text().count(f"pack onnxruntime-web@{ort_web.VERSION} ") == 1
    kept = tmp_path / "cache" / f"onnxruntime-web-{ort_web.VERSION}" / "ort.wasm.min.js"
    kept.write_bytes(b"altered")
    assert ort_web.find(None) == STAND_INS
    assert len(log.read_text().splitlines()) == 2
    assert kept.read_bytes() == STAND_INS["ort.wasm.min.js"]


def test_without_npm_or_a_registry_a_sentence_says_what_to_do(npm, monkeypatch, tmp_path):
    npm(code=1)
    advice = re.escape(f"where npm is, `npm pack {ort_web.PACKAGE}` writes a file that --ort-web takes")
    with pytest.raises(P2Error, match=rf"npm does not bring {ort_web.PACKAGE} \(no network, .*\): {advice}"):
        ort_web.find(None)
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(P2Error, match=rf"--web needs the npm package .*, and there is no npm here: {advice}"):
        ort_web.find(None)


@pytest.mark.parametrize("place", [".", "dist", "node_modules/onnxruntime-web/dist"])
def test_a_folder_that_npm_filled_will_do(stand_ins, tmp_path, place):
    (tmp_path / "given" / place).parent.mkdir(parents=True, exist_ok=True)
    stand_ins.rename(tmp_path / "given" / place)
    assert ort_web.find(tmp_path / "given") == STAND_INS


def test_an_archive_will_do_and_a_damaged_one_is_refused(archive, tmp_path):
    assert ort_web.find(archive) == STAND_INS
    whole = archive.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not an archive", whole[:40] + b"\xff" * 40 + whole[80:]):
        archive.write_bytes(damaged)
        with pytest.raises(P2Error, match=r"ort.tgz is (damaged, or )?not (what|onnxruntime-web)"):
            ort_web.find(archive)
    link = tarfile.TarInfo("package/dist/ort.wasm.min.js")
    link.type, link.linkname = tarfile.SYMTYPE, "ort.wasm.min.js"  # to itself
    with tarfile.open(archive, "w:gz") as made:
        made.addfile(link)
    with pytest.raises(P2Error, match="is damaged, or not what `npm pack"):
        ort_web.find(archive)
    os.mkfifo(tmp_path / "pipe")  # into which nobody writes
    with pytest.raises(P2Error, match=r"cannot read .*pipe"):
        ort_web.find(tmp_path / "pipe")
    with pytest.raises(P2Error, match=r"cannot read .*none.tgz: no such file"):
        ort_web.find(tmp_path / "none.tgz")


def test_an_altered_file_is_refused(stand_ins):
    (stand_ins / "ort-wasm-simd-threaded.wasm").write_bytes(b"altered")
    with pytest.raises(
        P2Error, match=r"ort is not onnxruntime-web@.*: ort-wasm-simd-threaded.wasm has another"
    ):
        ort_web.find(stand_ins)
