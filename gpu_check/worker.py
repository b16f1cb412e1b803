"""One check in a process of its own: ``python -m p2.gpu_check.worker FOLDER``.

Reads the check as JSON from standard input and writes what came of it as the last line of standard
output. What libraries print goes to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..bench.process import take_stdout
from ..contract.errors import BackendMissing, BuilderRefused, P2Error
from ..contract.precisions import TABLE
from . import check as words
from .check import REHEARSAL, Check, CheckFailed, Result, check_from


def _engine_check(function: str) -> Callable[[Check, Path], dict[str, Any]]:
    def run(check: Check, folder: Path) -> dict[str, Any]:
        from . import engine_checks
        from .backends import BACKENDS
        from .models import Files

        files = Files(folder / check.model)
        backend = BACKENDS[check.backend]
        found: dict[str, Any] = getattr(engine_checks, function)(
            lambda: backend.modes[check.mode](files, check.precision), files.reference()
        )
        return found

    return run


def _determinism(check: Check, folder: Path) -> dict[str, Any]:
    from ..runtime.opening import open_step_engine
    from .backends import BACKENDS
    from .engine_checks import determinism
    from .models import Files

    files, backend = Files(folder / check.model), BACKENDS[check.backend]
    exact = backend.exact and TABLE[check.precision].integers
    return determinism(
        lambda: backend.modes[check.mode](files, check.precision),
        files.reference(),
        (lambda: open_step_engine(files.step(check.precision))) if exact else None,
    )


def _process_check(function: str) -> Callable[[Check, Path], dict[str, Any]]:
    def run(check: Check, folder: Path) -> dict[str, Any]:
        from . import processes
        from .backends import BACKENDS
        from .models import Files

        files, backend = Files(folder / check.model), BACKENDS[check.backend]
        assert backend.command is not None, "none is planned for it"
        engine = backend.command(files, check.precision)
        if function == "start":
            return processes.start(engine)
        if function == "together":
            return processes.together(engine, files.reference())
        opener = backend.modes[check.mode]
        return processes.interrupt(engine, lambda: opener(files, check.precision), files.reference())

    return run


def _soak(check: Check, folder: Path) -> dict[str, Any]:
    from .backends import BACKENDS
    from .models import Files
    from .soak import soak

    files, backend = Files(folder / check.model), BACKENDS[check.backend]
    return soak(lambda: backend.modes[check.mode](files, check.precision), files.reference(), check.amount)


def _model(check: Check, folder: Path) -> dict[str, Any]:
    from .models import Files, card_of, make

    card = card_of(check.cell, check.reset, check.hidden)
    return make(Files(folder / check.model), card, check.precisions)


def _build(check: Check, folder: Path) -> dict[str, Any]:
    from .models import Files, build

    return build(Files(folder / check.model), check.backend, check.precision)


def _refusal(check: Check, folder: Path) -> dict[str, Any]:
    """The library must say that it does not support this GPU, instead of ending the process."""
    from .backends import BACKENDS
    from .models import Files

    mode = next(iter(BACKENDS[check.backend].modes.values()))
    try:
        mode(Files(folder / check.model), check.precision).close()
    except P2Error as error:
        return {"sentence": str(error)}
    raise CheckFailed("it runs on this GPU, which is not among those that it is known to support")


def _noise(_check: Check, _folder: Path) -> dict[str, Any]:
    from .noise import noise

    return noise()


def _training(check: Check, _folder: Path) -> dict[str, Any]:
    from .training import rates

    return rates(check.hidden, _device(check))


def _updates(check: Check, _folder: Path) -> dict[str, Any]:
    from .training import updates

    return updates(_device(check))


def _device(check: Check) -> str:
    return "cpu" if check.mode == REHEARSAL else "cuda"


def _bench(check: Check, folder: Path) -> dict[str, Any]:
    from .backends import BACKENDS
    from .benchmark import bench
    from .models import Files, card_of

    device = BACKENDS[check.backend].device
    card = card_of(check.cell, check.reset, check.hidden)
    return bench(Files(folder / check.model), card, check.contenders, check.precisions, device)


KINDS: dict[str, Callable[[Check, Path], dict[str, Any]]] = {
    "model": _model,
    "build": _build,
    "parity": _engine_check("parity"),
    "capture": _engine_check("capture"),
    "snapshot": _engine_check("snapshot"),
    "batches": _engine_check("batches"),
    "soak": _soak,
    "determinism": _determinism,
    "together": _process_check("together"),
    "interrupt": _process_check("interrupt"),
    "start": _process_check("start"),
    "noise": _noise,
    "updates": _updates,
    "training": _training,
    "refusal": _refusal,
    "benchmark": _bench,
}


def run(check: Check, folder: Path) -> Result:
    """Run a check here and say what came of it; only a fault of this program raises."""
    try:
        details = KINDS[check.kind](check, folder)
    except CheckFailed as error:
        return Result(check, words.FAILED, str(error), details=error.details)
    except BackendMissing as error:
        return Result(check, words.NOT_RUN, str(error))
    except BuilderRefused as error:
        small = check.precision not in ("", "float32")
        return Result(check, words.REFUSED if small else words.FAILED, str(error))
    except P2Error as error:
        return Result(check, words.FAILED, str(error))
    except MemoryError:
        return Result(check, words.FAILED, "there is not enough memory for it")
    if check.kind == "refusal":
        return Result(check, words.EXPECTED, details["sentence"], details=details)
    return Result(check, words.PASSED, details=details)


def main() -> None:
    """Take standard output away from everything else in this process, then run the check."""
    check = check_from(json.load(sys.stdin))
    with take_stdout() as reply:
        print(json.dumps(run(check, Path(sys.argv[1])).to_dict()), file=reply)


if __name__ == "__main__":
    main()
