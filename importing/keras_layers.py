"""A model made of Keras's own layers, where Keras is installed: what p2 is compared with.

Of the file it takes arrays alone: nothing that a file names is loaded or run.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Sequence
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from .found import Floats, Predict


def rebuilt(
    kind: str,
    recurrent: Sequence[Sequence[Floats]],
    settings: dict[str, bool],
    embedding: Floats,
    dense: Sequence[Floats],
) -> tuple[str, Predict] | None:
    """Keras's name with its version, and what its layers predict; None where it is not installed, or broken.

    Args:
        kind: the class of the recurrent layers.
        recurrent: of each layer the kernel, the recurrent kernel and, if it has one, the bias.
        settings: of these layers, beyond their sizes.
        embedding: float32 ``[V, E]``.
        dense: the output layer's kernel and, if it has one, its bias.
    """
    if importlib.util.find_spec("keras") is None:
        return None
    try:
        with mock.patch.dict(os.environ, {"KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "torch")}):
            import keras
    except Exception:  # whatever a backend that is not there, or does not fit, raises
        return None

    def filled(layer: Any, inputs: int | None, arrays: Sequence[Floats]) -> Any:
        layer.build((1, None) if inputs is None else (1, None, inputs))
        layer.set_weights(list(arrays))
        return layer

    @functools.cache  # made when they are asked, and once
    def made() -> list[Any]:
        layers = [filled(keras.layers.Embedding(*embedding.shape), None, [embedding])]
        for arrays in recurrent:
            units, bias = len(arrays[1]), len(arrays) > 2
            layer = getattr(keras.layers, kind)(units, return_sequences=True, use_bias=bias, **settings)
            layers.append(filled(layer, len(arrays[0]), arrays))
        inputs, outputs = dense[0].shape
        return [*layers, filled(keras.layers.Dense(outputs, use_bias=len(dense) > 1), inputs, dense)]

    def predict(tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
        values: Any = tokens[None]
        for layer in made():
            values = layer(values)
        found: npt.NDArray[np.floating] = keras.ops.convert_to_numpy(values)[0]
        return found

    return f"keras {keras.__version__}", predict
