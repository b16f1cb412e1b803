"""The Ray room: what one machine cannot do, on a cluster of Ray. `import ray` inside it is the library.

    import p2.ray

    p2.ray.write_texts("charlm.onnx", "prompts.parquet", "texts", length=300, seed=7)
    serve.run(p2.ray.app("charlm.onnx", replicas=(1, 8)))

`rows` numbers the prompts, `job` remembers what a folder of texts belongs to, `texts` writes them with Ray
Data, `serving` puts the server behind Ray Serve.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .serving import app
    from .texts import write_texts

__all__ = ["app", "write_texts"]


def __getattr__(name: str) -> Any:
    if name == "app":
        from .serving import app

        return app
    if name == "write_texts":
        from .texts import write_texts

        return write_texts
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _library() -> None:
    """Put the library in this module's place, where a program that was started in the checkout asks for it.

    The checkout is the package p2 itself, so that there this folder is found under the library's name.
    """
    import importlib

    checkout, paths = Path(__file__).resolve().parent.parent, sys.path
    del sys.modules["ray"]
    sys.path = [path for path in paths if Path(path or ".").resolve() != checkout]
    try:
        importlib.import_module("ray")
    finally:
        sys.path = paths


if __name__ == "ray":
    _library()
