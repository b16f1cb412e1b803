"""Plans of real exports, for every cell and precision: what was built, and what every place says of it."""

from __future__ import annotations

import json

import pytest

from p2.cli import main
from p2.commands.inspection import describe
from p2.contract.card import PRECISIONS
from p2.contract.errors import BuilderRefused, P2Error, UsageError
from p2.contract.plan import TENSORRT_RTX, read_header, sidecar_path
from p2.export.builder import build_plan
from p2.export.targets import Options
from p2.runtime import nvidia
from p2.runtime.tensorrt.plan_file import read_plan

pytestmark = [
    pytest.mark.rtx,
    pytest.mark.skipif(not nvidia.installed(TENSORRT_RTX), reason="tensorrt_rtx is not installed"),
]

PORTABLE = ("sm80", "sm86", "sm89", "sm120", "sm121")
# Two layers and the output: a kernel each. With the reset before the product every layer has two products
# in a row, and so a kernel more.
KERNELS = {"after": 3, "before": 5}
CHOICE = 3  # kernels of the choice behind it


def build(path, card, **options):
    out = path.with_suffix(".plan")
    build_plan(path, card, out, engine="tensorrt-rtx", **options)
    return out


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_cell_in_every_precision(precision, cell, card_of, write_step):
    card = card_of(*cell, precision=precision, layers=2)
    heard = []
    out = build(write_step(card), card, log=heard.append)
    plan = read_plan(out)  # sizes, hashes and versions of plan and sidecar agree
    assert plan.sidecar.card == card
    targets = PORTABLE[2:] if precision == "float8" else PORTABLE
    assert plan.header.targets == plan.sidecar.targets == targets
    found = describe(str(out))
    assert found["card"] == card.to_dict()
    assert (found["flavour"], found["version"]) == (plan.header.flavour, plan.header.version)
    assert found["targets"] == list(targets)
    # The number of kernels, from the builder's own log, read here without p2's parser.
    (listing,) = (message for message in heard if message.startswith("Layers:"))
    lines = [line for line in listing.splitlines() if line.startswith("Name: ")]
    assert found["kernels"] == len(lines) == KERNELS[card.gru_reset] + CHOICE
    assert not any("shape_call" in line for line in lines)
    # The same step for two capabilities instead of all.
    named = read_plan(build(out.with_suffix(".onnx"), card, options=Options(("sm89", "sm120"))))
    assert named.header.targets == named.sidecar.targets == ("sm89", "sm120")
    assert named.sidecar.kernels == len(lines)


def test_a_bare_step_is_three_kernels(cell, card_of, write_step):
    card = card_of(*cell, layers=2)
    assert read_plan(build(write_step(card), card, choice=False)).sidecar.kernels == KERNELS[card.gru_reset]


def test_a_plan_for_batches_has_a_profile_for_one(card_of, write_step):
    card = card_of("lstm", precision="int8")
    out = build(write_step(card), card, batch=(1, 4, 8))
    sidecar = read_plan(out).sidecar
    assert sidecar.profiles == ((1, 1, 1), (1, 4, 8))
    assert {layer.profile for layer in sidecar.layers} == {0, 1}
    assert sidecar.kernels == sum(layer.profile == 0 for layer in sidecar.layers) > 3
    shapes = [layer for layer in sidecar.layers if layer.kind == "shape_call"]
    assert shapes
    assert not any(layer.is_kernel for layer in shapes)


@pytest.mark.parametrize("targets", [*((name,) for name in ("sm75", *PORTABLE)), ("sm89", "sm120")])
def test_the_header_names_the_targets(targets, card_of, write_step):
    card = card_of("rnn", layers=1)
    out = build(write_step(card), card, options=Options(targets))
    assert read_header(out).targets == read_plan(out).sidecar.targets == targets
    assert read_plan(out).sidecar.settings["portable"] is False


def test_impossible_targets_are_sentences(card_of, write_step):
    card = card_of("rnn", layers=1)
    path = write_step(card)
    with pytest.raises(UsageError, match="does not build for sm90: --target takes sm75, sm80"):
        build(path, card, options=Options(("sm90",)))
    with pytest.raises(BuilderRefused, match=r"could not compile the graph .*: .*SM75"):
        build(path, card, batch=(1, 4, 8), options=Options(("sm75",)))
    short = card.with_(precision="float8")
    with pytest.raises(BuilderRefused, match=r"for sm86: float8 needs compute capability 8\.9 or more"):
        build(write_step(short), short, options=Options(("sm86", "sm89")))
    assert not path.with_suffix(".plan").exists()


def test_from_the_command_line_to_inspect(tiny_run, capsys):
    command = [
        "export",
        str(tiny_run),
        "--precision=bfloat16",
        "--engine=tensorrt-rtx",
        "--target=sm89,sm120",
        "--batch=1",
    ]
    assert main(command) == 0
    plan = tiny_run / f"{tiny_run.name}.plan"
    capsys.readouterr()
    assert main(["inspect", str(plan)]) == 0
    shown = capsys.readouterr().out
    assert "for sm89, sm120" in shown
    assert "6 at batch 1" in shown
    assert main(["inspect", str(plan), "--layers"]) == 0
    shown = capsys.readouterr().out
    assert "kernels per step at batch 1: 6" in shown
    assert "kgen" in shown
    sidecar_path(plan).unlink()
    assert main(["inspect", str(plan)]) == 0
    shown = capsys.readouterr().out
    assert "for sm89, sm120" in shown
    assert ".plan.json is missing" in shown
    assert main(["inspect", str(plan), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["targets"] == ["sm89", "sm120"]
    assert found["sidecar"] is None
    assert main(["inspect", str(plan), "--layers"]) == 1
    assert "nothing says which layers" in capsys.readouterr().err
    assert main(["inspect", str(plan.with_suffix(".onnx")), "--layers"]) == 2
    assert "--layers is for a .plan" in capsys.readouterr().err


def test_options_of_the_other_library_are_refused_before_any_work(tiny_run, capsys):
    for option, words in (
        ("--version-compatible", "--version-compatible is for TensorRT"),
        ("--hardware-compatible", "--hardware-compatible is for TensorRT"),
        ("--target=8.9", "--target takes compute capabilities such as sm89,sm120"),
    ):
        assert main(["export", str(tiny_run), "--engine=tensorrt-rtx", option]) == 2
        assert words in capsys.readouterr().err
    assert main(["export", str(tiny_run), "--engine=none", "--target=sm89"]) == 2
    assert "--target: for a .plan, and --engine none builds none" in capsys.readouterr().err
    assert not (tiny_run / f"{tiny_run.name}.onnx").exists()


def test_a_layer_list_survives_the_sidecar(card_of, write_step):
    card = card_of("gru", layers=1)
    out = build(write_step(card), card)
    layers = read_plan(out).sidecar.layers
    assert any("Gather" in operator for layer in layers for operator in layer.operators)
    data = json.loads(sidecar_path(out).read_text())
    del data["layers"], data["targets"], data["document_sha256"]  # as an earlier p2 wrote it
    data["sidecar_version"] = 1
    sidecar_path(out).write_text(json.dumps(data))
    assert read_plan(out).sidecar.layers == ()
    data["layers"] = [{"name": "x"}]
    sidecar_path(out).write_text(json.dumps(data))
    with pytest.raises(P2Error, match=r"is damaged: layers\[0\]\.kind is missing"):
        read_plan(out)
