"""Reports read back: the whole schema is checked, and damage is one clear sentence."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.bench.document import SCHEMA
from p2.bench.reading import load
from p2.contract.errors import ContractError, P2Error
from p2.contract.files import write_json


@pytest.fixture
def read(tmp_path):
    """Write a value as JSON and load it."""

    def through(value):
        path = tmp_path / "report.json"
        write_json(path, value)
        return load(path)

    return through


def test_a_report_comes_back_as_it_was(bench, judged, read):
    for document in (judged(512, 2048), bench.emptied(judged(512)), bench.document()):
        assert read(document) == document


def test_fields_from_the_future_are_kept(bench, read):
    document = bench.document(bench.model(512), more=1)
    document["models"][0]["entries"][0]["energy"] = 3
    assert read(document) == document


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("models",), {}, "models is not a list"),
        (("quick",), 1, "quick is not true or false"),
        (("p2",), None, "p2 is not text"),
        (("machine",), [], "machine is not an object"),
        (("models", 0, "weights"), 1.5, "models[0].weights is not a whole number"),
        (("models", 0, "weights"), True, "models[0].weights is not a whole number"),
        (("models", 0, "card", "hidden"), "512", "models[0].card.hidden is not a whole number"),
        (("models", 0, "rates"), None, "models[0].rates is not an object"),
        (
            ("models", 0, "rates", "bandwidth_bytes_per_second"),
            0,
            "models[0].rates.bandwidth_bytes_per_second is not at least 1e-30",
        ),
        (
            ("models", 0, "entries", 3, "latency", "p50_us"),
            -1.0,
            "models[0].entries[3].latency.p50_us is not at least 1e-30",
        ),
        (
            ("models", 0, "entries", 3, "characters_per_second", "median"),
            1e300,
            "models[0].entries[3].characters_per_second.median is not at most 1e+30",
        ),
        (
            ("models", 0, "entries", 3, "prompt", "values"),
            [],
            "the length of models[0].entries[3].prompt.values is not at least 1",
        ),
        (
            ("models", 0, "entries", 3, "batches", 1, "batch"),
            "4",
            "models[0].entries[3].batches[1].batch is not a whole number",
        ),
        (
            ("models", 0, "entries", 3, "quality", "passes"),
            None,
            "models[0].entries[3].quality.passes is not true or false",
        ),
        (
            ("models", 0, "entries", 1, "key"),
            "torch-eager",
            "two of models[0].entries have the key 'torch-eager'",
        ),
        (("models", 1, "name"), "lstm,2,256,512", "two of models have the name 'lstm,2,256,512'"),
        (("targets", 0, "reached"), "yes", "targets[0].reached is not true or false"),
    ],
)
def test_damage_names_the_field(judged, read, tmp_path, path, value, says):
    document = judged(512, 1024)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ContractError) as caught:
        read(document)
    said, _, given = str(caught.value).partition(f"{tmp_path / 'report.json'} is damaged: {says}")
    assert said == ""
    assert given in ("", f": {value!r}")


def places(value, path=()):
    """Every path to a field that the schema names."""
    free = ("machine", "settings")
    if isinstance(value, dict):
        for name, inner in value.items():
            if path and path[-1] == "card" and name not in ("cell", "layers", "embedding", "hidden"):
                continue
            yield (*path, name)
            if name not in free:
                yield from places(inner, (*path, name))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


@given(st.data())
def test_every_missing_field_is_noticed(bench, tmp_path_factory, data):
    model = bench.model(512)
    model["entries"] = [bench.of(model, "p2-int8")]
    model["targets"] = [{"what": "", "goal": "", "measured": "", "reached": None, "note": ""}]
    document = bench.document(model)
    *inside, name = data.draw(st.sampled_from([p for p in places(document) if p != ("schema",)]))
    place = damaged = copy.deepcopy(document)
    for step in inside:
        place = place[step]
    del place[name]
    path = tmp_path_factory.mktemp("damaged") / "report.json"
    write_json(path, damaged)
    with pytest.raises(ContractError, match=rf"{name} is missing$"):
        load(path)


def test_the_documentation_names_every_field(bench):
    text = (Path(__file__).parents[3] / "artifacts" / "bench" / "SCHEMA.md").read_text(encoding="utf-8")
    document = bench.document(
        bench.model(512), targets=[dict.fromkeys(("what", "goal", "measured", "reached", "note"))]
    )
    fields = {path[-1] for path in places(document) if isinstance(path[-1], str)}
    assert {"p2", "p90_us", "cell", "reached", "sha256"} <= fields
    # Inside a table's code, alone or behind the object that it is in.
    assert {name for name in fields if not re.search(rf"`(?:[\w\[\]]+\.)?{name}`", text)} == set()
    assert f"`{SCHEMA}`" in text


def test_a_report_of_the_former_schema_is_read(read, bench):
    """What it lacks: the figures of single rounds."""
    former = bench.document(bench.model(512), schema="p2.bench/1")
    (model,) = former["models"]
    for entry in model["entries"]:
        del entry["beside"]
        if entry["characters_per_second"]:
            entry["characters_per_second"] |= {"rounds": 5}
            for figure in (entry["characters_per_second"], entry["prompt"], *entry["batches"]):
                del figure["values"]
            for point in entry["batches"]:
                del point["growth"]
    (entry,) = (e for e in read(former)["models"][0]["entries"] if e["key"] == "openvino")
    assert entry["characters_per_second"]["values"] == [5000.0]
    assert entry["prompt"]["values"] == [20_000.0]
    assert [(p["values"], p["growth"]) for p in entry["batches"][:2]] == [
        ([5000.0], None),
        ([pytest.approx(15_000.0)], None),
    ]
    assert entry["beside"] is None
    former["models"] = [3]
    with pytest.raises(ContractError, match=r"models\[0\] is not an object"):
        read(former)


def test_a_report_without_turns_beside_others_is_read(read, bench):
    former = bench.document(bench.model(512), schema="p2.bench/2")
    for entry in former["models"][0]["entries"]:
        del entry["beside"]
    entry = read(former)["models"][0]["entries"][2]
    assert (entry["beside"], len(entry["prompt"]["values"])) == (None, 5)


def test_committed_reports_are_read():
    reports = sorted((Path(__file__).parents[3] / "artifacts" / "bench").glob("*.json"))
    assert len(reports) == 6
    assert all(load(path)["models"] for path in reports)


def test_other_files_are_refused(read, tmp_path, bench):
    with pytest.raises(ContractError, match=r"is not a report of `p2 bench`: it names no schema$"):
        read([1, 2])
    with pytest.raises(ContractError, match="is not a report of `p2 bench`"):
        read({"models": []})
    with pytest.raises(ContractError, match=r"has the schema 'p2\.bench/0' and this p2 reads 'p2\.bench/3'"):
        read(bench.document(schema="p2.bench/0"))
    with pytest.raises(P2Error, match="no such file"):
        load(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text(json.dumps(bench.document(bench.model(512)))[:-20])
    with pytest.raises(P2Error, match="not valid JSON"):
        load(tmp_path / "cut.json")
