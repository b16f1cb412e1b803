"""Every check that needs an NVIDIA GPU, from a plain copy of this folder, with nothing installed by pip.

    python3 gpu_check.py --help

This folder is the package `p2`, whatever it is called. So that this process and those it starts find it
under that name, a package `p2` of one line, which points here, is put in front of their search path.
It needs numpy, typer, rich, torch, onnx, onnxscript and safetensors.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def main() -> int:
    """Run `p2 gpu-check` with this process's arguments."""
    # Python puts this folder there, where its rooms would take the names of other people's modules.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    with tempfile.TemporaryDirectory(prefix="p2-") as folder:
        package = Path(folder) / "p2"
        package.mkdir()
        here = f"__path__ = [{str(ROOT)!r}]\nfrom .version import __version__\n"
        (package / "__init__.py").write_text(here, encoding="utf-8")
        sys.path.insert(0, folder)
        entries = [folder, *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(entries)
        try:
            from p2.cli import main as p2
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("p2"):
                raise
            print(f"p2: {error.name} is not installed for {sys.executable}", file=sys.stderr)
            return 1
        return p2(["gpu-check", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
