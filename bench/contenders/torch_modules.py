"""What a person writes first: nn.Embedding, nn.LSTM (or nn.GRU, nn.RNN), nn.Linear and a loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...contract.card import Card
from ...contract.codec import Tokens
from ..contender import Model
from .availability import no_torch

if TYPE_CHECKING:
    from torch import Tensor


def no_modules(card: Card) -> str | None:
    """A sentence if torch.nn has no layer for this cell."""
    if not card.form.is_fused:
        title = card.form.title
        return f"nn.{title} resets after the recurrent product, and this model's {title} before it"
    return None


class TorchEager:
    """The modules, run character by character on the processor."""

    key = "torch-eager"
    title = "nn modules, eager PyTorch"
    precision = "float32"
    group = "peer"
    device = "cpu"

    def missing(self, card: Card) -> str | None:
        """See `Contender.missing`."""
        return no_torch() or no_modules(card)

    def load(self, model: Model, threads: int | None) -> ModulesRunning:
        """See `Contender.load`.

        Raises:
            P2Error: the checkpoint cannot be read.
        """
        return ModulesRunning(model, use_threads(threads))


def use_threads(threads: int | None) -> int:
    """Let PyTorch use so many threads, or as many as it likes; returns how many that are."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


class ModulesRunning:
    """`contender.Running` over the modules of a checkpoint's model.

    The host waits for the device once per `write`, when the characters are asked for.

    Args:
        model: its checkpoint is loaded.
        threads: processor threads that PyTorch uses.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, model: Model, threads: int, device: str = "cpu") -> None:
        # PyTorch first: the trainer's room limits how long OpenMP's threads spin, which has no effect
        # once PyTorch is loaded. A peer runs as it does for those who do not use p2.
        import torch

        from ...trainer import checkpoint
        from ...trainer.model import CharModel

        self.threads = threads
        self._device = torch.device(device)
        found = checkpoint.load(model.checkpoint)
        net = CharModel(found.card)
        net.load_state_dict(found.model_state)
        net.to(self._device).eval()
        self._card = found.card
        self._embedding, self._rnn, self._output = net.embedding, net.rnn, net.output
        self._generator = torch.Generator(self._device)
        self.start(1, 0)

    def start(self, batch: int, seed: int) -> None:
        """See `Running.start`."""
        import torch

        self._generator.manual_seed(seed)
        self._token = torch.randint(
            self._card.vocab, (batch, 1), generator=self._generator, device=self._device
        )
        self._state: Any = None  # zeros, to the modules

    def write(self, count: int) -> Tokens:
        """See `Running.write`."""
        import torch

        written = [self._token[:, :0]]
        with torch.inference_mode():
            for _ in range(count):
                logits, self._state = self._step(self._token, self._state)
                probabilities = torch.softmax(logits, dim=-1)
                self._token = torch.multinomial(probabilities, 1, generator=self._generator)
                written.append(self._token)
            return torch.cat(written, dim=1).cpu().numpy()

    def follow(self, first: Tokens, noise: npt.NDArray[np.float32]) -> Tokens:
        """See `Running.follow`."""
        import torch

        token, state = torch.from_numpy(first).to(self._device)[:, None], None
        written = [token[:, :0]]
        with torch.inference_mode():
            for row in torch.from_numpy(noise).to(self._device):
                logits, state = self._step(token, state)
                token = (logits + row).argmax(dim=-1, keepdim=True)
                written.append(token)
            return torch.cat(written, dim=1).cpu().numpy()

    def read(self, tokens: Tokens) -> None:
        """See `Running.read`. The layers take the whole text at once."""
        import torch

        with torch.inference_mode():
            _, state = self._rnn(self._embedding(torch.from_numpy(tokens).to(self._device)))
            # The layers' last state, fetched so that a GPU has really done the work.
            (state[0] if isinstance(state, tuple) else state).cpu()

    def logits(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """See `Running.logits`."""
        import torch

        with torch.inference_mode():
            outputs, _ = self._rnn(self._embedding(torch.from_numpy(tokens).to(self._device)))
            predicted: npt.NDArray[np.float32] = self._output(outputs).cpu().numpy()
        return predicted

    def close(self) -> None:
        """See `Running.close`."""
        del self._embedding, self._rnn, self._output, self._state

    def _step(self, token: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits ``[batch, vocab]`` after a token ``[batch, 1]``, and the layers' new state."""
        outputs, state = self._rnn(self._embedding(token), state)
        return self._output(outputs[:, -1]), state
