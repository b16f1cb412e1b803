"""`p2 gpu-check` for Python itself, also from a plain copy of the repository with nothing installed by pip.

    python3 -m p2.gpu_check --help     # p2 is installed
    python3 gpu_check --help           # inside a copy

The copy's folder is the package `p2`, whatever it is called. This process is told so; those that it starts
find a package `p2` of one line, which points there, in front of their search path.
A copy needs numpy, typer, rich, torch, onnx, onnxscript and safetensors.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run `p2 gpu-check` with this process's arguments."""
    from ..cli import main as p2

    return p2(["gpu-check", *sys.argv[1:]])


def main_of_a_copy() -> int:
    """The same, with a package `p2` for the processes that this one starts."""
    from ..contract.locks import scratch_folder

    with scratch_folder("p2-gpu-check-") as folder:
        (folder / "p2").mkdir()
        here = f"__path__ = [{str(HERE.parent)!r}]\nfrom .version import __version__\n"
        (folder / "p2" / "__init__.py").write_text(here, encoding="utf-8")
        entries = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(entries)
        return main()


def _start_a_copy() -> int:
    """Be the package `p2` in this process, and go on as a module of it."""
    # Python puts this folder there, where its files would take the names of other people's modules.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
    package = ModuleType("p2")
    package.__path__ = [str(HERE.parent)]
    sys.modules["p2"] = package
    try:
        package.__version__ = import_module("p2.version").__version__  # type: ignore[attr-defined]
        return int(import_module("p2.gpu_check.__main__").main_of_a_copy())
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("p2"):
            raise
        print(f"p2: {error.name} is not installed for {sys.executable}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main() if __package__ else _start_a_copy())
