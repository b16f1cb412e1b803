"""What an engine is handed through the protocol (`contract.engine`) is checked here, for every backend.

A backend computes addresses from shapes, so an array of another width would be read past its end, and one of
another batch be broadcast without a word. Every engine calls these first.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .card import Card
from .codec import Tokens
from .engine import Draw
from .errors import ContractError, UsageError
from .noise import Address
from .sampling import Floats, Sampling

MAX_BATCH = 1 << 21
MAX_COUNT = 1 << 31  # characters of all streams in one call
MAX_POSITION = 1 << 64
MAX_THREADS = 1024

# What a cell can reach, with a little for rounding. A state is a tanh, a share of one, or a mean of some: 1.
# An LSTM's cell gains at most 1 a step, and float32 adds no 1 to more than 2**24.
_MOST_STATE, _MOST_CELL = 1.001, 2.0**24


def whole_number(value: object, what: str, low: int, high: int) -> int:
    """An integer within a range, both ends included; numpy's integers are taken too.

    Raises:
        UsageError: it is another type, or out of range.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise UsageError(f"{what} must be a whole number, not {_kind_of(value)}") from error
    if not low <= number <= high:
        raise UsageError(f"{what} must be {low:,} to {high:,}, not {number}")
    return number


def check_batch(batch: object) -> int:
    """The number of streams, 1 to `MAX_BATCH`.

    Raises (all functions here, where nothing else is said):
        UsageError: the argument is not what the protocol says; the sentence names it.
    """
    return whole_number(batch, "batch", 1, MAX_BATCH)


def check_threads(threads: object) -> int | None:
    """The number of threads, 1 to `MAX_THREADS`, or None."""
    return None if threads is None else whole_number(threads, "threads", 1, MAX_THREADS)


def check_state(card: Card, state: object) -> int:
    """The batch of a state that is a dict of float32 ``[batch, hidden]`` under the contract's names."""
    if not isinstance(state, dict):
        raise UsageError(f"the state must be one that this engine made, not {_kind_of(state)}")
    for name, array in state.items():
        if not isinstance(array, np.ndarray) or array.dtype != np.float32:
            raise UsageError(f"the state's {name} must be a float32 array, not {_kind_of(array)}")
    return check_state_shapes(card, {name: array.shape for name, array in state.items()})


