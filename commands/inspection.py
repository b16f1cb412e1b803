"""Say what a file holds, without running it: a checkpoint, a step graph or a plan."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.card import Card, bytes_per_step, formula_parameters, stored_parameters
from ..contract.cells import JOINT
from ..contract.errors import ContractError, P2Error, UsageError
from ..contract.shell import install, printable
from ..runtime.locate import locate

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN_VOCABULARY = 120


def describe(name: str) -> dict[str, Any]:
    """Everything a file says about itself, as plain JSON values.

    Args:
        name: a checkpoint folder, a .onnx or a .plan; bare names are looked for as `locate` does.

    Raises:
        P2Error: it is missing, damaged or breaks the contract.
    """
    path, kind = locate(name)
    size = (
        sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        if path.is_dir()
        else path.stat().st_size
    )
    head = {"file": str(path), "kind": kind, "bytes": size}
    return head | {"onnx": _onnx, "plan": _plan, "checkpoint": _checkpoint}[kind](path)


def _model(card: Card) -> dict[str, Any]:
    return {
        "card": card.to_dict(),
        "parameters": {"by_formula": formula_parameters(card), "as_stored": stored_parameters(card)},
        "bytes_per_step": bytes_per_step(card),
        "layers": _layers(card),
    }


def _layers(card: Card) -> list[dict[str, Any]]:
    """Parameters layer by layer, by the textbook formula (one bias vector per gate)."""
    layers = [{"layer": "embedding", "inputs": card.vocab, "outputs": card.embedding}]
    layers[0]["parameters"] = card.vocab * card.embedding
    for index in range(card.layers):
        inputs = card.embedding if index == 0 else card.hidden
        count = card.gates * card.hidden * (inputs + card.hidden + 1)
        layers.append(
            {"layer": f"{card.cell} {index}", "inputs": inputs, "outputs": card.hidden, "parameters": count}
        )
    count = (card.hidden + 1) * card.vocab
    layers.append({"layer": "output", "inputs": card.hidden, "outputs": card.vocab, "parameters": count})
    return layers


def _onnx(path: Path) -> dict[str, Any]:
    from ..runtime.onnx_tensors import TYPE_NAMES
    from ..runtime.step_file import open_step

    step = open_step(path)
    return _model(step.card) | {
        "opset": step.opset,
        "changed": step.probe is not None,
        "operators": dict(Counter(node.op for node in step.graph.nodes).most_common()),
        "inputs": {v.name: f"{TYPE_NAMES.get(v.type, v.type)} {list(v.shape)}" for v in step.graph.inputs},
        "outputs": {v.name: f"{TYPE_NAMES.get(v.type, v.type)} {list(v.shape)}" for v in step.graph.outputs},
        "tensors": {t.name: f"{TYPE_NAMES[t.type]} {list(t.shape)}" for t in step.graph.tensors.values()},
    }


def _plan(path: Path) -> dict[str, Any]:
    from ..runtime.tensorrt.plan_file import read_header, read_plan, sidecar_path

    header = read_header(path)
    found: dict[str, Any] = {
        "flavour": header.flavour,
        "version": header.version,
        "targets": list(header.targets),
        "sidecar": None,
    }
    if not sidecar_path(path).exists():
        return found
    plan = read_plan(path)
    sidecar = plan.sidecar.to_dict()
    del sidecar["card"]
    if not header.targets:  # the header of another release
        found["targets"] = sidecar["targets"]
    return _model(plan.sidecar.card) | found | {"sidecar": sidecar, "kernels": plan.sidecar.kernels}


def _checkpoint(path: Path) -> dict[str, Any]:
    try:
        from ..trainer import checkpoint
    except ModuleNotFoundError as error:
        raise P2Error(f"reading a checkpoint needs {error.name}: {install('train')}") from error
    loaded = checkpoint.load(path)
    counted = sum(tensor.numel() for tensor in loaded.model_state.values())
    described = _model(loaded.card)
    if counted != described["parameters"]["as_stored"]:
        raise ContractError(f"{loaded.folder} is damaged: it stores {counted:,} parameters")
    return described | {"checkpoint": str(loaded.folder), "training": loaded.record.to_dict()}


def show(found: dict[str, Any], console: Console, kernels: bool = False) -> None:
    """Print a description for a person.

    Args:
        found: what `describe` gave.
        console: where.
        kernels: list what the GPU runs for one step, instead of the model's layers.

    Raises:
        UsageError: `kernels` of something that is no plan.
        P2Error: `kernels` of a plan that nobody listed them for.
    """
    if kernels:
        _show_kernels(found, console)
        return
    if "card" in found:
        _show_model(found, console)
        return
    rows = {
        "file": f"{found['file']} ({found['bytes'] / 1e6:.2f} MB)",
        "plan": _plan_line(found),
        "sidecar": f"{found['file']}.json is missing: nobody knows which model this is, so p2 cannot run it",
    }
    _print_rows(rows, console)


def _print_rows(rows: dict[str, str], console: Console) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in rows.items():
        table.add_row(name, printable(value), style="bold" if name == "model" else None)
    console.print(table, markup=False)


def _show_kernels(found: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    from ..contract.layers import Layer

    if found["kind"] != "plan":
        raise UsageError(f"--layers is for a .plan: {found['file']} has not been compiled")
    sidecar = found["sidecar"] or {}
    layers = [Layer(one["name"], one["kind"], tuple(one["operators"])) for one in sidecar.get("layers", ())]
    if not layers:
        raise P2Error(
            f"{found['file']}: nothing says which layers the engine has (its .json is missing, or the"
            " builder's log listed none): run `p2 export` again"
        )
    table = Table(title="What a step runs, by the build log", title_justify="left")
    for heading in ("profile", "layer", "kind", "ONNX operators"):
        table.add_column(heading, overflow="fold")
    for layer in layers:
        cells = (layer.name, layer.kind, ", ".join(layer.operators))
        table.add_row(str(layer.profile), *map(printable, cells))
    console.print(table, markup=False)
    console.print(f"kernels per step at batch 1: {found['kernels']}", highlight=False)


def _show_model(found: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    card = found["card"]
    vocabulary = card["vocabulary"]
    shown = repr(vocabulary[:_SHOWN_VOCABULARY]) + ("..." if len(vocabulary) > _SHOWN_VOCABULARY else "")
    form = Card.from_dict(card, found["file"]).form
    reset = "" if form.products == JOINT else f", reset {form.reset} the product"
    rows = {
        "file": f"{found['file']} ({found['bytes'] / 1e6:.2f} MB)",
        "model": f"{card['cell']}{reset}, {card['layers']} x {card['hidden']}, embedding {card['embedding']}",
        "precision": card["precision"],
        "vocabulary": f"{len(vocabulary)} characters: {shown}",
        "parameters": f"{found['parameters']['by_formula']:,} by the formula (one bias per gate),"
        f" {found['parameters']['as_stored']:,} as PyTorch stores them",
        "a step reads": f"{found['bytes_per_step'] / 1e6:.3f} MB of weights",
        "checkpoint": card["checkpoint_sha256"] or "unknown",
        "training text": card["corpus_sha256"] or "unknown",
        "contract": f"version {card['contract_version']}",
    }
    rows |= _rows_of_kind(found)
    _print_rows(rows, console)
    layers = Table(title="Layers", title_justify="left")
    for heading in ("layer", "inputs", "outputs", "parameters"):
        layers.add_column(heading, justify="left" if heading == "layer" else "right")
    for layer in found["layers"]:
        layers.add_row(layer["layer"], *(f"{layer[k]:,}" for k in ("inputs", "outputs", "parameters")))
    console.print(layers)


def _rows_of_kind(found: dict[str, Any]) -> dict[str, str]:
    if found["kind"] == "onnx":
        operators = ", ".join(f"{count} {name}" for name, count in found["operators"].items())
        rows = {"operators": f"{sum(found['operators'].values())}: {operators}", "opset": str(found["opset"])}
        return rows | ({"changed": "after its export, by another tool"} if found["changed"] else {})
    if found["kind"] == "plan":
        sidecar = found["sidecar"]
        profiles = "; ".join(f"{p['min']},{p['opt']},{p['max']}" for p in sidecar["profiles"])
        return {
            "plan": _plan_line(found),
            "kernels per step": f"{found['kernels']} at batch 1" if found["kernels"] else "not known",
            "batch profiles": f"{profiles} (min,opt,max)",
            "built": sidecar["built"],
            "from ONNX": sidecar["onnx_sha256"],
        }
    training = found["training"]
    if training.get("imported"):
        imported = training["imported"]
        return {"imported": f"from {imported['source']}, SHA-256 {imported['sha256']}"}
    sources = ", ".join(training["corpus"].get("sources", []))
    return {"trained": f"{training['step']:,} updates, {training['seconds']:.0f} s, on {sources}"}


def _plan_line(found: dict[str, Any]) -> str:
    targets = ", ".join(found["targets"]) or "the GPU of the machine that built it"
    return f"{found['flavour']} {found['version']}, for {targets}"
