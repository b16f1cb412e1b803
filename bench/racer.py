"""A contender on its way through the measurements, and what its texts are compared with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from ..contract.codec import Codec, Tokens
from . import entries
from .document import Text
from .plugins import Entrant
from .remote import Remote

TEXT_REFERENCES = ("torch-cell", "torch-eager")


class Racer:
    """A contender on its way through the measurements.

    Attributes:
        entrant: who.
        contender: the same, without its address.
        entry: the figures so far.
        remote: its process; None before, after, and when it is out.
        character_s: seconds of one character of one text, estimated, to plan turns with.
        step_s: seconds of one step by the number of texts, likewise.
        chunk: characters of a call that the latency is told for.
        prompt: characters of the known text that it reads; 0 before the first time.
        reads: whether it can read known text, as far as one knows.
        speeds: characters per second of each turn.
        shares: of the memory's rate, in each turn.
        calls_s: seconds per character of each short call.
        prompts: characters of known text per second, in each turn.
        firsts_s: seconds from the start of a process to its first character.
        text: int64 ``[length]``, written with the common noise.
    """

    def __init__(self, entrant: Entrant) -> None:
        self.entrant, self.contender = entrant, entrant.contender
        self.entry = entries.blank(self.contender)
        self.remote: Remote | None = None
        self.character_s = 0.0
        self.step_s: dict[int, float] = {}
        self.chunk, self.prompt, self.reads = 1, 0, True
        self.speeds: list[float] = []
        self.shares: list[float] = []
        self.calls_s: list[float] = []
        self.prompts: list[float] = []
        self.firsts_s: list[float] = []
        self.text: Tokens | None = None

    @property
    def process(self) -> Remote:
        """The process, which must be there."""
        assert self.remote is not None
        return self.remote


def compare_texts(racers: Sequence[Racer], vocabulary: str) -> None:
    """Compare what was written with common noise with the cell as it is written in PyTorch.

    Args:
        racers: whose entries get it, where they wrote one.
        vocabulary: of the model.
    """
    codec = Codec(vocabulary)
    texts = {racer.contender.key: racer.text for racer in racers if racer.text is not None}
    reference = next((texts[key] for key in TEXT_REFERENCES if key in texts), None)
    for racer in racers:
        if racer.text is None:
            continue
        written, identical = racer.text, None
        if reference is not None and racer.contender.precision == "float32":
            both = min(len(written), len(reference))
            written = written[:both]
            identical = bool(np.array_equal(written, reference[:both]))
        data = codec.decode(written).encode("utf-8", "surrogatepass")
        racer.entry["text"] = Text(
            characters=len(written), identical=identical, sha256=hashlib.sha256(data).hexdigest()
        )
