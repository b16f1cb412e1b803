"""Who may import whom, read from the source: every room knows only the rooms below it."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def rooms() -> dict[str, tuple[set[str], set[str]]]:
    """Room -> rooms it may import, libraries it must not import: the table that the documentation shows."""
    lines = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8").splitlines()
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `")]
    found = {}
    for room, _, may, must_not in table:
        if room.endswith("/`"):
            allowed, forbidden = ({*filter(None, cell.split(", "))} for cell in (may, must_not))
            found[room.strip("`/")] = allowed, forbidden
    return found


ROOMS = rooms()
# Modules at the top that are no room's.
TOP = {"version", "callable_room"}

# Every package that only an extra brings.
OPTIONAL = (
    "torch onnx onnxscript onnxruntime openvino safetensors charset_normalizer matplotlib"
    " tensorrt tensorrt_rtx cuda starlette uvicorn prometheus_client ray pyarrow h5py"
)
# Libraries that are imported inside functions only, because they are slow or may be missing.
LAZY = {"h5py", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cuda", "matplotlib", "ray", "pyarrow"}


def modules() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imports(path: Path) -> list[tuple[int, str, bool]]:
    """(level, dotted name, whether at the top of the module) of every import."""
    tree = ast.parse(path.read_text())
    top = set(tree.body)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, node in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            found += [
                (node.level, f"{base}.{a.name}" if not base or node.level else base, node in top)
                for a in node.names
            ]
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_keep_the_floor_plan(path):
    room = path.relative_to(ROOT).parts[0]
    allowed = {room} | TOP | ROOMS[room][0] | ({"cli"} if path.name == "__main__.py" else set())
    depth = len(path.relative_to(ROOT / room).parts)
    for level, name, at_top in imports(path):
        first = name.lstrip(".").split(".")[0]
        if level == depth + 1:
            assert first in allowed, f"{path} imports {name}"
        elif level == 0:
            assert first != "p2", f"{path}: inside the package imports are relative, not {name}"
            assert first not in ROOMS[room][1], f"{path} imports {name}"
            assert not (at_top and first in LAZY), f"{path} imports {name} at the top"
        assert level <= depth + 1, f"{path} reaches out of the package"


def test_a_backend_knows_no_other():
    """What two of them need lies beside their folders: one can be taken out, or put in."""
    folders = {path.parent.name for path in (ROOT / "runtime").glob("*/__init__.py")}
    for folder in folders:
        for path in (ROOT / "runtime" / folder).glob("*.py"):
            named = {name.lstrip(".").split(".")[0] for level, name, _ in imports(path) if level == 2}
            assert not named & (folders - {folder}), f"{path} imports another backend"


def test_files_can_be_read_in_one_sitting():
    sizes = {
        path.relative_to(ROOT): len(path.read_text().splitlines())
        for path in [*modules(), *ROOT.glob("*.py")]
    }
    assert {path: size for path, size in sizes.items() if size > 500} == {}


def run_without(missing: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter in which some packages cannot be imported."""
    block = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {set(missing.split())!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
    )
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True, check=False)


def test_every_room_is_in_the_table():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"tests"} == set(ROOMS)


def test_the_runtime_imports_without_torch_and_its_friends():
    """One interpreter for all modules: each is imported where none of its friends can be."""
    names = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts) for p in sorted((ROOT / "runtime").rglob("*.py"))
    ]
    code = "\n".join(f"import p2.{name.removesuffix('.__init__')}" for name in names)
    done = run_without(OPTIONAL, code)
    assert done.returncode == 0, done.stderr


def test_help_needs_nothing_heavy():
    done = run_without(
        f"numpy {OPTIONAL}",
        "from p2.cli import main; sys.exit(main(['--help']))",
    )
    assert done.returncode == 0, done.stderr
    assert "generate" in done.stdout


def test_text_is_the_same_without_torch(card_of, write_step):
    from p2.runtime.generate import Request
    from p2.runtime.onnxruntime.engine import open_onnx
    from p2.runtime.printing import write_samples

    path = write_step(card_of())
    done = run_without(
        "torch onnx onnxscript safetensors",
        f"from p2.cli import main; sys.exit(main(['generate', '--engine', {str(path)!r}, '--seed', '7']))",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == write_samples(open_onnx(path), Request(seed=7))[0].rstrip("\n")


@pytest.mark.parametrize(
    ("missing", "command", "says"),
    [
        ("torch", ["train"], "[train]"),
        ("torch", ["export"], "[train]"),
        ("torch", ["generate", "--engine", "."], "[train]"),
        ("torch", ["generate", "--engine", ".", "--threads", "2"], "[train]"),
        (
            "onnxruntime",
            ["generate", "--engine", "FILE", "--backend", "onnxruntime-cpu"],
            "[cpu]",
        ),
    ],
)
def test_a_missing_package_is_a_sentence_with_its_cure(missing, command, says, card_of, write_step):
    path = str(write_step(card_of()))
    argv = [path if word == "FILE" else word for word in command]
    done = run_without(missing, f"from p2.cli import main; sys.exit(main({argv!r}))")
    assert done.returncode == 1
    assert "pip install" in done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_every_package_is_in_the_wheel():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in modules()}
    assert set(config) == {"p2"} | {".".join(("p2", *folder.parts)) for folder in folders}
