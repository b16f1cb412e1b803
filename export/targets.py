"""What a plan is built for besides its batches, and which library can do that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..contract.card import Card
from ..contract.errors import BuilderRefused, UsageError
from ..contract.plan import RTX_CAPABILITIES, TENSORRT, Flavour
from ..runtime.nvidia import Gpu, Library

FLOAT8_CAPABILITY = (8, 9)

_INSTEAD = "float8 needs compute capability 8.9 or more"


@dataclass(frozen=True)
class Options:
    """Options of one library or the other.

    Attributes:
        targets: compute capabilities, ``("sm89", "sm120")``: TensorRT-RTX only. None: portable.
        version_compatible: later TensorRT versions run the plan as well: TensorRT only.
        hardware_compatible: every GPU from compute capability 8.0 up runs it: TensorRT only.
    """

    targets: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware_compatible: bool = False

    def check(self, flavour: Flavour) -> None:
        """Refuse what a library does not have.

        Raises:
            UsageError: an option is for the other library.
        """
        if flavour == TENSORRT:
            if self.targets:
                raise UsageError(
                    "--target is for TensorRT-RTX: TensorRT builds for the GPU of this machine,"
                    " or with --hardware-compatible for every one from compute capability 8.0 up"
                )
            return
        if self.version_compatible:
            raise UsageError(
                "--version-compatible is for TensorRT: a plan of TensorRT-RTX runs on one version only"
            )
        if self.hardware_compatible:
            raise UsageError(
                "--hardware-compatible is for TensorRT: a plan of TensorRT-RTX runs on several generations"
                " of GPU anyway, and --target names them"
            )


PORTABLE = Options()


def parse_targets(text: str) -> tuple[str, ...]:
    """``sm89,sm120`` as names; ``portable`` is none.

    Raises:
        UsageError: it is something else.
    """
    if text == "portable":
        return ()
    names = tuple(part.strip().lower() for part in text.split(","))
    well_formed = all(name.startswith("sm") and name[2:].isdecimal() for name in names)
    if not well_formed or len(set(names)) < len(names):
        raise UsageError(f"--target takes compute capabilities such as sm89,sm120, or portable, not {text!r}")
    return names


def rtx_targets(library: Library, path: Path, card: Card, options: Options) -> tuple[str, ...]:
    """The compute capabilities that TensorRT-RTX is to build for.

    Raises:
        UsageError: it does not build for one of them.
        BuilderRefused: the graph at `path` cannot run on one of them.
    """
    needs_float8 = card.precision == "float8"
    if not options.targets:
        portable = (one for one in RTX_CAPABILITIES if one >= FLOAT8_CAPABILITY or not needs_float8)
        return tuple(f"sm{major}{minor}" for major, minor in portable)
    known = [name.lower() for name in library.trt.ComputeCapability.__members__ if name.startswith("SM")]
    for name in options.targets:
        if name not in known:
            raise UsageError(f"{library} does not build for {name}: --target takes {', '.join(known)}")
        if needs_float8 and int(name[2:]) < 89:
            raise BuilderRefused(
                f"{path} cannot become a plan for {name}: {_INSTEAD};"
                " leave that target out, or export with --precision int8 or float16"
            )
    return options.targets


def check_float8(path: Path, card: Card, gpu: Gpu) -> None:
    """Make sure that the GPU TensorRT builds on has the card's number format.

    Raises:
        BuilderRefused: it has no float8.
    """
    if card.precision == "float8" and gpu.capability < FLOAT8_CAPABILITY:
        major, minor = gpu.capability
        raise BuilderRefused(
            f"{path} cannot become a plan: {_INSTEAD}, and the {gpu.name} has {major}.{minor};"
            " export with --precision int8 or float16"
        )
