"""The tables of a report: a section a table, a name a row, whole numbers added up, failures named."""

from __future__ import annotations

from . import report
from .conftest import add


def test_tables():
    sections: report.Sections = {}
    for said in (
        ("Kills", "train", {"killed": 20, "slowest": 1.0}),
        ("Kills", "train", {"killed": 1040, "slowest": 2.5}),
        ("Kills", "export", {"killed": 15, "by": "SIGTERM"}),
        ("Faults", "full disk", {"tried": 3}),
    ):
        add(sections, *said)
    told = report.document(
        sections, checks=4, failed=["x::test_y"], scale=50, minutes=None, seed=7, commit="abc", started=0.0
    )
    tables = report.markdown(told)
    assert tables.startswith("4 checks, 1 failed: x::test_y. ")
    assert "1970-01-01" in tables
    assert "seed 7, scale 50.\n\n| Faults |" in tables
    assert "| Faults | tried |\n| --- | --- |\n| full disk | 3 |\n\n" in tables
    assert tables.endswith(
        "| Kills | killed | slowest | by |\n| --- | --- | --- | --- |\n"
        "| export | 15 |  | SIGTERM |\n| train | 1,060 | 2.5 |  |\n| **all** | 1,075 |  |  |\n"
    )
    mark, own = "<!-- counts -->\n", "<!-- counts of Mutants -->\n"
    page = report.placed(f"# Trust\n\n{mark}old\n{mark}\n{own}kept\n{own}End.\n", told)
    assert page == f"# Trust\n\n{mark}{tables}{mark}\n{own}kept\n{own}End.\n"


def test_a_section_with_a_page_of_its_own_stands_there_only():
    sections: report.Sections = {"Mutants": {"a": {"where": "x.c"}, "b": {"where": "y.c"}}}
    told = report.document(
        sections, checks=2, failed=[], scale=1, minutes=70, seed=0, commit="abc", started=0.0
    )
    assert "| a | x.c |" in report.markdown(told)
    mark, own = "<!-- counts -->\n", "<!-- counts of Mutants -->\n"
    page = report.placed(f"{mark}{mark}{own}{own}", told)
    tables, mutants = page.removeprefix(mark).split(mark)
    assert "70 minutes given" in tables
    assert "| a |" not in tables
    assert mutants.startswith(f"{own}2 rows, 1970-01-01, commit abc.")
    assert mutants.endswith(f"| Mutants | where |\n| --- | --- |\n| a | x.c |\n| b | y.c |\n{own}")
