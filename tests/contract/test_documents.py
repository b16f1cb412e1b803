"""JSON from a file: bounds, types, the checksum of its own content."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from p2.contract import documents
from p2.contract.documents import parse, read_document, read_sealed, write_sealed
from p2.contract.errors import ContractError, P2Error
from p2.contract.files import write_json
from p2.contract.schema import Positive, Within, problem


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"[" * 100_000, "nested more than 64 deep"),
        (b'{"a":' * 100_000, "nested more than 64 deep"),
        (b"[" * 65 + b"]" * 65, "nested more than 64 deep"),
        (b"[NaN]", "NaN is no number of JSON"),
        (b"[-Infinity]", "-Infinity is no number of JSON"),
        (b"[1e999]", "the number 1e999 is too large"),
        (b"[-1e999]", "the number -1e999 is too large"),
        (b"9" * 5000, "more than 40 digits"),
        (b"-" + b"9" * 40, "more than 40 digits"),
        (b'{"a": 1, "a": 1}', "'a' is there twice"),
        (b'{"\\ud800": 1, "\\ud800": 1}', r"'\\ud800' is there twice"),
        (b"\xff", "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"{}\0", "not valid JSON"),
        (b"\0", "not valid JSON"),
        (b"", "not valid JSON"),
        (b'{"cut": [1, 2', "not valid JSON"),
    ],
)
def test_what_is_no_document_gets_one_sentence(tmp_path, data, what):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(ContractError, match=what) as raised:
        read_document(path)
    said = str(raised.value)
    assert said.startswith(f"{path} is damaged: ")
    assert said.isprintable()
    assert len(said) < len(str(path)) + 200


def test_at_the_bounds():
    assert parse(b"[" * 64 + b"]" * 64, "a")
    assert parse(b"9" * 40, "a") == 10**40 - 1
    assert parse(b"1e308", "a") == 1e308


def test_a_huge_file_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "MOST_BYTES", 1 << 20)
    path = tmp_path / "a.json"
    path.write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(ContractError, match="more than 1 MiB"):
        read_document(path)
    with pytest.raises(P2Error, match="no such file"):
        read_document(tmp_path / "none.json")
    with pytest.raises(P2Error, match="it is a folder"):
        read_document(tmp_path)


class Inner(TypedDict):
    seconds: Positive
    name: NotRequired[str | None]


@dataclass
class Closed:
    width: Annotated[int, Within(1, 99)]
    kind: Literal["a", "b"] = "a"


class Outer(TypedDict):
    rounds: list[Inner]
    pair: tuple[int, int]
    shares: dict[str, float]
    closed: Closed
    anything: Any


GOOD: dict[str, Any] = {
    "rounds": [{"seconds": 1, "name": None}, {"seconds": 2.5, "more": 1}],
    "pair": [1, 2],
    "shares": {"a": 0.5},
    "closed": {"width": 99},
    "anything": None,
    "unknown": "kept",
}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"rounds": None}, "rounds is not a list"),
        ({"rounds": [1]}, "rounds[0] is not an object"),
        ({"rounds": [{}]}, "rounds[0].seconds is missing"),
        ({"rounds": [{"seconds": "1"}]}, "rounds[0].seconds is not a number: '1'"),
        ({"rounds": [{"seconds": True}]}, "rounds[0].seconds is not a number: True"),
        ({"rounds": [{"seconds": 0}]}, "rounds[0].seconds is not at least 1e-30"),
        ({"rounds": [{"seconds": 1, "name": 1}]}, "rounds[0].name is not text: 1"),
        ({"pair": [1]}, "pair has 1 items, not 2"),
        ({"pair": [1, 2**63]}, "pair[1] has more than 63 bits"),
        ({"pair": [1, 2.0]}, "pair[1] is not a whole number: 2.0"),
        ({"shares": []}, "shares is not an object"),
        (
            {"shares": {"x\n" * 99: []}},
            r"shares.x\nx\nx\nx\nx\nx\nx\nx\nx\nx\nx\nx\nx\n... is not a number: a list",
        ),
        ({"closed": {}}, "closed.width is missing"),
        ({"closed": {"width": 100}}, "closed.width is not at most 99"),
        ({"closed": {"width": 1, "kind": "c"}}, "closed.kind is none of 'a', 'b'"),
        ({"closed": {"width": 1, "kjnd": "a"}}, "closed has the unknown field 'kjnd'"),
        ({"closed": {"width": 1, "": "a"}}, "closed has the unknown field ''"),
    ],
)
def test_a_value_that_does_not_fit_is_named(change, what):
    assert problem(GOOD, Outer) == ""
    assert problem(GOOD | change, Outer) == what


def test_a_sealed_document_says_what_was_written(tmp_path):
    path = tmp_path / "a.json"
    document = {"format": 2, "text": "\u00e9\U0001f600\udcff", "number": 0.1}
    write_sealed(path, document)
    assert read_sealed(path, "format", 2, 1) == document
    # The definition, written down a second time: sorted keys, no spaces, ASCII.
    content = rb'{"format":2,"number":0.1,"text":"\u00e9\ud83d\ude00\udcff"}'
    assert json.loads(path.read_bytes())["document_sha256"] == hashlib.sha256(content).hexdigest()
    other_spaces = json.dumps(json.loads(path.read_bytes()), sort_keys=True)
    path.write_text(other_spaces)
    assert read_sealed(path, "format", 2, 1) == document


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(text="b"),
        lambda d: d.update(more=1),
        lambda d: d.pop("text"),
        lambda d: d.pop("document_sha256"),
        lambda d: d.update(document_sha256=None),
        lambda d: d.update(document_sha256="0" * 64),
        lambda d: d.update(format=1),
        lambda d: d.update(format=3),
        lambda d: d.update(format=True),
        lambda d: d.pop("format"),
    ],
)
def test_a_changed_document_is_refused(tmp_path, change):
    path = tmp_path / "a.json"
    write_sealed(path, {"format": 2, "text": "a"})
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ContractError, match=r"damaged, or edited by hand|has the format"):
        read_sealed(path, "format", 2, 1)


def test_a_document_of_the_format_before_needs_no_checksum(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"format": 1, "text": "a"}')
    assert read_sealed(path, "format", 2, 1) == {"format": 1, "text": "a"}


def test_what_is_written_any_parser_takes(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [float("nan"), (float("-inf"), 1.5)], "name": "caf\udce9", "b": "\u00e9"})
    text = path.read_bytes().decode("utf-8")  # strict

    def refuse(name: str) -> None:
        raise AssertionError(name)

    read = json.loads(text, parse_constant=refuse)
    assert read == {"a": [None, [None, 1.5]], "name": "caf\udce9", "b": "\u00e9"}
