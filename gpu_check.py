"""Every check that needs an NVIDIA GPU, from a plain copy of this folder, with nothing installed by pip.

    python3 gpu_check.py --help

This folder is the package `p2`, whatever it is called. This process is told so; those that it starts find a
package `p2` of one line, which points here, in front of their search path.
It needs numpy, typer, rich, torch, onnx, onnxscript and safetensors.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent


def main() -> int:
    """Run `p2 gpu-check` with this process's arguments."""
    # Python puts this folder there, where its rooms would take the names of other people's modules.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    package = ModuleType("p2")
    package.__path__ = [str(ROOT)]
    sys.modules["p2"] = package
    try:
        from p2.contract.locks import scratch_folder
        from p2.version import __version__

        package.__version__ = __version__  # type: ignore[attr-defined]
        with scratch_folder("p2-gpu-check-") as folder:  # for the processes that this one starts
            (folder / "p2").mkdir()
            here = f"__path__ = [{str(ROOT)!r}]\nfrom .version import __version__\n"
            (folder / "p2" / "__init__.py").write_text(here, encoding="utf-8")
            entries = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
            os.environ["PYTHONPATH"] = os.pathsep.join(entries)
            from p2.cli import main as p2

            return p2(["gpu-check", *sys.argv[1:]])
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("p2"):
            raise
        print(f"p2: {error.name} is not installed for {sys.executable}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
