"""A benchmark report read back from its JSON, checked against the types of `document`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from ..contract.documents import read_document
from ..contract.errors import ContractError
from ..contract.schema import problem, shown
from .document import SCHEMA, Document, Machine, Shape

FORMER_SCHEMAS = ("p2.bench/1", "p2.bench/2")


def load(path: Path) -> Document:
    """Read a report that `p2 bench` wrote, also one of a former schema, as one of this.

    Fields that this version does not know are kept.

    Raises:
        ContractError: another schema, or damaged: the sentence names the field.
        P2Error: missing, unreadable, or not JSON.
    """
    data = read_document(path)
    if not isinstance(data, dict) or not isinstance(data.get("schema"), str):
        raise ContractError(f"{path} is not a report of `p2 bench`: it names no schema")
    if data["schema"] in FORMER_SCHEMAS:
        data = _upgraded(data)
    if data["schema"] != SCHEMA:
        raise ContractError(
            f"{path} has the schema {shown(data['schema'])} and this p2 reads {SCHEMA!r}:"
            " run `p2 bench` again"
        )
    found = problem(data, Document)
    for at, measured in enumerate([] if found else data["models"]):
        found = found or problem(measured["card"], Shape, f"models[{at}].card")
    found = found or problem(data["machine"], Machine, "machine") or _duplicate(data)
    if found:
        raise ContractError(f"{path} is damaged: {found}")
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
            return f"two of {where} have the {field} {shown(twice)}"
    return ""
