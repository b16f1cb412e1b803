"""The `p2 practical` commands: the experiments of the report that p2 reproduces."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _root() -> None:
    """Reproduce the experiments of the practical: toy problem, gradients, generated text, one report."""
