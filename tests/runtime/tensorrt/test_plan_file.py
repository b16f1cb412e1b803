"""The plan container: header, sidecar, and whether the two belong together."""

from __future__ import annotations

import json
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.contract import documents
from p2.contract.card import Card
from p2.contract.documents import digest
from p2.contract.errors import BackendMissing, ContractError, P2Error
from p2.contract.plan import PlanHeader, Sidecar, same_version
from p2.runtime import nvidia
from p2.runtime.tensorrt.plan_file import (
    library_for,
    read_header,
    read_plan,
    read_sidecar,
    sidecar_path,
    write_sidecar,
)

VERSION = bytes([10, 13, 3, 9])


@pytest.fixture
def written(bench, tmp_path):
    """A plan and its sidecar on disk, and the sidecar."""
    plan = bench().plan
    path = tmp_path / "charlm.plan"
    path.write_bytes(plan.data)
    write_sidecar(path, plan.sidecar)
    return path, plan.sidecar


@pytest.mark.parametrize(
    ("magic", "header"),
    [(b"ftrt", PlanHeader("tensorrt", "10.13.3.9")), (b"vtrt", PlanHeader("tensorrt-rtx", "10.13.3.9"))],
)
def test_the_header_names_flavour_and_version(magic, header, tmp_path):
    path = tmp_path / "a.plan"
    path.write_bytes(magic + bytes(20) + VERSION + b"the rest")
    assert read_header(path) == header


def test_a_header_reads_well():
    assert str(PlanHeader("tensorrt", "10.13.3.9")) == "TensorRT 10.13.3.9"
    assert str(PlanHeader("tensorrt-rtx", "1.7.1.116")) == "TensorRT-RTX 1.7.1.116"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is not a TensorRT plan: it is empty"),
        (b"ft", "is not a TensorRT plan: it begins with b'ft'"),
        (b"\x08\x08\x12\x07pytorch" + bytes(40), r"is not a TensorRT plan: it begins with b'\\x08\\x08"),
        (b"ftrt" + bytes(23), "is cut off: only 27 bytes"),
    ],
)
def test_what_is_no_plan_is_refused(data, sentence, tmp_path):
    path = tmp_path / "a.plan"
    path.write_bytes(data)
    with pytest.raises(ContractError, match=sentence):
        read_header(path)


def test_a_missing_plan_is_one_sentence(tmp_path):
    with pytest.raises(P2Error, match=r"cannot read .*a.plan: no such file"):
        read_header(tmp_path / "a.plan")


def test_a_plan_and_its_sidecar_come_back(written):
    path, sidecar = written
    plan = read_plan(path)
    assert plan.sidecar == read_sidecar(path) == sidecar
    assert plan.header == sidecar.header
    assert plan.data == path.read_bytes()
    assert sidecar_path(path).name == "charlm.plan.json"


@given(
    vocabulary=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).map(
        lambda text: "".join(sorted(set(text)))
    ),
    profiles=st.lists(
        st.tuples(*[st.integers(1, 999)] * 3).map(sorted).map(tuple), min_size=1, max_size=3
    ).map(tuple),
    size=st.integers(0, 2**40),
)
def test_a_sidecar_survives_json(vocabulary, profiles, size):
    sidecar = Sidecar(
        Card("gru", 3, 4, 5, vocabulary, gru_reset="before"), "tensorrt", "10.1.0.27", "a" * 64, "b" * 64,
        size, "float16", profiles, {"tf32": False}, "2024-05-01T12:00:00+00:00",
    )  # fmt: skip
    assert Sidecar.from_dict(json.loads(json.dumps(sidecar.to_dict())), "x.plan.json") == sidecar


def test_the_sidecar_is_readable(written):
    data = json.loads(sidecar_path(written[0]).read_text())
    assert data["profiles"] == [{"min": 1, "opt": 1, "max": 1}, {"min": 1, "opt": 4, "max": 8}]
    assert data["card"]["cell"] == "lstm"
    assert data["sidecar_version"] == 2


def test_a_missing_sidecar(written):
    path, _ = written
    sidecar_path(path).unlink()
    with pytest.raises(
        ContractError, match=r"charlm.plan.json is missing, .*copy it beside the plan, or run `p2 export`"
    ):
        read_plan(path)


