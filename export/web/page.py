"""Lay an export out as a folder with one page, which runs the step in the browser that opens it.

    FOLDER/index.html                        the page: no other file is named by a person
    FOLDER/model-0123456789abcdef.js         the step and the model's card
    FOLDER/onnxruntime-web-1.30.0.js         ONNX Runtime, and its licence beside it

All that a page of a folder (``file://``) may load without a server are scripts. So the model and ONNX Runtime
lie in scripts, packed by gzip, whose checksum the page relies on, and written in base64.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

from ...contract import files
from ...contract.errors import P2Error
from ...contract.page import filled
from ...runtime.onnx_format import Graph, encode_model
from ...runtime.onnx_tensors import FLOAT
from ...runtime.onnxruntime import cells
from ...runtime.onnxruntime.products import Constants, Scope
from ...runtime.step_file import OPSET, StepFile, contract_values, open_step
from ..scratch import appear, scratch
from . import ort_web

# A browser holds the model four times while it loads, in 4 GiB.
MOST_BYTES = 256 << 20

_PAGE, _LICENCE = "index.html", "LICENSE-onnxruntime-web.txt"
_RUNTIME = f"onnxruntime-web-{ort_web.VERSION}.js"
_MARK = '<meta name="generator" content="p2 export --web">'
_ASSET = re.compile(r'"((?:model|onnxruntime-web)-[0-9a-f.]+\.js)"')


class Page:
    """A folder that an export is put into.

    Args:
        path: the folder; made if it is missing. A page of an earlier export is replaced.
        runtime: onnxruntime-web, as `ort_web.find` takes it.
    """

    def __init__(self, path: Path, runtime: Path | None) -> None:
        self.path = path
        self._given = runtime
        self._runtime: ort_web.Contents = {}

    def check(self) -> None:
        """Refuse what cannot be written, and have ONNX Runtime at hand, before any work is done.

        Raises:
            P2Error: what is there is no page of p2's, or onnxruntime-web cannot be had.
        """
        self._earlier()
        self._runtime = ort_web.find(self._given)

    def put(self, onnx: Path, say: Callable[[str], None]) -> None:
        """Put the model of one export in; `check` was called before.

        The page itself comes last, and names its files by what they hold: whoever is killed, or opens it
        meanwhile, has the earlier page or this one.

        Args:
            onnx: the step graph.
            say: receives a line about what was written.

        Raises:
            P2Error: the model is too large, or the file system refused.
        """
        step = open_step(onnx)
        graph = page_step(step)
        if len(graph) > MOST_BYTES:
            raise P2Error(
                f"{onnx} is too large for a page, {len(graph) / 1e6:,.0f} MB as a browser runs it, of at most"
                f" {MOST_BYTES / 1e6:,.0f}: export with --precision int8, or train a smaller one"
            )
        model = _script("p2Model", {"card": json.dumps(_card(step)).encode(), "step": graph})
        named = f"model-{hashlib.sha256(model).hexdigest()[:16]}.js"
        assets = {
            named: model,
            _RUNTIME: runtime_script(self._runtime),
            _LICENCE: _source(_LICENCE).encode(),
            _PAGE: _html(named).encode(),
        }
        earlier = self._earlier()
        with files.writing(self.path):
            if self.path.exists():
                _write(self.path, assets)
                for name in earlier - assets.keys():
                    (self.path / name).unlink(missing_ok=True)
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with scratch(self.path.parent, f".{self.path.name}.") as made:
                    _write(made, assets)
                    appear(made, self.path)
                files.sync_folder(self.path.parent)
        size = sum(map(len, assets.values()))
        say(f"wrote {self.path} ({size / 1e6:.1f} MB): open {self.path / _PAGE} in a browser")

    def _earlier(self) -> set[str]:
        """The names of the files of an earlier page.

        Raises:
            P2Error: what is there is not p2's.
        """
        page = self.path / _PAGE
        with files.reading(self.path):
            if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
                return set()
            text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
        if _MARK not in text:
            raise P2Error(
                f"{self.path} is there already, and is no page that p2 exported: give --web another folder"
            )
        return set(_ASSET.findall(text))


def page_step(step: StepFile) -> bytes:
    """The step as ONNX Runtime's backend of p2 runs it, for one character at a time: an ONNX file of its own.

    Shorter floats are widened, and integers multiplied as `contract.integers` says, so an int8 or int4 model
    says the same text as anywhere. Inputs and outputs are the contract's, in float32.
    """
    scope = Scope(Constants(step))
    cells.step(scope, step.card, "logits")
    inputs, outputs = contract_values(step.card, FLOAT)
    return encode_model(Graph(scope.nodes, scope.weights.tensors, inputs, outputs), OPSET)


def runtime_script(contents: ort_web.Contents) -> bytes:
    """ONNX Runtime as a file of the page."""
    parts = dict(zip(("ort", "loader", "wasm"), contents.values(), strict=True))
    return f"// {ort_web.PACKAGE} of Microsoft, packed: see {_LICENCE}.\n".encode() + _script(
        "p2Runtime", parts
    )


def _card(step: StepFile) -> dict[str, object]:
    """What the page knows of its model."""
    card = step.card
    said = {key: getattr(card, key) for key in ("cell", "layers", "hidden", "vocabulary", "precision")}
    return said | {"name": step.path.stem, "file": step.path.name, "states": card.state_names}


def _script(name: str, parts: Mapping[str, bytes]) -> bytes:
    packed = {key: base64.b64encode(gzip.compress(data, 6, mtime=0)).decode() for key, data in parts.items()}
    return f"window.{name} = {json.dumps(packed)};\n".encode()


def _html(model: str) -> str:
    parts = "".join(_source(f"{name}.js") for name in ("noise", "choice", "page"))
    page, script = (
        filled(text) for text in (_source("page.html"), f'"use strict";\n/* contract/page.js */\n{parts}')
    )
    script = script.replace("RUNTIME", _RUNTIME).replace("MODEL", model)
    inside = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    # Nothing but this script, what lies beside it (twice: browsers differ on file://), and what that unpacks.
    policy = f"'sha256-{inside}' 'self' file: blob: 'wasm-unsafe-eval'"
    return page.replace("POLICY", policy).replace("SCRIPT", script)


def _write(folder: Path, assets: Mapping[str, bytes]) -> None:
    fresh = [name for name in assets if not (folder / name).exists()]
    try:
        for name, data in assets.items():
            files.write_bytes(folder / name, data)
    except BaseException:
        for name in fresh:
            (folder / name).unlink(missing_ok=True)
        raise


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
