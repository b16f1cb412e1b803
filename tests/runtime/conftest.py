"""A GPU made of host memory, and plan engines that run on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from p2.contract.card import Card
from p2.contract.plan import FLAVOURS, PlanHeader, Sidecar
from p2.runtime.cuda import compiler
from p2.runtime.cuda.compiler import Cubin
from p2.runtime.gpu_device import Device
from p2.runtime.nvidia import Library
from p2.runtime.tensorrt.engine import PlanEngine
from p2.runtime.tensorrt.plan_file import Plan

from .cuda_double import FakeCuda
from .tensorrt_double import FakeTensorRT


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch) -> Path:
    """Caches of these tests lie in a folder of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "p2"


@pytest.fixture
def fake_cuda() -> FakeCuda:
    """A GPU of 256 MiB made of host memory."""
    return FakeCuda()


@dataclass
class Bench:
    """A plan engine on doubles."""

    engine: PlanEngine
    trt: FakeTensorRT
    cuda: FakeCuda
    plan: Plan
    library: Library


def make_plan(
    card: Card, float_type: str = "float32", flavour: str = "tensorrt-rtx", version: str = "1.7.1.116"
) -> Plan:
    """A plan in memory whose engine no library could load, with a sidecar that fits it."""
    data = FLAVOURS[flavour].magic + bytes(20) + bytes(map(int, version.split("."))) + bytes(100)
    sidecar = Sidecar(
        card, flavour, version, "0" * 64, hashlib.sha256(data).hexdigest(), len(data), float_type,
        ((1, 1, 1), (1, 4, 8)), {"tf32": False}, "2024-05-01T12:00:00+00:00",
        ("sm80", "sm86", "sm89", "sm120", "sm121") if flavour == "tensorrt-rtx" else (),
    )  # fmt: skip
    return Plan(Path("charlm.plan"), PlanHeader(flavour, version), sidecar, data)


@pytest.fixture
def bench(card_of, numpy_model, fake_cuda, monkeypatch) -> Callable[..., Bench]:
    """Load an engine on the doubles: ``bench(card, float_type="float16", refuses={"execute"})``."""
    # What a cubin holds, `fake_cuda.load` says: nothing, so that the host makes the noise.
    monkeypatch.setattr(compiler, "compiled", lambda *_: Cubin(b"noise", {}))

    def load(
        card: Card | None = None,
        float_type: str = "float32",
        flavour: str = "tensorrt-rtx",
        *,
        step_by_step: bool = False,
        profiles: list[tuple[int, int, int]] | None = None,
        **how: Any,
    ) -> Bench:
        card = card or card_of()
        plan = make_plan(card, float_type, flavour)
        profiles = profiles or list(plan.sidecar.profiles)
        trt = FakeTensorRT(fake_cuda, card, numpy_model(card), float_type, profiles, flavour, **how)
        library = Library(FLAVOURS[flavour], trt)
        engine = PlanEngine(
            plan, library, Device(fake_cuda, fake_cuda.memory_info), "NVIDIA Test", step_by_step=step_by_step
        )
        return Bench(engine, trt, fake_cuda, plan, library)

    return load
