"""What the checks of trust did, as JSON and as tables: ``python tests/trust/report.py FILE.json [PAGE.md]``.

With pages, the tables take the place of what stands between two lines ``<!-- counts -->``: all but those that
have a page of their own, where the lines are ``<!-- counts of SECTION -->``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from p2.contract.files import write_bytes, write_json
from p2.render.machine import machine
from p2.version import __version__

ROOT = Path(__file__).resolve().parent.parent.parent
FORMAT = "p2.trust/1"
MARK = re.compile(r"(<!-- counts(?: of (.+?))? -->\n).*?\1", re.DOTALL)
APART = ("Mutants", "Parity")
"""Sections that have a page of their own."""

Row = dict[str, float | str]
Sections = dict[str, dict[str, Row]]
"""Section -> name -> what was counted of it."""


def document(
    sections: Sections,
    *,
    checks: int,
    failed: Sequence[str],
    scale: int,
    minutes: float | None,
    seed: int,
    commit: str,
    started: float,
) -> dict[str, Any]:
    """The report of a run.

    Args:
        sections: what was counted.
        checks: how many ran.
        failed: those that did.
        scale: how many times as much as usual was done.
        minutes: that were shared out, whatever the scale; None: time was not limited.
        seed: of what was drawn.
        commit: what ran; see `commit_here`.
        started: when, in seconds of the epoch.
    """
    return {
        "format": FORMAT,
        "version": __version__,
        "commit": commit,
        "date": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - started, 1),
        "scale": scale,
        "minutes": minutes,
        "seed": seed,
        "machine": machine(),
        "checks": checks,
        "failed": list(failed),
        "sections": {name: sections[name] for name in sorted(sections)},
    }


def markdown(report: dict[str, Any], without: Sequence[str] = ()) -> str:
    """A line about the run, and a table for each section, or without some."""
    box = report["machine"]
    failed = (
        f"{len(report['failed'])} failed: {', '.join(report['failed'])}"
        if report["failed"]
        else "none failed"
    )
    much = f"{report['minutes']:g} minutes given" if report.get("minutes") else f"scale {report['scale']}"
    run = f"commit {report['commit']}, seed {report['seed']}, {much}"
    where = f"{box['processors']} processors of {box['processor']}"
    said = f"{report['checks']} checks, {failed}. {_spoken(report['seconds'])}, {where}"
    lines = [f"{said}, {report['date'][:10]}, {run}."]
    for section, rows in report["sections"].items():
        if section not in without:
            lines += ["", *table(section, rows)]
    return "\n".join(lines) + "\n"


def table(section: str, rows: dict[str, Row]) -> list[str]:
    """The lines of a section's table."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = [
        f"| {section} | {' | '.join(columns)} |",
        f"| {' | '.join(['---'] * (len(columns) + 1))} |",
    ]
    lines += [_line(name, [row.get(key) for key in columns]) for name, row in sorted(rows.items())]
    whole = {key: [row[key] for row in rows.values() if key in row] for key in columns}
    added = [
        sum(values) if all(isinstance(value, int) for value in values) else None for values in whole.values()
    ]
    if len(rows) > 1 and any(total is not None for total in added):
        lines.append(_line("**all**", added))
    return lines


def write(report: dict[str, Any], path: Path) -> None:
    """Write a report and, beside it, its tables."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, report)
    write_bytes(path.with_suffix(".md"), markdown(report).encode())


def placed(page: str, report: dict[str, Any]) -> str:
    """A page with the tables of a report between its marks."""

    def between(found: re.Match[str]) -> str:
        mark, section = found.groups()
        if section is None:
            told = markdown(report, APART)
        elif section in report["sections"]:
            rows = report["sections"][section]
            run = f"{len(rows)} rows, {report['date'][:10]}, commit {report['commit']}."
            told = "\n".join([run, "", *table(section, rows)]) + "\n"
        else:
            return found.group()  # this run did nothing of it
        return f"{mark}{told}{mark}"

    assert MARK.search(page)
    return MARK.sub(between, page)


def _line(name: str, values: Sequence[float | str | None]) -> str:
    return f"| {name} | {' | '.join(map(cell, values))} |"


def cell(value: float | str | None) -> str:
    """A value as a table shows it."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else (value or "")


def _spoken(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.1f} minutes"


def commit_here() -> str:
    """The commit that is checked out, "-dirty" where files differ from it; a run's own report is one."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"


if __name__ == "__main__":
    _given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for _page in map(Path, sys.argv[2:]):
        write_bytes(_page, placed(_page.read_text(encoding="utf-8"), _given).encode())
    print(markdown(_given), end="")