@pytest.mark.parametrize("text", ["", "{", "\x00\xff", '{"a": 1}{'])
def test_a_sidecar_that_is_not_json(text, written):
    path, _ = written
    sidecar_path(path).write_text(text)
    with pytest.raises(
        ContractError, match=r"charlm.plan.json is damaged: not valid JSON .*`p2 export` again"
    ):
        read_plan(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: [], "is damaged: it is not an object"),
        (lambda data: {}, "has the sidecar version None, this p2 reads 2"),
        (lambda data: data | {"sidecar_version": 3}, "has the sidecar version 3"),
        (lambda data: data | {"card": None}, "card is not an object"),
        (lambda data: data | {"card": data["card"] | {"contract_version": 9}}, "step contract version 9"),
        (lambda data: data | {"card": data["card"] | {"hidden": 0}}, "hidden must be at least 1"),
        (lambda data: {name: value for name, value in data.items() if name != "built"}, "built is missing"),
        (lambda data: data | {"plan_bytes": "many"}, "plan_bytes is not a whole number: 'many'"),
        (lambda data: data | {"profiles": [{"min": 1}]}, r"profiles\[0\].opt is missing"),
        (lambda data: data | {"profiles": 3}, "profiles is not a list"),
        (lambda data: data | {"profiles": []}, "the length of profiles is not at least 1"),
        (lambda data: data | {"profiles": [{"min": 2, "opt": 1, "max": 3}]}, "batches do not ascend"),
        (lambda data: data | {"flavour": "tensorflow"}, "flavour is none of 'tensorrt', 'tensorrt-rtx'"),
        (lambda data: data | {"float_type": "float8"}, "float_type is none of"),
        (lambda data: data | {"settings": None}, "settings is not an object"),
        (
            lambda data: data | {"version": "1.6.0.40"},
            "speaks of TensorRT-RTX 1.6.0.40 and the plan of TensorRT-RTX 1.7.1.116",
        ),
    ],
)
def test_a_damaged_sidecar(change, sentence, written):
    path, sidecar = written
    document = change(sidecar.to_dict())
    if document:
        document["document_sha256"] = digest(document)
    sidecar_path(path).write_text(json.dumps(document))
    with pytest.raises(ContractError, match=sentence) as caught:
        read_plan(path)
    assert "charlm.plan.json" in str(caught.value)


def test_a_flipped_bit_of_a_sidecar_is_refused(written, monkeypatch):
    """Every bit; layers and settings too."""
    path, sidecar = written
    whole = sidecar_path(path).read_bytes()
    refused = 0
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        monkeypatch.setattr(documents, "_bytes_of", lambda path, data=bytes(flipped): data)
        try:
            assert read_sidecar(path) == sidecar
        except ContractError:
            refused += 1
    assert refused > 7.5 * len(whole)  # the rest are letters of numbers and escapes, and spaces


def test_a_sidecar_of_the_version_before_still_loads(written):
    path, sidecar = written
    former = json.dumps(sidecar.to_dict() | {"sidecar_version": 1}, indent=2)
    sidecar_path(path).write_text(former)
    assert read_sidecar(path) == sidecar


def test_a_plan_that_is_cut_off(written):
    path, sidecar = written
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        ContractError,
        match=rf"is cut off: it has {sidecar.plan_bytes - 1} bytes and .*says {sidecar.plan_bytes}",
    ):
        read_plan(path)


@pytest.mark.parametrize("change", [lambda data: data[:-1] + b"!", lambda data: data + b"!"])
def test_the_sidecar_of_another_plan(change, written):
    path, _ = written
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(
        ContractError, match=r"is not the plan that charlm.plan.json describes .*: copy both again, or run"
    ):
        read_plan(path)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1.7.1.116", "1.7.1.116", True),
        ("1.7.1.116", "1.7.1", True),
        ("10.0.0b6", "10.0.0.6", True),
        ("10.13.3.9.post1", "10.13.3.9", True),
        ("1.7.1.116", "1.7.1.117", False),
        ("10.1", "1.10", False),
    ],
)
def test_versions(one, other, same):
    assert same_version(one, other) is same
    assert same_version(other, one) is same


def test_gpus_never_raises():
    found = nvidia.gpus()
    assert bool(found.devices) != bool(found.problem)


def test_a_compatible_plan_runs_on_later_versions_of_its_major(monkeypatch, tmp_path):
    header, path = PlanHeader("tensorrt", "10.13.3.9"), tmp_path / "a.plan"
    monkeypatch.setattr(nvidia, "installed", lambda flavour: True)
    for version, runs in (
        ("10.13.3.9", True),
        ("10.14.0.1", True),
        ("10.13.2.1", False),
        ("11.0.0.1", False),
    ):
        library = types.SimpleNamespace(version=version)
        monkeypatch.setattr(nvidia, "library", lambda flavour, library=library: library)
        if runs:
            assert library_for(path, header, compatible=True) is library
        else:
            with pytest.raises(BackendMissing, match="runs only on the version"):
                library_for(path, header, compatible=True)
        if version != header.version:
            with pytest.raises(BackendMissing, match="runs only on the version"):
                library_for(path, header)
