"""What several commands share: options that mean the same in each, and how their help is laid out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ..runtime.backends import backend_help
from ..trainer.ranges import TRAIN_PRECISIONS

RUN_FOLDER = Path("artifacts/charlm")

Encoding = Annotated[
    str | None, typer.Option(help="Encoding of the text. [default: UTF-8]", rich_help_panel="Text")
]
EncodingErrors = Annotated[
    str | None,
    typer.Option(
        help="Bytes that cannot be read: strict refuses the file, replace puts U+FFFD in their place, skip"
        " leaves them out. [default: strict]",
        rich_help_panel="Text",
    ),
]

Column = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The texts are tables, Parquet or lines of JSON (a folder gives those), and this column or key"
        " holds the text of each row.",
        rich_help_panel="Text",
    ),
]

# Of a training, alone or as a part of an experiment.
LearningRate = Annotated[
    float | None,
    typer.Option(help="Adam's first learning rate. [default: 0.008]", rich_help_panel="Learning"),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Of the training: auto (a GPU if there is one), cpu or cuda. [default: auto]",
        rich_help_panel="Run",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help=f"Of the training: {', '.join(TRAIN_PRECISIONS[1:])} (mixed), or auto: that where it is native."
        " [default: auto]",
        rich_help_panel="Run",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(help="CPU threads of the training. [default: PyTorch's choice]", rich_help_panel="Run"),
]

# Of what writes with an engine.
Backend = Annotated[str | None, typer.Option(help=backend_help(), rich_help_panel="Engine")]
EngineThreads = Annotated[
    int | None,
    typer.Option(
        help="Processor threads; measured once and remembered if not given.", rich_help_panel="Engine"
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Write everything as JSON.")]

# Where two columns are no longer wide enough to read, what an option does stands below its name.
_TWO_COLUMNS = 60
_WIDEST_NAME = 30


class Command(TyperCommand):
    """A command whose help has a section for each ``rich_help_panel`` of its options, in their order.

    Sections are plain text, in columns that line up from one section to the next.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, panels, and last the options that are in no panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                argument = parameter.param_type_name == "argument"
                panel = getattr(parameter, "rich_help_panel", None)
                panels.setdefault(panel or ("Arguments" if argument else "Options"), []).append(record)
        names = [len(name) for records in panels.values() for name, _ in records]
        width = max((length for length in names if length <= _WIDEST_NAME), default=0)
        if formatter.width < _TWO_COLUMNS:
            width = 2
        for title, records in panels.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in records], col_max=width)
