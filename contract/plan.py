"""The plan container: a TensorRT engine as the builder wrote it, and a JSON sidecar beside it.

``charlm.plan`` stays a raw engine, so that trtexec and Triton load it as it is (anything in front of
the engine's own header breaks both). What p2 has to know about it, the model card first of all, is
in ``charlm.plan.json``. The engine's header names its library and version in the first 28 bytes:
enough to refuse a plan that cannot run here before any library is asked to load it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from . import files
from .card import Card
from .choice import FILTER_COLUMNS, FILTERS, NEXT, NOISE
from .documents import check, read_sealed, write_sealed
from .errors import ContractError
from .layers import Layer
from .schema import Count, Natural, Within, shown

SIDECAR_VERSION = 2  # version 1 had no checksum of its own

# The states' type, and TensorRT's name for it.
FLOAT_TYPES = {"float32": "FLOAT", "float16": "HALF"}

# What a TensorRT-RTX plan runs on unless it was built for something else: the library's own default.
RTX_CAPABILITIES = ((8, 0), (8, 6), (8, 9), (12, 0), (12, 1))


def runs_on(flavour: Flavour, capability: tuple[int, int]) -> bool:
    """Whether a library runs its plans on GPUs of this compute capability (major, minor)."""
    return flavour != TENSORRT_RTX or capability in RTX_CAPABILITIES


# Compute capabilities by bit of the mask that TensorRT-RTX 1.7 writes into a plan's header (found by building
# for one after the other; the next release may do otherwise).
_TARGETS = {0: "sm75", 1: "sm80", 2: "sm86", 3: "sm89", 4: "sm120", 5: "sm121"}
_TARGETS_VERSION = (1, 7)
_TARGETS_AT = 32

Profile = tuple[int, int, int]

_HEADER_BYTES = 28
_VERSION_AT = 24
_AGAIN = "run `p2 export` again"


@dataclass(frozen=True)
class Flavour:
    """One of the two TensorRT libraries; their plans are not interchangeable.

    Attributes:
        name: the pip package, and the word for `p2 export --engine`.
        title: how a person calls it.
        magic: first four bytes of its plans.
        module: the Python module.
        extra: the p2 extra that brings it.
    """

    name: str
    title: str
    magic: bytes
    module: str
    extra: str


TENSORRT = Flavour("tensorrt", "TensorRT", b"ftrt", "tensorrt", "gpu")
TENSORRT_RTX = Flavour("tensorrt-rtx", "TensorRT-RTX", b"vtrt", "tensorrt_rtx", "rtx")
FLAVOURS = {flavour.name: flavour for flavour in (TENSORRT, TENSORRT_RTX)}


@dataclass(frozen=True)
class PlanHeader:
    """What a plan says about itself.

    Attributes:
        flavour: ``tensorrt`` or ``tensorrt-rtx``.
        version: of the library that built it, ``major.minor.patch.build``; only the same version
            runs it.
        targets: compute capabilities it was built for (``sm89``), where the header tells.
    """

    flavour: str
    version: str
    targets: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return f"{FLAVOURS[self.flavour].title} {self.version}"


def same_version(one: str, other: str) -> bool:
    """Whether two versions agree in all the numbers that both have (``10.0.0b6`` is 10.0.0.6)."""
    numbers = [re.findall(r"\d+", version)[:4] for version in (one, other)]
    return all(int(a) == int(b) for a, b in zip(*numbers, strict=False))


def is_later(one: str, other: str) -> bool:
    """Whether version `one` is of the same major version as `other`, and later."""
    mine, built = (tuple(map(int, re.findall(r"\d+", version)[:4])) for version in (one, other))
    return mine[0] == built[0] and mine > built


def read_header(path: Path) -> PlanHeader:
    """Read the header of a plan.

    Raises:
        ContractError: the file is not a plan.
        P2Error: it cannot be read.
    """
    with files.reading(path), path.open("rb") as file:
        return parse_header(file.read(64), path)


def parse_header(data: bytes, path: Path) -> PlanHeader:
    """The header in the first bytes of a plan: a magic word, and the version in bytes 24 to 27.

    Args:
        data: at least the first 28 bytes of the file.
        path: where they come from, for the error message.

    Raises:
        ContractError: these bytes do not begin a plan.
    """
    flavours = {flavour.magic: flavour.name for flavour in FLAVOURS.values()}
    name = flavours.get(data[:4])
    if name is None:
        beginning = f"it begins with {data[:4]!r}" if data else "it is empty"
        raise ContractError(f"{path} is not a TensorRT plan: {beginning}; {_AGAIN}")
    if len(data) < _HEADER_BYTES:
        raise ContractError(f"{path} is cut off: only {len(data)} bytes are left of it; {_AGAIN}")
    version = ".".join(str(byte) for byte in data[_VERSION_AT:_HEADER_BYTES])
    return PlanHeader(name, version, _targets(name, data))


def _targets(flavour: str, data: bytes) -> tuple[str, ...]:
    known = flavour == TENSORRT_RTX.name and tuple(data[_VERSION_AT : _VERSION_AT + 2]) == _TARGETS_VERSION
    if not known or len(data) < _TARGETS_AT + 4:
        return ()
    mask = int.from_bytes(data[_TARGETS_AT : _TARGETS_AT + 4], "little")
    return tuple(name for bit, name in _TARGETS.items() if mask >> bit & 1)


@dataclass(frozen=True)
class Sidecar:
    """What p2 knows about a plan.

    Attributes:
        card: the model.
        flavour: ``tensorrt`` or ``tensorrt-rtx``.
        version: of the library that built the plan.
        onnx_sha256: SHA-256 of the ONNX file that was compiled. (Two builds of one file differ in
            their bytes, so this is what says that two plans hold the same model.)
        plan_sha256: SHA-256 of the plan.
        plan_bytes: size of the plan.
        float_type: type of the states, ``float32`` or ``float16``.
        profiles: smallest, usual and largest batch of each optimization profile.
        settings: what the builder was told.
        built: when, ISO 8601 in UTC.
        targets: compute capabilities that the plan was built for (``sm89``); none says: for the GPU of the
            machine that built it.
        layers: what the builder's log lists, profile after profile; empty if it listed nothing.
    """

    card: Card
    flavour: str
    version: str
    onnx_sha256: str
    plan_sha256: str
    plan_bytes: int
    float_type: str
    profiles: tuple[Profile, ...]
    settings: dict[str, Any]
    built: str
    targets: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = ()

    @property
    def kernels(self) -> int:
        """Kernels of one step at batch 1, the first profile; 0 where the builder listed no layers."""
        return sum(layer.is_kernel and layer.profile == 0 for layer in self.layers)

    @property
    def version_compatible(self) -> bool:
        """Whether later versions of the library run the plan as well."""
        return bool(self.settings.get("version_compatible"))

    @property
    def header(self) -> PlanHeader:
        """The header that the plan must have."""
        return PlanHeader(self.flavour, self.version, self.targets)

    def check(self, path: Path, size: int, sha256: str) -> None:
        """Make sure that this sidecar describes the plan at `path`.

        Args:
            path: the plan, for the error message.
            size: its bytes.
            sha256: their SHA-256.

        Raises:
            ContractError: the plan is cut off, or is not the one that the sidecar describes.
        """
        if size < self.plan_bytes:
            raise ContractError(
                f"{path} is cut off: it has {size} bytes and {sidecar_path(path).name} says"
                f" {self.plan_bytes}; copy it again, or {_AGAIN}"
            )
        if sha256 != self.plan_sha256:
            raise ContractError(
                f"{path} is not the plan that {sidecar_path(path).name} describes (one of them was replaced"
                f" or damaged): copy both again, or {_AGAIN}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The sidecar as plain JSON values."""
        profiles = [dict(zip(("min", "opt", "max"), profile, strict=True)) for profile in self.profiles]
        return {"sidecar_version": SIDECAR_VERSION} | asdict(self) | {"profiles": profiles}

    @classmethod
    def from_dict(cls, data: Any, where: str) -> Sidecar:
        """Read a sidecar from JSON values.

        Raises:
            ContractError: a field is missing or wrong.
        """
        check(data, _Written, where)
        if not re.fullmatch(r"[0-9][0-9A-Za-z.+-]{0,60}", data["version"]):
            raise ContractError(f"{where} is damaged: version {shown(data['version'])} is none of a library")
        profiles = tuple((p["min"], p["opt"], p["max"]) for p in data["profiles"])
        if any(not low <= usual <= high for low, usual, high in profiles):
            raise ContractError(f"{where} is damaged: a profile's batches do not ascend")
        return cls(
            card=Card.from_dict(data["card"], where),
            plan_bytes=data["plan_bytes"],
            profiles=profiles,
            settings=data["settings"],
            targets=tuple(data.get("targets", ())),
            layers=tuple(
                Layer(one["name"], one["kind"], tuple(one["operators"])) for one in data.get("layers", ())
            ),
            **{name: data[name] for name in _TEXTS},
        )


