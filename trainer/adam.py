"""The optimiser: Adam, or AdamW with what decays; its moments by the names of the parameters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .options import TrainOptions

_MOMENTS = ("exp_avg", "exp_avg_sq")


def optimiser(model: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """Adam, or AdamW that lets the matrices of products decay: no biases, and no embedding."""
    if not options.weight_decay:
        return torch.optim.Adam(model.parameters(), lr=options.lr, fused=True)
    decays: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        decays[parameter.dim() > 1 and not name.startswith("embedding")].append(parameter)
    groups = [
        {"params": decays[True], "weight_decay": options.weight_decay},
        {"params": decays[False], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.lr, fused=True)


def moments(made: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """``exp_avg.*`` and ``exp_avg_sq.*`` of the parameters; none before the first update."""
    return {
        f"{moment}.{name}": made.state[parameter][moment]
        for name, parameter in model.named_parameters()
        for moment in _MOMENTS
        if parameter in made.state
    }


def restore(made: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor], step: int) -> None:
    """Go on from `moments`, after `step` updates.

    Raises:
        KeyError: names what is missing or has another shape than its parameter.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    state = {}
    for index, parameter in enumerate(p for group in made.param_groups for p in group["params"]):
        found = {moment: shaped(tensors, f"{moment}.{names[parameter]}", parameter) for moment in _MOMENTS}
        state[index] = {"step": torch.tensor(float(step)), **found}
    made.load_state_dict({"state": state, "param_groups": made.state_dict()["param_groups"]})


def shaped(tensors: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """The tensor of this name.

    Raises:
        KeyError: there is none, or it has another shape.
    """
    if tensors[name].shape != like.shape:
        raise KeyError(name)
    return tensors[name]
