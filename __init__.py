"""p2: train recurrent character models, deploy one step of them, sample inside the engine.

    import p2

    model = p2.load("charlm.onnx")
    print(model.generate("The ", length=300, tau=2, seed=7))

Importing the package imports nothing heavy: a name of the API brings what it needs when it is used, and
`load` never brings PyTorch for a ``.onnx`` or ``.plan``.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from . import ray
    from .api import Model, State, evaluate, export, import_model, load, parity, tokenize, train
    from .contract.errors import P2Error, UsageError

__all__ = [
    "Model",
    "P2Error",
    "State",
    "UsageError",
    "__version__",
    "evaluate",
    "export",
    "import_model",
    "load",
    "parity",
    "ray",
    "tokenize",
    "train",
]

_WHERE = {
    "P2Error": ".contract.errors",
    "UsageError": ".contract.errors",
    "export": ".export",
    "parity": ".parity",
    "ray": ".ray",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_WHERE.get(name, ".api"), __name__)
    value = module if name in ("export", "parity", "ray") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