_TEXTS = ("flavour", "version", "onnx_sha256", "plan_sha256", "float_type", "built")


class _Profile(TypedDict):
    min: Natural
    opt: Natural
    max: Natural


class _Layer(TypedDict):
    name: str
    kind: str
    operators: list[str]


class _Written(TypedDict):
    """What `Sidecar.to_dict` gives."""

    card: dict[str, Any]
    flavour: Literal["tensorrt", "tensorrt-rtx"]
    version: str
    onnx_sha256: str
    plan_sha256: str
    plan_bytes: Count
    float_type: Literal["float32", "float16"]
    profiles: Annotated[list[_Profile], Within(1)]
    settings: dict[str, Any]
    built: str
    targets: NotRequired[list[Annotated[str, Within(1)]]]
    layers: NotRequired[list[_Layer]]


def contract_breach(card: Card, float_type: str, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> str:
    """The name of a tensor that breaks the step contract, or the empty string.

    A plan may also choose the next character (`contract.choice`): then it has ``noise``, ``filters`` and
    ``next`` as well, all three. TensorRT before 10 has no 64-bit integers: there ``token`` and ``next`` are
    int32, both.

    Args:
        card: the model.
        float_type: type of its states, a key of `FLOAT_TYPES`.
        tensors: by name, the type as TensorRT calls it and the shape without the batch.
    """
    state = (FLOAT_TYPES[float_type], (card.hidden,))
    integer = "INT32" if tensors.get("token", ("",))[0] == "INT32" else "INT64"
    choice: dict[str, tuple[str, tuple[int, ...]]] = {
        NOISE: ("FLOAT", (card.vocab,)),
        FILTERS: ("FLOAT", (len(FILTER_COLUMNS),)),
        NEXT: (integer, ()),
    }
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "token": (integer, ()),
        "logits": ("FLOAT", (card.vocab,)),
    }
    for name in card.state_names:
        expected[f"{name}_in"] = expected[f"{name}_out"] = state
    if NEXT in tensors:
        expected |= choice
    return min((name for name in tensors | expected if tensors.get(name) != expected.get(name)), default="")


def sidecar_path(plan: Path) -> Path:
    """Where the sidecar of a plan is: ``charlm.plan`` -> ``charlm.plan.json``."""
    return plan.with_name(f"{plan.name}.json")


def write_sidecar(plan: Path, sidecar: Sidecar, ready: Callable[[Path], object] = lambda _: None) -> None:
    """Write the sidecar of the plan at `plan`, whole or not at all; `ready` as for `files.write_atomically`.

    Raises:
        P2Error: the file system refused.
    """
    write_sealed(sidecar_path(plan), sidecar.to_dict(), ready)


def read_sidecar(plan: Path) -> Sidecar:
    """Read the sidecar of the plan at `plan`.

    Raises:
        ContractError: it is missing or damaged.
        P2Error: it cannot be read.
    """
    path = sidecar_path(plan)
    if not path.exists():
        raise ContractError(
            f"{path} is missing, and without it nobody knows which model {plan.name} holds: copy it"
            f" beside the plan, or {_AGAIN}"
        )
    try:
        return Sidecar.from_dict(read_sealed(path, "sidecar_version", SIDECAR_VERSION, 1), str(path))
    except ContractError as error:
        raise ContractError(f"{error}; {_AGAIN}") from error
