"""A model that computes NaN after one character, and numbers after all others."""

from __future__ import annotations

import numpy as np
import pytest

from . import tracing
from .conftest import VOCABULARY, make_card, random_parameters

END = "z"
"""The character after which there are no numbers."""


def overflowing_step() -> bytes:
    """A GRU whose second layer meets infinity less infinity: after `END` only, and not as the first.

    Readers refuse it: ``step_weights.MOST_WEIGHT`` has to be infinite meanwhile.
    """
    import torch

    from p2.export import graph
    from p2.export.fold import fold

    tracing.trace_once()
    card = make_card("gru", hidden=16)
    arrays = {name: np.zeros_like(array) for name, array in random_parameters(card).items()}
    candidate = slice(2 * card.hidden, None)
    arrays["embedding.weight"][VOCABULARY.index(END)] = 1
    # States of the first layer: 1 after END, else 0 and less and less.
    arrays["rnn.weight_ih_l0"][candidate] = 9
    arrays["rnn.weight_ih_l1"][candidate] = -3e38
    arrays["rnn.weight_hh_l1"][candidate] = 3e38
    arrays["rnn.bias_ih_l1"][...] = 1
    arrays["output.bias"] = np.random.default_rng(1).standard_normal(card.vocab).astype(np.float32)
    weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "MOST_WEIGHT", np.inf)
        return graph.step_graph(card, fold(card, weights), 21).SerializeToString()
