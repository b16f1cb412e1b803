"""`p2 practical baum-sweet`, tiny: what is trained, kept, counted, claimed, drawn and shown."""

from __future__ import annotations

import json
import multiprocessing
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.cli import main
from p2.contract.errors import P2Error, UsageError
from p2.practical.document import read
from p2.practical.toy import claims as toy_claims
from p2.practical.toy import experiment as baum_sweet
from p2.practical.toy import runs as toy_runs
from p2.practical.toy import section as baum_sweet_section
from p2.practical.toy.problem import BaumSweet, encode, to_bits
from p2.practical.toy.results import data_of, group_of, has_single_zero, results_of
from p2.practical.toy.runs import Runs, name, run_all
from p2.practical.toy.settings import CELLS, ToySettings
from p2.practical.toy.training import ToyOptions
from p2.render.progress import Progress

from .threads import pool

TINY = {"embedding": 2, "hidden": 4, "batch": 8, "updates": 25}


def tiny_plan() -> list[ToyOptions]:
    plan = [ToyOptions(cell, 4, seed=seed, **TINY) for cell in CELLS for seed in (0, 1)]
    plan += [ToyOptions("gru", 4, "balanced", 0.1, **TINY)]
    return [*plan, ToyOptions("rnn", 10, "near-miss", **TINY)]


@pytest.fixture
def in_threads(monkeypatch):
    return put_in_threads(monkeypatch)


def put_in_threads(monkeypatch):
    """Workers as threads of this process; what they train is noted."""
    started: list[str] = []
    trained = toy_runs._train

    def note(options: ToyOptions):
        started.append(name(options))
        return trained(options)

    monkeypatch.setattr(toy_runs, "_pool", pool)
    monkeypatch.setattr(toy_runs, "_train", note)
    return started


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as monkeypatch:
        put_in_threads(monkeypatch)
        monkeypatch.setattr(ToySettings, "plan", lambda self: tiny_plan())
        return baum_sweet.run(ToySettings(), folder)


def test_the_document(report):
    document = read(report)
    assert document["experiment"] == "baum-sweet"
    assert document["mode"] == "full"
    assert document["machine"]["packages"]["torch"]
    assert document["seconds"]["wall"] > 0
    groups = document["results"]["groups"]
    assert [(g["cell"], len(g["seeds"])) for g in groups] == [
        *((c, 2) for c in CELLS),
        ("gru", 1),
        ("rnn", 1),
    ]
    assert len(document["claims"]) == 12
    for figure in document["figures"]:
        assert (report.parent / figure["file"]).read_text().startswith("<?xml")


def test_the_section_holds_every_figure_and_nothing_unescaped(report):
    document = read(report)
    document["results"]["groups"][0]["tests"] = {"<b>": {y: {"right": 1, "tested": 2} for y in "01"}}
    parts = baum_sweet_section.sections(document, report.parent)
    html = "".join(part["html"] for part in parts)
    assert html.count("<svg") == len(document["figures"])
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_a_second_start_trains_only_what_is_missing(tmp_path, in_threads):
    plan = tiny_plan()
    with Progress() as progress:
        run_all(Runs(tmp_path, plan), 2, progress)
        assert sorted(in_threads) == sorted(map(name, plan))
        runs = Runs(tmp_path, plan)
        first = runs.records()
        lost = runs.path(plan[3])
        before = json.loads(lost.read_text())
        lost.unlink()
        in_threads.clear()
        run_all(runs, 2, progress)
    assert in_threads == [name(plan[3])]
    after = runs.records()[3]
    assert after["loss"] == before["loss"]
    assert [one["options"] for one in runs.records()] == [one["options"] for one in first]


