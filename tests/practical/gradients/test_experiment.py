"""`p2 practical gradients`, tiny: the formulas hold, the document and its section are whole."""

from __future__ import annotations

import json

import pytest
import torch

from p2.cli import main
from p2.contract.errors import UsageError
from p2.practical.document import read
from p2.practical.gradients import section as gradients_section
from p2.practical.gradients.claims import claims_of
from p2.practical.gradients.experiment import GradientSettings, curves, parameters


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("practical")
    argv = ["--hidden", "8", "--embedding", "3", "-T", "3", "--updates", "5", "--sequences", "40"]
    assert main(["practical", "gradients", *argv, "--out", str(out)]) == 0
    return out


def test_the_document(folder):
    document = read(folder / "gradients.json")
    cells = document["results"]["cells"]
    assert list(cells) == ["rnn", "lstm", "gru"]
    for cell, found in cells.items():
        for when in ("initial", "trained"):
            for which in ("all", "0", "1"):
                share = found[when]["h"][which]["share"]
                assert len(share) == 12
                assert share[-1] == 1
            assert ("c" in found[when]) == (cell == "lstm")
        assert len(found["initial, long"]["h"]["all"]["share"]) == 36
    by_hand = cells["rnn"]["trained"]["by_hand"]
    assert max(by_hand["w_hh"], by_hand["w_ph"]) < 1e-12
    assert len(by_hand["terms"]) == 12
    assert [claim["where"] for claim in document["claims"]] == [
        "1.1 (a), (b)", "1.1 (c)", "1.1 (c)", "1.1 (c)", "1.2 (a)", "1.2 (b)",
    ]  # fmt: skip
    assert document["claims"][0]["verdict"] == "confirmed"
    assert document["claims"][3]["verdict"] == "not measured"  # five updates: nothing has converged


def test_the_section(folder):
    document = read(folder / "gradients.json")
    html = "".join(part["html"] for part in gradients_section.sections(document, folder))
    assert html.count("<svg") == len(document["figures"]) == 2
    assert f"{document['results']['parameters'][1]['formula']:,}" in html


def test_parameters_of_question_1_2():
    rows = {row["model"]: row for row in parameters(GradientSettings())}
    lstm = rows["classifier, lstm"]
    assert lstm["formula"] == lstm["counted"] == 4 * 10 * 256 + 4 * 256**2 + 256 * 2 + 4 * 256 + 2 == 273_922
    assert (lstm["matrices"], lstm["vectors"]) == (9, 5)
    assert rows["classifier, gru"]["formula"] == rows["classifier, gru"]["counted"] == 204_802
    for row in rows.values():
        assert row["formula"] == row["counted"]


def test_inspect_tells_the_formulas_and_the_stored_number(tiny_run, capsys):
    """Two layers of 32, embedding 16: counted from the checkpoint's tensors, and by hand."""
    assert main(["inspect", str(tiny_run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    card = found["card"]
    vocab, inputs, hidden = len(card["vocabulary"]), card["embedding"], card["hidden"]
    formula = 4 * inputs * hidden + 4 * hidden**2 + 4 * hidden  # question 1.2 (b), the first layer
    formula += 4 * hidden * hidden + 4 * hidden**2 + 4 * hidden
    formula += hidden * vocab + vocab + vocab * inputs
    assert (card["cell"], card["layers"]) == ("lstm", 2)
    assert found["parameters"] == {"by_formula": formula, "as_stored": formula + 2 * 4 * hidden}


def test_curves_by_hand():
    norms = torch.tensor([[1.0, 2.0, 8.0], [2.0, 2.0, 4.0]], dtype=torch.double)
    found = curves(norms)
    assert found["norm"] == [2.0, 2.0]
    assert found["share"] == [1.0, 1.0]  # the middle one of 0.5, 1 and 2
    assert found["low"] == [pytest.approx(0.6), 1.0]
    assert found["high"] == [pytest.approx(1.8), 1.0]


def test_a_wrong_formula_is_not_confirmed(folder):
    results = read(folder / "gradients.json")["results"]
    results["cells"]["rnn"]["initial"]["by_hand"]["w_hh"] = 1e-3
    results["parameters"][1]["counted"] += 1
    results["cells"]["rnn"]["converged"] = 300
    results["cells"]["lstm"]["converged"] = 100
    results["cells"]["rnn"]["initial, long"]["h"]["all"]["share"] = [0.5] * 36
    found = [claim["verdict"] for claim in claims_of(results)]
    assert found[0] == "not confirmed"
    assert found[2] == "not confirmed"  # half of the gradient is left
    assert found[3] == "confirmed"  # three times as many updates
    assert found[5] == "not confirmed"


@pytest.mark.parametrize("argv", [["--sequences", "1"], ["-T", "1"], ["-T", "21"], ["--lr", "0"]])
def test_what_cannot_be_meant_is_a_sentence(argv, capsys, tmp_path):
    assert main(["practical", "gradients", "--out", str(tmp_path), *argv]) == UsageError.exit_code
    assert capsys.readouterr().err.startswith("p2: usage: ")
