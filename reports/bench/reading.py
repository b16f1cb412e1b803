"""A benchmark report read back from its JSON, checked against the types of `document`."""

from __future__ import annotations

import math
import types
from pathlib import Path
from typing import Any, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from ...spec.errors import ContractError
from ...spec.files import read_json
from .document import SCHEMA, Document

FORMER_SCHEMAS = ("p2.bench/1", "p2.bench/2")

# Rates, times and counts that everything is divided by.
_POSITIVE = {
    "bandwidth_bytes_per_second",
    "batch",
    "characters_per_second",
    "length",
    "matmul_flops_per_second",
    "median",
    "p5",
    "p50_us",
    "p90_us",
    "p95",
    "p99_us",
    "growth",
    "read",
    "us_per_character",
    "values",
    "weights",
    "written",
}
_CARD = {"cell": str, "layers": int, "embedding": int, "hidden": int}
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def load(path: Path) -> Document:
    """Read a report that `p2 bench` wrote, also one of a former schema, as one of this.

    Fields that this version does not know are kept.

    Raises:
        ContractError: another schema, or damaged: the sentence names the field.
        P2Error: missing, unreadable, or not JSON.
    """
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("schema"), str):
        raise ContractError(f"{path} is not a report of `p2 bench`: it names no schema")
    if data["schema"] in FORMER_SCHEMAS:
        data = _upgraded(data)
    if data["schema"] != SCHEMA:
        raise ContractError(
            f"{path} has the schema {data['schema']!r} and this p2 reads {SCHEMA!r}: run `p2 bench` again"
        )
    problem = _problem(data, Document, "") or _duplicate(data)
    if problem:
        raise ContractError(f"{path} is damaged: {problem}")
    return cast(Document, data)


def _upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """A report of a former schema. Nobody wrote beside others; the first kept no figures of single rounds,
    so the medians stand for them.
    """

    def with_values(figure: Any, median: str) -> Any:
        there = isinstance(figure, dict) and median in figure
        return {"values": [figure[median]]} | figure if there else figure

    def entry(old: Any) -> Any:
        if not isinstance(old, dict):
            return old
        new: dict[str, Any] = {"beside": None} | old
        if "characters_per_second" in old:
            new["characters_per_second"] = with_values(old["characters_per_second"], "median")
        if "prompt" in old:
            new["prompt"] = with_values(old["prompt"], "characters_per_second")
        if isinstance(old.get("batches"), list):
            points = [with_values(point, "characters_per_second") for point in old["batches"]]
            new["batches"] = [{"growth": None} | p if isinstance(p, dict) else p for p in points]
        return new

    upgraded = data | {"schema": SCHEMA}
    if isinstance(data.get("models"), list):
        upgraded["models"] = [
            model | {"entries": [entry(old) for old in model["entries"]]}
            if isinstance(model, dict) and isinstance(model.get("entries"), list)
            else model
            for model in data["models"]
        ]
    return upgraded


def _problem(value: Any, kind: Any, where: str) -> str:
    """What is wrong with a value, as a part of a sentence, or the empty string."""
    if is_typeddict(kind):
        return _fields(value, get_type_hints(kind), where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (wanted,) = (option for option in inner if option is not type(None))
        return "" if value is None else _problem(value, wanted, where)
    if origin is list:
        if not isinstance(value, list):
            return f"{where} is not a list"
        problems = (_problem(item, inner[0], f"{where}[{at}]") for at, item in enumerate(value))
        return next(filter(None, problems), "")
    if origin is dict:
        return "" if isinstance(value, dict) else f"{where} is not an object"
    return _plain(value, kind, where)


def _fields(value: Any, hints: dict[str, Any], where: str) -> str:
    if not isinstance(value, dict):
        return f"{where} is not an object"
    for name, kind in hints.items():
        inside = f"{where}.{name}".lstrip(".")
        if name not in value:
            return f"{inside} is missing"
        problem = _problem(value[name], kind, inside)
        if problem:
            return problem
        if name == "card":
            problem = _fields(value[name], _CARD, inside)
            if problem:
                return problem
    return ""


def _plain(value: Any, kind: type, where: str) -> str:
    accepted: tuple[type, ...] = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        return f"{where} is not {_NAMES[kind]}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where} is not a finite number"
    if (
        where.rpartition(".")[2].partition("[")[0] in _POSITIVE
        and isinstance(value, int | float)
        and value <= 0
    ):
        return f"{where} is not above zero"
    return ""


def _duplicate(data: Any) -> str:
    """A model's name, or a contender's key within a model, that occurs twice."""
    lists = [("models", "name", data["models"])]
    lists += [
        (f"models[{at}].entries", "key", measured["entries"]) for at, measured in enumerate(data["models"])
    ]
    for where, field, items in lists:
        names = [item[field] for item in items]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            return f"two of {where} have the {field} {twice!r}"
    return ""
