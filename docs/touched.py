"""Which source files name a cell, a precision or a backend: what to touch to add another.

    python docs/touched.py

Counted are identifiers and strings of Python, and of C what is neither comment nor include; a name counts if
one of its words does (`gru_before`, ``"gru-before"``). Comments and docstrings are no code. `practical/` is
left out: its experiments are about three named cells, as the data of a report is, and run no other.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = ("docs", "practical", "tests")

# What is counted, and the words that name it. A target is the most files that may; a precision has a kernel
# in each folder of the decoder's levels.
COUNTED = {
    "cell": (12, {"gru": r"gru"}),
    "precision": (14, {"int4": r"int4", "bfloat16": r"bfloat16|bf16|brain"}),
    "backend": (5, {"onnxruntime-cuda": r"onnxruntime[-_]cuda", "cuda-graph": r"cuda[-_]graph"}),
}


def sources() -> list[Path]:
    """The .py, .c, .h, .cu and .cuh files of the package, without tests and what `LEFT_OUT` names."""
    rooms = [path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name not in LEFT_OUT]
    found = [
        *ROOT.glob("*.py"),
        *(p for room in rooms for end in ("py", "c", "h", "cu", "cuh") for p in room.rglob(f"*.{end}")),
    ]
    return sorted(path.relative_to(ROOT) for path in found)


def code(path: Path) -> str:
    """A file's identifiers and strings, a line each."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.suffix == ".py":
        return "\n".join(_words(ast.parse(text)))
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)
    return re.sub(r"(?m)^\s*#\s*include.*$", "", text)


def _words(tree: ast.AST) -> Iterator[str]:
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }  # docstrings, and strings that stand alone
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value
        for _, value in ast.iter_fields(node):
            if not isinstance(node, ast.Constant):
                yield from [value] if isinstance(value, str) else ()
                yield from (one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def touched(word: str) -> list[str]:
    """The files that name what the pattern `word` says, as one word or as part of a compound."""
    named = re.compile(rf"(?<![a-z0-9])(?:{word})(?![a-z0-9])", re.IGNORECASE)
    return [
        path.as_posix()
        for path in sources()
        if named.search((ROOT / path).read_text(encoding="utf-8")) and named.search(code(path))
    ]


def lists() -> dict[str, tuple[str, list[str]]]:
    """For a cell, a precision and a backend: the one that most files name, and those files."""
    found = {}
    for kind, (_, examples) in COUNTED.items():
        files = {name: touched(word) for name, word in examples.items()}
        worst = max(files, key=lambda name: len(files[name]))
        found[kind] = worst, files[worst]
    return found


if __name__ == "__main__":
    for kind, (name, files) in lists().items():
        print(f"a {kind} ({name}): {len(files)} files, at most {COUNTED[kind][0]}", *files, sep="\n  ")
