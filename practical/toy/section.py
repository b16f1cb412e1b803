"""The toy problem on the page, from its document alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...contract.errors import ContractError
from ...render.html.parts import paragraph
from ..document import Document, Section
from ..page_parts import figure, table
from .results import is_core
from .settings import NAMES

_SAMPLES = {
    "rejection": "documented",
    "balanced": "balanced",
    "near-miss": "near-miss",
}


def sections(document: Document, folder: Path) -> list[Section]:
    """The parts of the page: the documented setting, the balanced control, long sequences.

    Args:
        document: as `shown.read` gives it.
        folder: where its figures are.

    Raises:
        ContractError: it is damaged.
        P2Error: a figure is missing.
    """
    results = document["results"]
    groups = results["groups"]
    if any(len(g["converged"]) != len(g["updates_done"]) for g in groups):
        where = folder / "baum-sweet.json"
        raise ContractError(f"{where} is damaged: a group's converged and updates_done differ in length")
    pictures = {one["file"]: figure(one, folder) for one in document["figures"]}

    def shown(*names: str) -> str:
        return "".join(pictures.get(f"baum-sweet-{name}.svg", "") for name in names)

    core = [g for g in groups if is_core(g, results)]
    control = [g for g in groups if g["sampling"] != "rejection" and g["magnitude"] <= 6]
    long = [g for g in groups if g["magnitude"] > 6]
    other = [g for g in groups if g["magnitude"] <= 6 and g["sampling"] == "rejection" and g not in core]
    parts = [
        Section(
            title="The toy problem: is a number a Baum-Sweet number?",
            html=_setting(document)
            + _data(results["data"])
            + shown("lstm", "gru", "gru-before", "rnn")
            + _trained(core),
        ),
        Section(
            title="The plateaus, and the classes balanced",
            html=paragraph(
                "Before a model reads a digit it can learn how common the classes are, and its loss is then"
                " the entropy of that share. The documented rejection rate makes the share, and so the"
                " plateau, depend on T; with the classes balanced nothing of that is left. In the balanced"
                " trainings a tenth of the integers is never drawn, of both classes, and tested at the end."
            )
            + shown("entropy", "balanced")
            + (_trained(control) if control else ""),
        ),
    ]
    if long:
        parts.append(
            Section(
                title="Much longer sequences",
                html=paragraph(
                    "With the documented samples a long sequence is no task: nearly all are of class 0 (see"
                    " the majority in the first table). Balanced: the class by a fair coin, then uniform"
                    " within the class. Most long numbers of class 0 hold a single zero somewhere, which is"
                    " enough to tell. Near-miss: class 0 has exactly one odd block and the lengths of class"
                    " 1, so that every block counts."
                )
                + shown("long")
                + _trained(long),
            )
        )
    parts.append(
        Section(
            title="What moves convergence",
            html=paragraph(
                "The initial weights are not in the report. The default, a Kaiming fan counted over a"
                " product's outputs, is what a weight stored as [inputs, outputs] gets; trainings with the"
                " textbook's fan, and with a wider embedding, stand beside it."
            )
            + shown("convergence")
            + (_trained(other) if other else ""),
        )
    )
    return parts


def _setting(document: Document) -> str:
    settings, rules = document["settings"], document["results"]["rules"]
    seconds = document["seconds"]
    return paragraph(
        "A number is drawn from 10 to the power of T, and read digit by digit (binary, padded on the left"
        f" to 4 T steps). Embedding {settings['embedding']}, one recurrent layer of {settings['hidden']},"
        " the class from its last state; Adam at 1e-4, batches of 256, gradient cut at 10,"
        f" seeds: {settings['seeds']}. Converged: the mean accuracy over {rules['window']} updates first"
        f" reaches {rules['converged']}. {document['mode'].capitalize()} mode took"
        f" {seconds['wall'] / 60:.0f} minutes ({seconds['cpu'] / 60:.0f} of processor time)."
    )


def _data(data: list[dict[str, Any]]) -> str:
    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.4f}"

    rows = [
        [
            f"T = {one['magnitude']}, {_SAMPLES[one['sampling']]}",
            str(one["steps"]),
            _count(one["integers"]),
            _count(one["positives"]),
            f"{one['prior']:.4g}",
            f"{one['entropy']:.3g}",
            share(one["majority"]),
            share(one["length_only"]),
            share(one["cue"]),
        ]
        for one in data
    ]
    heads = ("samples", "steps", "integers", "with b(n) = 1", "share of class 1", "entropy, nats")
    return table([*heads, "majority", "length only", "single zeros only"], rows)


def _count(value: int) -> str:
    return f"{value:,}" if value < 10**9 else f"{value:.2e}"


def _trained(groups: list[dict[str, Any]]) -> str:
    rows = []
    for g in groups:
        several = None not in (g["converged_mean"], g["converged_std"]) and len(g["seeds"]) > 1
        mean = f"{g['converged_mean']:.0f} ± {g['converged_std']:.0f}" if several else ""
        rows.append(
            [
                f"{NAMES[g['cell']]}, T = {g['magnitude']}, {_SAMPLES[g['sampling']]}",
                f"{g['embedding']}, {g['gain']:.2f}, {g['fan']}",
                ", ".join(
                    str(c) if c else f"not in {n}"
                    for c, n in zip(g["converged"], g["updates_done"], strict=True)
                ),
                mean,
                f"{g['early_loss']['mean']:.3f}",
                f"{g['accuracy_at']['mean']:.3f}",
                f"{g['final_accuracy']['mean']:.3f}",
                _tested(g["tests"]),
                f"{g['ms_per_update']:.0f}",
            ]
        )
    heads = (
        "training",
        "embedding, gain, fan",
        "converged after",
        "mean ± std",
        "early loss",
        "accuracy at 600",
    )
    return table([*heads, "at the end", "on numbers never drawn, class 0 / 1", "ms an update"], rows)


def _tested(tests: dict[str, Any]) -> str:
    kind = "withheld" if "withheld" in tests else next(iter(tests))
    shown = []
    for y in ("0", "1"):
        one = tests[kind][y]
        shown.append(f"{one['right'] / one['tested']:.4f}" if one["tested"] else "none left")
    return f"{' / '.join(shown)} ({kind})"
