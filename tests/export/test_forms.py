"""Which form the products of a plan for one text take: by time where it runs, else by size."""

from __future__ import annotations

import gc
import itertools

import pytest

from p2.bench.options import VOCABULARY
from p2.contract.card import Card
from p2.contract.errors import BuilderRefused, P2Error
from p2.contract.plan import TENSORRT, read_header, read_sidecar
from p2.export import forms
from p2.export.builder import build_plan
from p2.export.builder_run import BuilderRun
from p2.export.forms import PRODUCTS, SUMS
from p2.runtime import cuda_core, gpu_device, nvidia

from ..runtime.conftest import make_plan
from ..runtime.cuda_double import FakeCuda
from ..runtime.tensorrt_double import FakeTensorRT
from .test_build_tensorrt import GPUS, tensorrt  # noqa: F401 - a fixture

# Measured on an H100, microseconds: hidden 128 and 1024 with matrix products, the same with sums.
H100 = {"float32": ((20.4, 39.1), (16.9, 107)), "float16": ((30.4, 47.1), (27.4, 99.7))}


def lstm(hidden, layers=2):
    return Card("lstm", layers, 64, hidden, VOCABULARY)


def test_weights_are_those_that_are_multiplied():
    assert forms.weights(lstm(128)) == 4 * 128 * 128 + 4 * 128 * 256 + 128 * 96
    assert forms.weights(Card("gru", 1, 8, 10, "abc")) == 3 * 10 * 10 + 10 * 3


@pytest.mark.parametrize("precision", H100)
def test_the_rule_says_what_was_measured_and_divides_between(precision):
    few, many = (forms.weights(lstm(hidden)) for hidden in (128, 1024))
    lines = []
    for at_few, at_many in H100[precision]:
        each = (at_many - at_few) / (many - few)
        lines.append((at_few - each * few, each))
    (fixed, each), (sums_fixed, sums_each) = lines
    even = (fixed - sums_fixed) / (sums_each - each)
    assert pytest.approx(even, rel=0.05) == forms.EVEN
    assert forms.by_size(lstm(128)) == forms.by_size(lstm(256)) == SUMS
    assert forms.by_size(lstm(512)) == forms.by_size(lstm(1024)) == PRODUCTS
    assert forms.worth_measuring(lstm(512))
    assert not forms.worth_measuring(lstm(1024))


