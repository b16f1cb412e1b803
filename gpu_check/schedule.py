"""Which checks this machine can run, in which order, and what it lacks for the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..bench.contenders import registry
from ..contract.card import CPU_PRECISIONS, PRECISIONS
from ..contract.cells import FORMS
from ..contract.errors import UsageError
from .backends import BACKENDS, SINGLE, Checked, refuses
from .check import REHEARSAL, Check
from .options import Options

MODELS = tuple((form.key, form.reset) for form in FORMS)

RACED = CPU_PRECISIONS

# Seconds. Builders try many kernels; a library that hangs must not hold up the others for long.
MODEL, BUILD, CHECK, SOAK, BENCH = 600.0, 900.0, 300.0, 1200.0, 1800.0


def available(rehearse: bool) -> tuple[list[Checked], dict[str, str]]:
    """The backends that can be tried here, and why the others cannot, by their titles."""
    able, missing = [], {}
    for backend in BACKENDS.values():
        if backend.device != ("cpu" if rehearse else "cuda"):
            continue
        # One that has to refuse this GPU is asked all the same, if it is installed at all.
        reason = backend.missing()
        if reason and not (refuses(backend) and "compute capability" in reason):
            missing[backend.title] = reason
        else:
            able.append(backend)
    return able, missing


def checks(options: Options, backends: Sequence[Checked]) -> list[Check]:
    """Every check, those that others need before them.

    Raises:
        UsageError: `only` names none.
    """
    found = [*_models(options.hidden, MODELS)]
    device = "cpu" if options.rehearse else "cuda"
    if not options.rehearse:
        found.append(Check("noise", CHECK))
    mode = REHEARSAL if options.rehearse else ""
    found.append(Check("updates", CHECK, mode=mode))
    for backend in backends:
        found += _of(backend, options)
    for hidden in options.bench_hidden:
        found += _benchmark(hidden, backends, device)
    found += [
        Check("training", CHECK, cell="lstm", hidden=hidden, mode=mode) for hidden in options.bench_hidden
    ]
    # A benchmark may need a model that is there already, in more precisions.
    unique = {check.name: check for check in reversed(found)}
    unique = {check.name: unique[check.name] for check in found}
    if not options.only:
        return list(unique.values())
    wanted = _named(options.only, unique.values())
    if not wanted:
        kinds = ", ".join(dict.fromkeys(check.kind for check in unique.values()))
        raise UsageError(f"--only {','.join(options.only)} names no check: there are {kinds}")
    for check in reversed(unique.values()):
        if check.name in wanted:
            wanted.update(check.needs)
    return [check for check in unique.values() if check.name in wanted]


def _named(parts: Sequence[str], checks: Iterable[Check]) -> set[str]:
    """The names of the checks that have all words of one of the parts in their name.

    A word that is in none as it stands, such as ``onnx``, may be a part of theirs.
    """
    words = {check.name: {*check.name.split(), check.cell, str(check.hidden)} for check in checks}
    whole = set().union(*words.values())

    def has(name: str, word: str) -> bool:
        return word in words[name] if word in whole else any(word in one for one in words[name])

    return {name for name in words if any(all(has(name, word) for word in part.split()) for part in parts)}


def _models(
    hidden: int, cells: Iterable[tuple[str, str]], precisions: tuple[str, ...] = PRECISIONS
) -> list[Check]:
    return [
        Check("model", MODEL, cell=cell, reset=reset, hidden=hidden, precisions=precisions)
        for cell, reset in cells
    ]


def _of(backend: Checked, options: Options) -> list[Check]:
    """The checks of one backend."""
    found: list[Check] = []
    first = next(iter(backend.modes))
    if refuses(backend):
        refusal = Check("refusal", CHECK, backend.key, "lstm", precision="float32", hidden=options.hidden)
        needs = _needs(refusal, backend, found)
        return [*found, replace(refusal, needs=needs)]
    for cell, reset in MODELS:
        for precision in backend.precisions:
            base = Check("parity", CHECK, backend.key, cell, reset, precision, hidden=options.hidden)
            base = replace(base, needs=_needs(base, backend, found))
            for mode in backend.modes:
                found.append(replace(base, mode=mode))
                if mode == SINGLE:  # one text: what the others look at takes several
                    continue
                if precision == "float32":
                    kinds = ("capture", "snapshot", "batches")
                    found += [replace(base, kind=kind, mode=mode) for kind in kinds]
                if (cell, precision) == ("lstm", "float32"):
                    amount = options.soak_characters
                    found.append(replace(base, kind="soak", timeout=SOAK, mode=mode, amount=amount))
            if cell == "lstm":
                alone = precision == "float32" and backend.command is not None
                more = ("determinism", "together", "interrupt", "start") if alone else ("determinism",)
                found += [replace(base, kind=kind, mode=first) for kind in more]
    return found


def _needs(check: Check, backend: Checked, found: list[Check]) -> tuple[str, ...]:
    """What a check of an engine needs; the build of its plan is put among the checks."""
    model = Check("model", MODEL, cell=check.cell, reset=check.reset, hidden=check.hidden)
    if not backend.flavour:
        return (model.name,)
    build = replace(check, kind="build", timeout=BUILD, mode="", needs=(model.name,))
    found.append(build)
    return (model.name, build.name)


def _benchmark(hidden: int, backends: Sequence[Checked], device: str) -> list[Check]:
    """A race at one width: lstm, of which there is an operator and a module everywhere."""
    found = _models(hidden, [("lstm", "after")], RACED)
    needs = [found[0].name]
    contenders: list[str] = []
    for backend in backends:
        if refuses(backend):
            continue
        for precision in (p for p in RACED if p in backend.precisions):
            contenders += backend.contenders(precision)
            if backend.flavour:
                found.append(
                    Check("build", BUILD, backend.key, "lstm", "after", precision, hidden=hidden,
                          needs=(needs[0],))
                )  # fmt: skip
    race = Check(
        "benchmark",
        BENCH,
        backends[0].key if backends else "",
        "lstm",
        hidden=hidden,
        precisions=RACED,
        contenders=(*dict.fromkeys(contenders), *_peers(device)),
        needs=tuple(needs),
    )
    return [*found, race]


def _peers(device: str) -> list[str]:
    """What else runs such models on the machine, beside p2's engines: a rehearsal makes do with PyTorch."""
    if device == "cpu":
        return ["torch-eager", "torch-cell"]
    return [one.key for one in registry.contenders() if (one.group, one.device) == ("peer", device)]
