"""The plans that the checks run: for batches and for one text, where the race finds them."""

from __future__ import annotations

import pytest

from p2.bench import plugins
from p2.bench.contender import Model
from p2.contract.errors import BackendMissing, UsageError
from p2.contract.plan import TENSORRT_RTX
from p2.gpu_check.benchmark import _lay_plans_beside
from p2.gpu_check.models import Files, build, card_of, make
from p2.runtime import nvidia
from p2.runtime.tensorrt.plan_file import read_plan


@pytest.mark.rtx
@pytest.mark.skipif(not nvidia.installed(TENSORRT_RTX), reason="tensorrt_rtx is not installed")
def test_both_plans_are_built_and_laid_beside_the_step(tmp_path):
    card = card_of("lstm", "after", 16)
    files = Files(tmp_path)
    make(files, card, ("int8",))
    step = files.step("int8")
    model = Model("a model", card, files.checkpoint, {"int8": step})
    keys = ("p2-tensorrt-int8", "p2.gpu_check.single_plan:int8")
    for key in keys:
        with pytest.raises(UsageError, match="a model has no plan in int8 beside its step"):
            plugins.find(key).load(model, None)
    assert set(build(files, "tensorrt-rtx", "int8")) == {"charlm-int8.plan", "charlm-int8-single.plan"}
    _lay_plans_beside(files, step, "int8")
    found = [read_plan(plugins.find(key).plan_of(step)).sidecar for key in keys]
    assert [sidecar.profiles for sidecar in found] == [((1, 1, 1), (1, 8, 512)), ((1, 1, 1),)]
    assert [sidecar.settings["products"] for sidecar in found] == ["matrix products", "sums"]
    if not nvidia.gpus().devices:
        for key in keys:
            with pytest.raises(BackendMissing, match="needs an NVIDIA GPU"):
                plugins.find(key).load(model, None)
