"""The GPU checks' JSON as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..bench import gpu_targets
from ..bench.markdown import target_table
from ..render import markdown as pieces
from . import check as words

# What the table of an engine shows of each kind of check.
_COLUMNS = (
    "parity", "capture", "snapshot", "batches", "soak", "determinism", "together", "interrupt", "start",
    "refusal",
)  # fmt: skip


def markdown(document: dict[str, Any]) -> str:
    """The page."""
    checks = document["checks"]
    others = document.get("other_programs")
    machine = document["machine"]
    gpus = "; ".join(
        f"{gpu['name']}, compute capability {gpu['capability'][0]}.{gpu['capability'][1]},"
        f" {gpu['memory'] / 2**30:.0f} GiB"
        for gpu in document["gpus"]
    )
    title = "Rehearsal of the GPU checks, on the processor" if document["rehearsal"] else "GPU checks"
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(document["outcomes"].items()))
    if document["passed"]:
        verdict = "Nothing that could run went wrong"
    elif any(check["outcome"] in words.BAD for check in checks):
        verdict = "**Something is wrong**"
    else:
        verdict = "**No engine could be checked**"
    parts = [
        f"# {title}",
        f"{verdict}: {outcomes}.",
        _table(
            ("", ""),
            [
                ("GPU", gpus or "none"),
                ("driver", machine["gpu_driver"] or "none"),
                ("processor", f"{machine['processor']}, {machine['processors']} usable"),
                ("p2", f"{document['p2']}, Python {machine['python']}, {document['created']}"),
                ("installed", ", ".join(f"{n} {v}" for n, v in document["installed"].items())),
                ("can run here", "; ".join(document["backends"])),
                *([("other programs on the GPU", str(others))] if others else ()),
            ],
        ),
        _list("Missing here", (f"{name}: {reason}" for name, reason in document["missing"].items())),
        _list(
            "What went wrong, or did not run",
            (
                f"{check['name']}: {check['outcome']}: {check['reason']}"
                for check in checks
                if check["outcome"] not in (words.PASSED, words.EXPECTED)
            ),
        ),
        _engines(checks),
        _soaks(checks),
        _noise(checks),
        _first_characters(checks, judged=not document["rehearsal"]),
        *(_training(check) for check in checks if check["check"]["kind"] == "training" and check["details"]),
        *(_race(check) for check in checks if check["check"]["kind"] == "benchmark" and check["details"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _engines(checks: list[dict[str, Any]]) -> str:
    """A row for each engine: what each check of it said."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for result in checks:
        check = result["check"]
        if check["kind"] not in _COLUMNS:
            continue
        reset = "" if check["reset"] == "after" else f", reset {check['reset']}"
        key = (check["backend"], check["cell"] + reset, check["precision"], check["mode"])
        said = result["outcome"]
        if check["kind"] == "parity" and "forced" in result["details"]:
            said += f", {result['details']['forced']['relative']:.0e}"
        rows.setdefault(key, {})[check["kind"]] = said
    if not rows:
        return ""
    shown = [kind for kind in _COLUMNS if any(kind in row for row in rows.values())]
    body = [(*key, *(row.get(kind, "") for kind in shown)) for key, row in rows.items()]
    note = (
        "With parity: the relative logit error over 1,000 recurrent steps against eager PyTorch in float32."
    )
    heads = ("engine", "cell", "precision", "launches", *shown)
    return f"## Engines\n\n{note}\n\n{_table(heads, body)}"


def _soaks(checks: list[dict[str, Any]]) -> str:
    rows = [
        (
            check["name"].removeprefix("soak "),
            f"{found['characters']:,}",
            f"{found['characters_per_second']:,.0f}",
            _mib(found["host_growth_bytes"]),
            _mib(found["device_growth_bytes"]),
            "not told" if (others := found.get("other_programs")) is None else str(others),
        )
        for check in checks
        if check["check"]["kind"] == "soak" and (found := check["details"])
    ]
    heads = (
        "engine", "characters", "per second", "host memory grew by", "GPU memory grew by",
        "other programs on the GPU",
    )  # fmt: skip
    return f"## Writing for a long time\n\n{_table(heads, rows)}" if rows else ""


def _noise(checks: list[dict[str, Any]]) -> str:
    found = next((c["details"] for c in checks if c["check"]["kind"] == "noise" and c["details"]), None)
    if found is None:
        return ""
    return (
        f"## Noise\n\nThe GPU made {found['numbers']:,} numbers, {found['numbers_per_second']:,.0f} a second;"
        f" {found['different']:,} of them differ from numpy's."
    )