def test_other_settings_are_other_trainings(tmp_path, in_threads, capsys):
    one, two = ToyOptions("rnn", 2, **TINY), ToyOptions("rnn", 2, **{**TINY, "gain": 2.0})
    with Progress() as progress:
        run_all(Runs(tmp_path, [one]), 1, progress)
        run_all(Runs(tmp_path, [two]), 1, progress)
    assert in_threads == [name(one), name(two)]
    assert "other settings: starting anew" in capsys.readouterr().err
    assert Runs(tmp_path, [one, two]).missing == []


def test_worker_processes_train_the_same(tmp_path):
    plan = [ToyOptions("rnn", 2, **{**TINY, "updates": 12})]
    with Progress() as progress:
        run_all(Runs(tmp_path / "a", plan), 2, progress)
    from p2.practical.toy.training import train

    record = Runs(tmp_path / "a", plan).records()[0]
    assert record["accuracy"] == pytest.approx(train(plan[0]).accuracy, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_training_that_fails_is_a_sentence_that_names_it(tmp_path, monkeypatch):
    """In a fork of this process, where PyTorch is imported; the test above has one that is started anew."""
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(toy_runs.multiprocessing, "get_context", lambda _: fork)
    plan = [ToyOptions("rnn", 2, **{**TINY, "gain": 1e38})]
    with Progress() as progress, pytest.raises(P2Error, match="rnn T=2 rejection seed 0: training diverged"):
        run_all(Runs(tmp_path, plan), 1, progress)
    assert not list(tmp_path.glob("*.json"))


@given(st.lists(st.integers(10, 2**30), min_size=1, max_size=20))
def test_single_zeros(numbers):
    found = has_single_zero(encode(to_bits(numbers, 31), 40))
    assert found.tolist() == [bool(re.search("(?<!0)0(?!0)", f"{n:b}")) for n in numbers]


def test_the_cue_of_near_misses_is_weaker():
    assert data_of(BaumSweet(10, "near-miss"))["cue"] < data_of(BaumSweet(10, "balanced"))["cue"] < 1


def record(accuracy: list[float], loss: list[float], converged: int | None = None, **options) -> dict:
    base = {"cell": "lstm", "magnitude": 4, "sampling": "rejection", "withheld": 0.0, "seed": 0}
    base |= {"embedding": 10, "gain": 1.0, "fan": "out", "hidden": 256, "updates": 900}
    never = {"numbers": 10, "tested": 4, "right": 3}
    return {
        "options": base | options,
        "accuracy": accuracy,
        "loss": loss,
        "converged": converged,
        "parameters": {"recurrent": 100, "output": 10, "embedding": 30},
        "tests": {"never drawn": {"0": never, "1": {**never, "right": 4}}},
        "seconds": {"wall": 2.0, "cpu": 1.0, "elapsed": 2.0},
    }


def test_a_group_by_hand():
    long = record([1.0] * 40, [0.5] * 30 + [0.1] * 10, 21)
    short = record([0.5] * 30, [0.9] * 30, 29, seed=1)
    group = group_of([long, short])
    assert group["converged_mean"] == 25
    assert group["converged_std"] == 4
    assert group["updates_done"] == [40, 30]
    assert group["accuracy_at"] == {"mean": 0.75, "std": 0.25}
    assert group["early_loss"]["mean"] == pytest.approx(((0.5 * 10 + 0.1 * 10) / 20 + 0.9) / 2)
    assert group["curves"]["update"] == [10, 20, 30, 40]
    # At 40: the mean of 11 times 0.5 and 10 times 0.1, and the held 0.9.
    expected = np.array([[0.5, 0.9], [0.5, 0.9], [0.5, 0.9], [6.5 / 21, 0.9]])
    assert group["curves"]["loss_mean"] == pytest.approx(expected.mean(axis=1), abs=1e-4)
    assert group["curves"]["loss_std"] == pytest.approx(expected.std(axis=1), abs=1e-4)
    assert group["tests"]["never drawn"]["1"] == {"numbers": 10, "tested": 8, "right": 8}
    assert group["ms_per_update"] == pytest.approx(2000 / 70)
    assert group_of([long, record([0.1], [1.0])])["converged_mean"] is None


PRIORS = {4: 0.467, 5: 0.633, 6: 0.693}


def records(
    updates: dict[int, int | None], cell: str, early: dict[int, float] = PRIORS, **options
) -> list[dict]:
    return [
        record(
            [0.9] * 700 + [1.0] * 100, [early[m]] * 100 + [0.0] * 700, n, cell=cell, magnitude=m, **options
        )
        for m, n in updates.items()
    ]


def verdicts(all_records: list[dict]) -> list[str]:
    return [claim["verdict"] for claim in toy_claims.claims_of(results_of(all_records))]


FAIR = dict.fromkeys(PRIORS, 0.693)


def test_claims_that_hold():
    made = records({4: 650, 5: 850, 6: 700}, "lstm") + records({4: 600, 5: 610, 6: 620}, "gru")
    made += records({4: 600, 5: 600, 6: 600}, "lstm", FAIR, sampling="balanced")
    made += records({4: 600, 5: 650, 6: 720}, "gru", FAIR, sampling="balanced")
    made += records({30: None}, "gru", {30: 0.693}, sampling="balanced")
    found = verdicts(made)
    assert found[:5] == ["confirmed", "confirmed", "confirmed", "explained", "confirmed"]
    assert found[5:9] == ["confirmed", "confirmed", "explained", "confirmed"]
    assert found[9] == "not confirmed"  # the entropy of the documented samples falls beyond T = 6
    assert found[10] == "not confirmed"  # both are at 0.9 after 600 updates
    assert found[11] == "not confirmed"  # the made-up counts are equal


def test_claims_that_do_not_hold():
    high = {4: 0.9, 5: 0.9, 6: 0.9}
    made = records({4: 100, 5: 120, 6: None}, "lstm", high) + records({4: 900, 5: 200, 6: 610}, "gru", high)
    made += records({4: 600, 5: 600, 6: 600}, "gru", FAIR, sampling="balanced")
    made += records({30: 600}, "gru", {30: 0.693}, sampling="balanced")
    found = verdicts(made)
    assert found[0] == "not confirmed"
    assert found[2] == "not measured"  # T = 6 has not converged
    assert found[3] == "not confirmed"  # 0.9 is not what the share of the classes explains
    assert found[4] == "not confirmed"  # 120 steps are learnt
    assert found[5] == "not confirmed"
    assert found[8] == "explained"  # nothing grows with T once the classes are balanced


def test_without_its_trainings_a_claim_is_not_measured():
    found = verdicts(records({4: 600}, "rnn"))
    assert set(found) == {"not measured"}


def test_plans():
    full, quick = ToySettings().plan(), ToySettings.of(True, None, 10, 256, 1.0, "out", None).plan()
    core = {(o.cell, o.magnitude, o.seed) for o in full if o.sampling == "rejection" and o.magnitude <= 6}
    assert core == {(cell, m, seed) for cell in CELLS for m in (4, 5, 6) for seed in range(3)}
    assert {o.lr for o in full} == {1e-4}
    assert {(o.batch, o.clip, o.hidden) for o in full} == {(256, 10.0, 256)}
    assert {o.magnitude for o in full if o.sampling == "balanced"} >= {4, 5, 6, 10, 30}
    assert len(set(map(name, full))) == len(full)
    assert len(quick) < len(full) / 4
    assert {o.seed for o in quick} == {0}


@pytest.mark.parametrize("argv", [["--fan", "both"], ["--seeds", "0"], ["--hidden", "0"], ["--gain", "nan"]])
def test_what_cannot_be_meant_is_a_sentence(argv, capsys, tmp_path):
    assert main(["practical", "baum-sweet", "--out", str(tmp_path), *argv]) == UsageError.exit_code
    assert capsys.readouterr().err.startswith("p2: usage: ")
    assert list(tmp_path.iterdir()) == []