def check_state_shapes(card: Card, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The batch of a state whose arrays have these shapes: ``(batch, hidden)`` under each contract name."""
    batch = next(iter(shapes.values()), (0,))[:1]
    if shapes != dict.fromkeys(card.state_names, (*batch, card.hidden)) or not batch[0]:
        raise UsageError(f"the state does not fit the model: {_wanted_and_found(card, shapes)}")
    return batch[0]


def check_owner(state: object, kind: type[Any], owner: object) -> int:
    """The batch of a state on a device, which only the engine that made it takes back (`state.owner`)."""
    if not isinstance(state, kind) or getattr(state, "owner", None) is not owner:
        raise UsageError(
            f"the state must be one that this engine made, not another's {_kind_of(state)}: use a snapshot"
        )
    return int(state.batch)


def check_tokens(card: Card, tokens: object, batch: int) -> Tokens:
    """Known text, int64 ``[batch, length]``, every token in the vocabulary."""
    array = _array(tokens, "tokens", np.int64, ("batch", "length"), (batch, None))
    return _in_vocabulary(card, array)


def check_last(card: Card, last: object, batch: int) -> Tokens:
    """The newest tokens, int64 ``[batch]``, in the vocabulary."""
    array = _array(last, "the last tokens", np.int64, ("batch",), (batch,))
    return _in_vocabulary(card, array)


def check_noise(card: Card, noise: object, batch: int) -> Floats:
    """Scaled noise, float32 ``[count, batch, vocab]``, without NaN."""
    array = _array(noise, "noise", np.float32, ("count", "batch", "vocab"), (None, batch, card.vocab))
    _check_count(len(array), batch)
    if array.size and np.isnan(array.max()):
        raise UsageError("noise must be numbers, and one of them is NaN")
    return array


def check_sampling(sampling: object) -> Sampling:
    """The settings of the choice."""
    if not isinstance(sampling, Sampling):
        raise UsageError(f"sampling must be a Sampling, not {_kind_of(sampling)}")
    return sampling


def check_decode(card: Card, batch: int, last: object, noise: object, sampling: object) -> None:
    """What `Engine.decode` is handed besides the state."""
    check_last(card, last, batch)
    check_noise(card, noise, batch)
    check_sampling(sampling)


def check_draw(
    card: Card, batch: int, last: object, address: object, count: object, sampling: object
) -> tuple[Address, int]:
    """What `DrawingEngine.draw` is handed besides the state; returns what `check_address` does."""
    check_last(card, last, batch)
    check_sampling(sampling)
    return check_address(address, count, batch)


def check_draws(card: Card, batch: int, last: object, draws: object, count: object) -> tuple[list[Draw], int]:
    """What `MixedEngine.draw_each` is handed besides the state; returns numbers as `check_address` does."""
    check_last(card, last, batch)
    if not isinstance(draws, Sequence) or not all(isinstance(one, Draw) for one in draws):
        raise UsageError(f"there must be a sequence of Draw, not {_kind_of(draws)}")
    if len(draws) != batch:
        raise UsageError(f"there must be a Draw for each of {batch} texts, and there are {len(draws)}")
    number = whole_number(count, "count", 0, MAX_COUNT)
    _check_count(number, batch)
    found = []
    for seed, stream, position, sampling in draws:
        (stream,) = _streams([stream])
        position = _position(position, number)
        found.append(Draw(_integer(seed, "seed") % MAX_POSITION, stream, position, check_sampling(sampling)))
    return found, number


def check_known(card: Card, batch: int, known: object, count: int) -> list[Tokens]:
    """What `PromptedEngine.write_each` is handed besides what `MixedEngine.draw_each` is."""
    if not isinstance(known, Sequence):
        raise UsageError(f"there must be a sequence of known tokens, not {_kind_of(known)}")
    if len(known) != batch:
        raise UsageError(
            f"there must be known tokens, or none, for each of {batch} texts, and there are {len(known)}"
        )
    for tokens in known:
        array = _array(tokens, "known tokens", np.int64, ("length",), (None,))
        if len(_in_vocabulary(card, array)) > count:
            raise UsageError(f"of {count} tokens of a text {len(array)} cannot be known")
    return list(known)


def check_address(address: object, count: object, batch: int) -> tuple[Address, int]:
    """Where the noise of a batch begins, and how many characters of each stream it is for.

    Returns:
        the address in numbers of 64 bits (`noise.Address` takes seed and streams modulo 2**64); the count.
    """
    number = whole_number(count, "count", 0, MAX_COUNT)
    _check_count(number, batch)
    if not isinstance(address, Address):
        raise UsageError(f"the noise's address must be an Address, not {_kind_of(address)}")
    seed = _integer(address.seed, "seed")
    streams = _streams(address.streams)
    if len(streams) != batch:
        raise UsageError(f"there must be a stream for each of {batch} texts, and there are {len(streams)}")
    return Address(seed % MAX_POSITION, streams, _position(address.position, number)), number


def check_snapshot(card: Card, snapshot: object) -> int:
    """The batch of a snapshot: float arrays ``[batch, hidden]`` under the contract's names.

    Raises:
        ContractError: it is of another model, no snapshot, or holds what no text leads to.
    """
    if not isinstance(snapshot, Mapping):
        raise ContractError(f"a snapshot must be a dict of arrays, not {_kind_of(snapshot)}")
    for name, array in snapshot.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            raise ContractError(f"the snapshot's {name!r} must be an array of floats, not {_kind_of(array)}")
    shapes = {name: array.shape for name, array in snapshot.items()}
    batch = next(iter(shapes.values()), (0,))[:1]
    if shapes != dict.fromkeys(card.state_names, (*batch, card.hidden)) or not 1 <= batch[0] <= MAX_BATCH:
        raise ContractError(f"the snapshot does not fit the model: {_wanted_and_found(card, shapes)}")
    for name, array in snapshot.items():
        most = _MOST_CELL if name.startswith("c") else _MOST_STATE
        if not max(array.max(), -array.min()) <= most:  # nor is NaN
            raise ContractError(
                f"the snapshot's {name} holds numbers that no text leads to: it was damaged, or is of another"
                " kind of model"
            )
    return batch[0]


def _array(
    value: object, what: str, kind: type, names: tuple[str, ...], sizes: tuple[int | None, ...]
) -> npt.NDArray[Any]:
    """An array of one type whose dimensions have these sizes (None: any)."""
    if isinstance(value, np.ndarray) and value.dtype == kind and value.ndim == len(sizes):
        if all(size in (None, found) for size, found in zip(sizes, value.shape, strict=True)):
            return value
        shown = (name if size is None else str(size) for name, size in zip(names, sizes, strict=True))
        found = f", here [{', '.join(shown)}], not {list(value.shape)}"
    else:
        found = f", not {_kind_of(value)}"
    raise UsageError(f"{what} must be {np.dtype(kind)} [{', '.join(names)}]{found}")


def _in_vocabulary(card: Card, tokens: Tokens) -> Tokens:
    if tokens.size and not (tokens.min() >= 0 and tokens.max() < card.vocab):
        raise UsageError(
            f"tokens must be 0 to {card.vocab - 1}: one lies outside the vocabulary of {card.vocab}"
        )
    return tokens


def _check_count(count: int, batch: int) -> None:
    if count * batch > MAX_COUNT:
        raise UsageError(f"one call writes at most {MAX_COUNT:,} characters, not {count * batch:,}")


def _streams(streams: Any) -> list[int]:
    """Streams of noise, modulo 2**64."""
    try:
        numbers = [_integer(stream, "stream") for stream in streams]
    except TypeError as error:
        raise UsageError(f"streams must be a sequence, not {_kind_of(streams)}") from error
    if numbers and min(numbers) < 0:
        raise UsageError(f"a stream must be 0 or more, not {min(numbers)}")
    return [number % MAX_POSITION for number in numbers]


def _position(value: object, count: int) -> int:
    """Where so many characters have noise."""
    position = whole_number(value, "position", 0, MAX_POSITION - 1)
    if position + count > MAX_POSITION:
        raise UsageError(f"position {position} is too close to the end of the noise for {count} characters")
    return position


def _integer(value: object, what: str) -> int:
    """Any integer."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise UsageError(f"{what} must be a whole number, not {_kind_of(value)}") from error


def _wanted_and_found(card: Card, shapes: Mapping[str, tuple[int, ...]]) -> str:
    found = ", ".join(f"{name} {list(shape)}" for name, shape in list(shapes.items())[:4])
    more = ", ..." if len(shapes) > 4 else ""
    ends = dict.fromkeys((card.state_names[0], card.state_names[-1]))
    wanted = f"{' to '.join(ends)}, each [batch, {card.hidden}]"
    return f"it has {found or 'nothing'}{more}, and the model needs {wanted}"


def _kind_of(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return f"{type(value).__name__} {value!r:.40}" if isinstance(value, int | float) else type(value).__name__