def _first_characters(checks: list[dict[str, Any]], *, judged: bool) -> str:
    """How long a person waits, and whether p2's quickest way keeps the promise."""
    found = [c for c in checks if c["check"]["kind"] == "start" and c["details"]]
    if not found:
        return ""
    rows = [
        (c["check"]["backend"], f"{c['details']['first_s']:.2f} s", f"{c['details']['warm_s']:.2f} s")
        for c in found
    ]
    table = _table(("engine", "first time", "caches warm"), rows)
    best = min(found, key=lambda c: c["details"]["warm_s"])
    target = gpu_targets.first_character(best["details"]["warm_s"], best["check"]["backend"])
    parts = ("## First character, from the shell", table, target_table([target]) if judged else "")
    return "\n\n".join(filter(None, parts))


def _training(check: dict[str, Any]) -> str:
    """How fast one width is trained."""
    found = check["details"]
    rows = [
        (
            loop["title"],
            *(
                (f"not run: {loop['problem']}", "", "")
                if loop["seconds_per_update"] is None
                else (
                    f"{1e3 * loop['seconds_per_update']:,.2f}",
                    f"{loop['characters_per_second']:,.0f}",
                    f"{loop['tflops']:,.1f}",
                )
            ),
        )
        for loop in found["loops"]
    ]
    heads = ("loop", "ms per update", "characters per second", "TFLOP/s")
    parts = (
        f"## Training, hidden {check['check']['hidden']:,}",
        f"{found['model']}, {found['batch_size']} windows of {found['seq_len']} an update,"
        f" {found['precision']}. Operations are those of the products with weights.",
        _table(heads, rows),
        target_table(found["targets"]) if found["targets"] else "",
    )
    return "\n\n".join(filter(None, parts))


def _race(check: dict[str, Any]) -> str:
    """The figures of one width."""
    details = check["details"]
    rates = [found["bytes_per_second"] for found in details["copies"] if "bytes_per_second" in found]
    copied = f"{max(rates) / 1e9:,.0f} GB/s" if rates else details["copies"][0]["problem"]
    targets = details.get("targets") or []
    sizes = sorted({p["batch"] for entry in details["entries"] for p in entry["batches"] if p["batch"] > 1})
    rows = []
    for entry in details["entries"]:
        speed, latency, prompt = entry["characters_per_second"], entry["latency"], entry["prompt"]
        if speed is None:
            reason = f"not run: {entry['skipped']}"
            rows.append((entry["title"], entry["precision"], reason, *[""] * (5 + len(sizes))))
            continue
        share, read = entry["bandwidth_share"], entry["bytes_per_step"]
        batches = {point["batch"]: f"{point['characters_per_second']:,.0f}" for point in entry["batches"]}
        rows.append(
            (
                entry["title"],
                entry["precision"],
                f"{1e6 / speed['median']:,.1f}",
                f"{speed['median']:,.0f}",
                f"{latency['p99_us']:,.1f}" if latency else "",
                f"{prompt['characters_per_second']:,.0f}" if prompt else "",
                *(batches.get(batch, "") for batch in sizes),
                f"{read:,}" if read else "",
                f"{share:.0%}" if share is not None else "",
            )
        )
    heads = (
        "LSTM, 2 layers", "weights", "µs per character", "characters per second", "p99, µs",
        "prompt, characters per second", *(f"{batch} texts, characters per second" for batch in sizes),
        "bytes per character", "weights read, share of the copy rate",
    )  # fmt: skip
    notes = _list("", details["notes"])
    table = _table(heads, rows)
    return "\n\n".join(
        part
        for part in (
            f"## Hidden {check['check']['hidden']:,}",
            f"Copying its own memory, bytes read and written: {_plain(copied)}.",
            table,
            target_table(targets) if targets else "",
            notes,
        )
        if part
    )


def _mib(nbytes: float | None) -> str:
    return "not measured" if nbytes is None else f"{nbytes / 2**20:+.1f} MiB"


def _list(title: str, lines: Iterable[str]) -> str:
    items = pieces.bullets(list(lines), _plain)
    head = f"## {title}\n\n" if title else ""
    return f"{head}{items}" if items else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return pieces.table(heads, rows, len(heads), _plain)


def _plain(text: str) -> str:
    """Text that ends neither a line nor a cell, and is no markup."""
    line = " ".join(text.split())
    return line.replace("|", "\\|").replace("<", "&lt;")
