"""The reference engine: the PyTorch model itself behind the engine protocol.

It decodes with `CharModel.step`, the cells as written out, and chooses with `contract.sampling.write`,
so it is the definition that the exported engines are compared with, not the fastest way to a text.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..contract.arguments import check_batch, check_decode, check_tokens
from ..contract.codec import Tokens
from ..contract.finite import check_computed, top_state
from ..contract.sampling import Floats, Sampling, write
from . import checkpoint
from .model import CharModel
from .tensor_state import TensorState, TensorStates, batch_of

_CHUNK_TOKENS = 1 << 14  # tokens of one forward call: bounds the memory of a long prompt


class EagerEngine(TensorStates):
    """A `CharModel` as a `contract.engine.Engine`.

    Args:
        model: in float32, on any device; it is put into evaluation mode.
    """

    def __init__(self, model: CharModel) -> None:
        self.card = model.card
        self._device = model.output.weight.device
        self.name = f"eager PyTorch ({self._device.type})"
        self._loaded: CharModel | None = model.eval()

    @property
    def _model(self) -> CharModel:
        if self._loaded is None:
            raise RuntimeError("the engine is closed")
        return self._loaded

    def zero_state(self, batch: int) -> TensorState:
        """See `Engine.zero_state`."""
        return TensorState(self._model.zero_state(check_batch(batch)))

    @torch.inference_mode()
    def feed(self, state: TensorState, tokens: Tokens, *, logits: bool = False) -> Floats | None:
        """See `Engine.feed`. Long inputs go through the fused layers in chunks."""
        batch = batch_of(self.card, state)
        length = check_tokens(self.card, tokens, batch).shape[1]
        outputs = np.empty((batch, length, self.card.vocab), dtype=np.float32) if logits else None
        chunk = max(1, _CHUNK_TOKENS // batch)
        for start in range(0, length, chunk):
            window = torch.from_numpy(tokens[:, start : start + chunk]).to(self._device)
            predicted, state.tensors = self._model(window, state.tensors)
            if outputs is not None:
                outputs[:, start : start + chunk] = predicted.cpu().numpy()
        self._check(state, outputs)
        return outputs

    @torch.inference_mode()
    def decode(self, state: TensorState, last: Tokens, noise: Floats, sampling: Sampling) -> Tokens:
        """See `Engine.decode`."""
        batch = batch_of(self.card, state)
        check_decode(self.card, batch, last, noise, sampling)

        seen = np.zeros((batch, 1))  # an infinity stays in a sum, or becomes NaN

        def predict(tokens: Tokens) -> Floats:
            logits, state.tensors = self._model.step(torch.from_numpy(tokens).to(self._device), state.tensors)
            found: Floats = logits.cpu().numpy()
            with np.errstate(invalid="ignore"):
                seen[...] += found.sum(axis=1, keepdims=True, dtype=np.float64)
            return found

        written = write(predict, last, noise, sampling)
        check_computed(self.card, seen, self.name, written)
        return written

    def close(self) -> None:
        """See `Engine.close`."""
        self._loaded = None

    def _check(self, state: TensorState, logits: Floats | None) -> None:
        found = state.tensors[top_state(self.card)].cpu().numpy() if logits is None else logits
        check_computed(self.card, found, self.name, logits)


def open_checkpoint(path: Path, threads: int | None = None, device: str = "cpu") -> EagerEngine:
    """The engine of a checkpoint folder, or of a run folder's best checkpoint.

    Args:
        path: the folder.
        threads: processor threads, from now on and for all of PyTorch in this process; None leaves them.
        device: of PyTorch, where it runs.

    Raises:
        P2Error: there is no checkpoint, or it is damaged.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    found = checkpoint.load(path)
    model = CharModel(found.card)
    model.load_state_dict(found.model_state)
    return EagerEngine(model.to(device))
