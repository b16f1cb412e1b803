"""All checks in turn, and their report: written after each, so that nothing that was found is lost."""

from __future__ import annotations

import contextlib
import datetime
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contract.errors import BackendMissing, P2Error
from ..contract.files import keep_aside, locked, make_folder, write_bytes, write_json
from ..render.machine import machine
from ..runtime import nvidia
from ..runtime.installed import packages
from ..version import __version__
from . import check as words
from . import report, schedule
from .check import BAD, Check, Result, result_from
from .isolate import isolated
from .options import Options
from .reading import SCHEMA, load

FOLDER = Path("artifacts/gpu")
Run = Callable[[Check, Path], Result]


def run(
    options: Options,
    folder: Path = FOLDER,
    resume: bool = False,
    say: Callable[[str], None] = print,
    run_check: Run = isolated,
) -> tuple[Path, str]:
    """Run every check that this machine can run.

    A report that was there before is kept in ``<report>.old-N``, unless this one goes on with it.

    Args:
        options: what is asked for.
        folder: where the report and the models go.
        resume: go on with the report that is there: of what is asked for, run what has not passed in it.
        say: told a line about each check.
        run_check: runs one, whatever becomes of it.

    Returns:
        the JSON report's path (its .md lies beside it), and what is wrong, see `problem`.

    Raises:
        BackendMissing: there is no NVIDIA GPU, or nothing here that could run on it.
        UsageError: no check is asked for.
        P2Error: a file cannot be written, or the earlier report cannot be read.
    """
    gpus = nvidia.gpus()
    if not gpus.devices and not options.rehearse:
        raise BackendMissing(
            f"the GPU checks need an NVIDIA GPU: {gpus.problem} here (--rehearse needs none)"
        )
    say("looking for what is installed")
    backends, missing = schedule.available(options.rehearse)
    for title, reason in missing.items():
        say(f"missing: {title}: {reason}")
    if not backends:
        raise BackendMissing(f"nothing here runs on the GPU: {'; '.join(missing.values())}")
    todo = schedule.checks(options, backends)
    name = "rehearsal" if options.rehearse else _slug(gpus.devices[0].name)
    others = nvidia.programs()
    if others:
        say(f"other programs use a GPU, so nothing that is timed counts for much: {len(others)}")
    target = make_folder(folder) / f"{name}.json"
    with locked(folder / ".gpu-check.lock", folder):
        earlier = _earlier(target) if resume and target.exists() else {}
        if not earlier:
            kept = keep_aside(target, target.with_suffix(".md"))
            if kept is not None:
                say(f"the report that was in {target} is kept in {kept}")
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "p2": __version__,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "rehearsal": options.rehearse,
            "machine": machine(),
            "gpus": [vars(gpu) for gpu in gpus.devices],
            "installed": {title: package.version for title, package in packages().items() if package.version},
            "backends": [backend.title for backend in backends],
            "missing": missing,
            "other_programs": None if others is None else len(others),
        }
        results = _run_all(todo, earlier, target, document, say, run_check)
    return target, problem({check.name: results[check.name] for check in todo})


def _run_all(
    todo: Sequence[Check],
    earlier: Mapping[str, Result],
    target: Path,
    document: dict[str, Any],
    say: Callable[[str], None],
    run_check: Run,
) -> dict[str, Result]:
    models = make_folder(target.parent / "models")
    results = dict(earlier)
    for number, check in enumerate(todo, 1):
        kept = results.pop(check.name, None)
        lost = check.kind in ("model", "build") and not (models / check.model).exists()
        good = kept is not None and kept.outcome not in (words.NOT_RUN, *BAD) and not lost
        result = kept if kept and good else _run(check, results, models, run_check)
        results[check.name] = result
        again = " (kept)" if good else f" ({result.seconds:.0f} s)"
        reason = f": {result.reason}" if result.reason else ""
        say(f"{number}/{len(todo)} {check.name}: {result.outcome}{again}{reason}")
        _write(target, document, results)
        if check.kind == "benchmark":  # up to some GiB, which nothing needs any more
            with contextlib.suppress(OSError):
                shutil.rmtree(models / check.model)
    _write(target, document, results)
    return results


def problem(results: Mapping[str, Result]) -> str:
    """What is wrong with the checks together, as a clause; empty if nothing is.

    Where engines were to be checked, one has to have been: their models alone prove nothing.
    """
    if any(result.outcome in BAD for result in results.values()):
        return "something that could run failed"
    asked = [r for r in results.values() if r.check.backend] or list(results.values())
    return (
        ""
        if any(r.outcome in (words.PASSED, words.EXPECTED) for r in asked)
        else "no engine could be checked"
    )


def render(path: Path) -> Path:
    """Write the page of a finished report beside it again; where it is.

    Raises:
        P2Error: the report is missing or damaged.
    """
    return _write_page(path, load(path))


def _run(check: Check, results: Mapping[str, Result], models: Path, run_check: Run) -> Result:
    for name in check.needs:
        needed = results[name]
        if needed.outcome != words.PASSED:
            # A small precision that a builder does not take is no fault of what would have run it.
            return Result(check, words.NOT_RUN, f"it needs {name}, which is {needed.outcome}")
    return run_check(check, models)


def _earlier(target: Path) -> dict[str, Result]:
    """What an earlier report of the same program says."""
    try:
        document = load(target)
    except P2Error as error:
        raise P2Error(f"{error}: run without --resume") from error
    if document["p2"] != __version__:
        raise P2Error(f"{target} was not written by this p2: run without --resume")
    results = [result_from(values) for values in document["checks"]]
    return {result.check.name: result for result in results}


def _write(target: Path, document: dict[str, Any], results: Mapping[str, Result]) -> None:
    whole = document | {
        "outcomes": dict(Counter(result.outcome for result in results.values())),
        "passed": not problem(results),
        "checks": [result.to_dict() for result in results.values()],
    }
    write_json(target, whole)
    _write_page(target, whole)


def _write_page(target: Path, document: dict[str, Any]) -> Path:
    page = target.with_suffix(".md")
    write_bytes(page, report.markdown(document).encode("utf-8", "replace"))
    return page


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
