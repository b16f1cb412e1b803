"""The page's part about generated text, from the document alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...contract.errors import ContractError
from ...render.html import parts
from ...render.html.parts import paragraph, text
from ...render.numbers import NOTHING, percent
from ...trainer.display import duration
from ..document import Document, Section
from ..page_parts import picture, table
from . import slurs
from .copies import SPAN
from .excerpts import Excerpt
from .measure import SAME_PROMPT
from .plots import label
from .wording import LETTERS

_MARKED = (
    '<p class="note">Set off: <mark class="a">copied</mark> <mark class="b">pieces</mark>'
    f" of {SPAN} characters or more that stand in the book, neighbouring ones in two shades. Bold: what the"
    " model was given. Line breaks are the texts' own.</p>"
)


def sections(document: Document, folder: Path) -> list[Section]:
    """Training, tables 1 to 3 and the analyses.

    Args:
        document: as `shown.read` gives it.
        folder: where its pictures are.

    Raises:
        ContractError: it is damaged.
        P2Error: a picture is missing.
    """
    results = document["results"]
    if len({tuple(sorted(one["sampled"])) for one in results["checkpoints"]}) > 1:
        where = folder / "text.json"
        raise ContractError(f"{where} is damaged: the checkpoints' sampled texts are not of the same tau")
    pictures = {one["file"]: picture(one, folder) for one in document["figures"]}
    training = [
        pictures.pop(name) for name in ("text-training.svg", "text-positions.svg") if name in pictures
    ]
    return [
        {"title": "The model and its training", "html": _training(results) + parts.figures(training)},
        {"title": "Greedy texts (table 1)", "html": _MARKED + _greedy(results)},
        {"title": "Sampled texts (table 2)", "html": _sampled(results)},
        {"title": "Completions of a prompt (table 3)", "html": _completed(results, document["settings"])},
        {
            "title": "Words, copies, loops",
            "html": parts.figures(list(pictures.values())) + _figures_of(results),
        },
    ]


def _training(results: dict[str, Any]) -> str:
    model, training, book = results["model"], results["training"], results["book"]
    missing = ""
    if results["checkpoints"][-1]["asked"] is None:
        missing = (
            " Not every accuracy asked for was reached: the newest checkpoint, at"
            f" {results['checkpoints'][-1]['running_accuracy']:.3f}, stands in."
        )
    part = (
        f"the first {book['characters']:,} of the {book['whole']:,} characters"
        if book["characters"] < book["whole"]
        else f"all {book['characters']:,} characters"
    )
    words = (
        f"{model['layers']} layers of {model['hidden']}, embedding {model['embedding']},"
        f" {model['parameters']:,} parameters, on {part} of {', '.join(book['sources'])}"
        f" ({book['vocabulary']} distinct). Batches of {training['batch_size']} windows of"
        f" {training['window']} characters at random places, each from a zero state, the loss over all of"
        f" them; nothing held out, no dropout; {training['precision']}. {training['updates']:,} updates took"
        f" {duration(training['seconds'])}.{missing}"
    )
    how = (
        "Accuracy is that of the training batch, measured before its update. A checkpoint is kept when the"
        " running mean over about 50 updates first reaches an accuracy; every text below was written by the"
        " engine that was exported from it."
    )
    rows = [
        (
            label(c),
            f"{c['step']:,}",
            f"{c['running_accuracy']:.3f}",
            f"{c['windows']['accuracy']:.3f}",
            f"{c['windows']['loss']:.3f}",
            duration(c["seconds"]),
            c["engine"],
        )
        for c in results["checkpoints"]
    ]
    windows = results["checkpoints"][0]["windows"]["count"]
    names = (
        "checkpoint", "updates", "running accuracy", f"of {windows:,} windows", "loss there", "after",
        "engine",
    )  # fmt: skip
    return f"{paragraph(words)}\n{paragraph(how)}\n{table(names, rows)}\n"


def _greedy(results: dict[str, Any]) -> str:
    texts = results["checkpoints"][0]["greedy"]["texts"]
    words = (
        "Always the most probable character, from a random first one. There is one such text for each of the"
        f" {texts} characters of the vocabulary, and no other; all were written, these were drawn."
    )
    cells = [[checkpoint["greedy"]] for checkpoint in results["checkpoints"]]
    return _text_table(words, ("generated texts",), results, cells)


def _sampled(results: dict[str, Any]) -> str:
    taus = list(results["checkpoints"][0]["sampled"])
    cells = [[checkpoint["sampled"][tau] for tau in taus] for checkpoint in results["checkpoints"]]
    words = (
        f"tau multiplies the logits. {results['checkpoints'][0]['sampled'][taus[0]]['texts']} texts were"
        " written for each; these are the first."
    )
    return _text_table(words, [f"tau {tau}" for tau in taus], results, cells)


def _completed(results: dict[str, Any], settings: dict[str, Any]) -> str:
    cells = [
        [{"excerpts": [checkpoint["prompt"]["excerpt"]]}, checkpoint["completions"] or {"excerpts": []}]
        for checkpoint in results["checkpoints"]
    ]
    words = (
        f"Greedy, from a zero state. The prompt was completed {SAME_PROMPT} times beside other texts, to see"
        " whether anything differs."
    )
    headings = (f"“{settings['prompt']}”", "beginnings of sentences of the book")
    return _text_table(words, headings, results, cells)


def _text_table(words: str, headings: Sequence[str], results: dict[str, Any], cells: list[list[Any]]) -> str:
    """Words, then a row of texts for each checkpoint; those with a slur are left out, and counted."""
    rows, left_out = [], 0
    for checkpoint, row in zip(results["checkpoints"], cells, strict=True):
        shown = [[one for one in cell["excerpts"] if not slurs.stands_in(one["text"])] for cell in row]
        left_out += sum(map(_held, row)) - sum(map(len, shown))
        rows.append(_row(checkpoint, shown))
    if left_out:
        which = "1 text is" if left_out == 1 else f"{left_out} texts are"
        words += f" {which} not shown, for a slur would be seen; the figures count all texts."
    head = parts.heads(("checkpoint", *headings))
    return f"{paragraph(words)}\n{parts.table(head, rows, 'words texts')}"


def _held(cell: dict[str, Any]) -> int:
    """How many excerpts a cell has, and would have had without those that the choice left out."""
    left_out: int = cell.get("left_out", 0)
    return len(cell["excerpts"]) + left_out


def _row(checkpoint: dict[str, Any], cells: list[list[Excerpt]]) -> str:
    shown = "".join(f"<td>{''.join(map(excerpt, cell)) or NOTHING}</td>" for cell in cells)
    return (
        f'<tr><th scope="row">{text(label(checkpoint))}<br>'
        f'<span class="under">{checkpoint["step"]:,} batches</span></th>{shown}</tr>'
    )


def excerpt(shown: Excerpt) -> str:
    """A text with its copied pieces marked, and what was given in bold."""
    written, given = shown["text"], shown["given"]
    pieces = [f"<b>{_lines(written[:given])}</b>"] if given else []
    done, shade = given, 0
    for start, end in shown["spans"]:
        start = max(start, done)
        if end <= start:
            continue
        pieces.append(_lines(written[done:start]))
        pieces.append(f'<mark class="{"ab"[shade]}">{_lines(written[start:end])}</mark>')
        done, shade = end, 1 - shade
    pieces.append(_lines(written[done:]))
    loop = f' <span class="under">(ends in a loop of {shown["loop"]})</span>' if shown["loop"] else ""
    return f'<p class="excerpt">{"".join(pieces)}{loop}</p>'


def _lines(written: str) -> str:
    """Text whose line breaks stay."""
    return "\n".join(text(line) for line in written.split("\n"))


def _figures_of(results: dict[str, Any]) -> str:
    """All figures of all kinds of texts in one table."""
    rows = []
    for checkpoint in results["checkpoints"]:
        kinds = {"greedy": checkpoint["greedy"]}
        kinds |= {f"tau {tau}": texts for tau, texts in checkpoint["sampled"].items()}
        if checkpoint["completions"]:
            kinds["completions"] = checkpoint["completions"]
        rows += [_figures_row(f"{label(checkpoint)}, {kind}", texts) for kind, texts in kinds.items()]
    book = results["book"]
    rows.append(_figures_row("the book itself", {**book, "copied": book["repeats"], "texts": 1}))
    names = (
        "texts", "texts · characters", "end in a loop", "different loops · median period", "copied",
        "longest copy", "real words", "real pairs", "marks per 100", "in quotes",
        "characters a sentence",
    )  # fmt: skip
    words = (
        f"Real words: of those with at least {LETTERS} letters, the share that the book has; real pairs: two"
        " words in a row; marks: . , ; : ! ?, in narration and in quotation marks. A loop counts once: its"
        " rounds after the first are left out of copies and words."
    )
    return f"{paragraph(words, 'note')}\n{table(names, rows)}"


def _figures_row(name: str, texts: dict[str, Any]) -> tuple[str, ...]:
    wording = texts["wording"]

    def one(value: float | None, digits: int = 1) -> str:
        return NOTHING if value is None else f"{value:,.{digits}f}"

    return (
        name,
        f"{texts['texts']:,} · {texts['characters']:,}",
        percent(texts.get("loops")),
        f"{texts['different_loops']} · {one(texts['period'], 0)}" if texts.get("period") else NOTHING,
        percent(texts["copied"]),
        one(texts.get("longest_copy"), 0),
        percent(wording["real_words"]),
        percent(wording["real_pairs"]),
        one(wording["marks_per_100"]),
        one(wording["quoted_marks_per_100"]),
        one(wording["sentence_characters"], 0),
    )