def test_the_best_of_turns_is_told_and_the_first_call_does_not_count(monkeypatch):
    clock, order = [0.0], []
    slow = {SUMS: itertools.chain([900.0, 5.0], itertools.repeat(7.0)), PRODUCTS: itertools.repeat(6.0)}

    def writer(form):
        def write():
            order.append(form)
            clock[0] += next(slow[form])

        return write

    monkeypatch.setattr(forms.time, "perf_counter", lambda: clock[0])
    assert forms.best({form: writer(form) for form in slow}) == {SUMS: 5.0, PRODUCTS: 6.0}
    assert order == [SUMS, PRODUCTS] * (len(order) // 2)


def test_times_are_those_of_plans_that_run(card_of, numpy_model, monkeypatch):
    card, cuda = card_of(), FakeCuda()
    trt = FakeTensorRT(cuda, card, numpy_model(card), "float32", [(1, 1, 1)], "tensorrt")
    device = gpu_device.Device
    monkeypatch.setattr(gpu_device, "Device", lambda: device(cuda, cuda.memory_info))
    monkeypatch.setattr(forms, "_CHARACTERS", 64)
    plan = make_plan(card, flavour="tensorrt")
    took = forms.times({SUMS: plan, PRODUCTS: plan}, nvidia.Library(TENSORRT, trt), "NVIDIA Test")
    assert took.keys() == {SUMS, PRODUCTS}
    assert min(took.values()) > 0
    assert cuda.launches == 2 * (1 + forms._TURNS)  # whole launches, as texts are written
    gc.collect()
    assert (cuda.used(), cuda.streams) == (0, 0)


@pytest.fixture
def built(tensorrt, step, tmp_path, monkeypatch):  # noqa: F811
    """Build for one text: ``built(card, times)`` -> (sidecar, forms that were built, what was said)."""
    path, card = step()
    made, said = [], []
    parse = BuilderRun.parse

    def watched(run, model):
        made.append(PRODUCTS if any(node.op_type == "MatMul" for node in model.graph.node) else SUMS)
        return parse(run, model)

    monkeypatch.setattr(BuilderRun, "parse", watched)

    def build(weights=0, took=None, batch=(1, 1, 1)):
        def times(plans, library, gpu):
            assert gpu == GPUS.devices[0].name
            assert {plan.sidecar.settings["products"] for plan in plans.values()} == set(plans)
            assert {bytes(plan.data[:4]) for plan in plans.values()} == {b"ftrt"}
            if isinstance(took, Exception):
                raise took
            return took

        made.clear()
        said.clear()
        monkeypatch.setattr(forms, "times", times)
        if weights:
            monkeypatch.setattr(forms, "weights", lambda _: weights)
        out = tmp_path / "a.plan"
        build_plan(path, card, out, engine="tensorrt", batch=batch, say=said.append)
        sidecar = read_sidecar(out)
        assert sidecar.header == read_header(out)
        sidecar.check(out, out.stat().st_size, sidecar.plan_sha256)
        return sidecar.settings, list(made), list(said)

    return build


@pytest.mark.parametrize("fastest", [SUMS, PRODUCTS])
@pytest.mark.parametrize("weights", [200_000, 3_000_000])
def test_where_it_runs_both_are_built_and_the_faster_is_kept(weights, fastest, built):
    took = {SUMS: 20.0, PRODUCTS: 20.0} | {fastest: 11.239}
    settings, made, said = built(weights, took)
    assert sorted(made) == [PRODUCTS, SUMS]
    assert settings["products"] == fastest
    assert settings["products_by"] == {"microseconds": {SUMS: 20.0, PRODUCTS: 20.0} | {fastest: 11.24}}
    assert said[0].startswith(f"products as {fastest}: a character takes, in microseconds, ")
    assert f"{fastest} 11.2" in said[0]


def test_a_form_that_loses_by_its_size_is_not_built(built):
    settings, made, said = built(12_700_000, P2Error("must not be asked"))
    assert made == [PRODUCTS]
    assert settings["products_by"] == {"weights": 12_700_000}
    assert said == ["products as matrix products, by size (12.70 million weights): sums lose at this size"]


def test_a_plan_for_batches_has_matrix_products_and_nothing_to_say(built):
    settings, made, said = built(batch=(1, 4, 8))
    assert (settings["products"], made, said) == (PRODUCTS, [PRODUCTS], [])
    assert "products_by" not in settings


def test_what_cannot_be_measured_goes_by_size(built, monkeypatch):
    settings, made, said = built(3_000_000, P2Error("the GPU is out of memory"))
    assert (settings["products"], settings["products_by"]) == (PRODUCTS, {"weights": 3_000_000})
    assert said == ["products as matrix products, by size (3.00 million weights): the GPU is out of memory"]
    monkeypatch.setattr(cuda_core, "missing", lambda: "cuda-core is not here")
    settings, made, said = built(200_000)
    assert (settings["products"], made) == (SUMS, [SUMS])
    assert said == ["products as sums, by size (0.20 million weights): cuda-core is not here"]


def test_a_form_that_the_builder_refuses_leaves_the_other(built, monkeypatch):
    build = BuilderRun.build

    def refuse(run, *given):
        if run.refused:
            raise BuilderRefused("no sums here")
        return build(run, *given)

    parse = BuilderRun.parse

    def remember(run, model):
        run.refused = not any(node.op_type == "MatMul" for node in model.graph.node)
        return parse(run, model)

    monkeypatch.setattr(BuilderRun, "build", refuse)
    monkeypatch.setattr(BuilderRun, "parse", remember)
    settings, _, said = built(3_000_000)
    assert settings["products"] == PRODUCTS
    assert said[0].endswith("no sums here")
