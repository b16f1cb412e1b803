"""Every contender that can run here, held to the same texts as a float64 reference in numpy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2.reports.bench.contender import Model, Running
from p2.reports.bench.contenders import availability, cuda, operator_graph, torch_cell
from p2.reports.bench.contenders.host_loop import HostLoop, Stepper
from p2.reports.bench.contenders.ort_operator import OperatorRunning
from p2.reports.bench.contenders.registry import by_key, contenders, prepare
from p2.runtime import native
from p2.spec import nvidia
from p2.spec.card import Card
from p2.spec.errors import BackendMissing, UsageError
from p2.spec.noise import first_tokens, gumbel

CELLS = [("rnn", "after"), ("lstm", "after"), ("gru", "after"), ("gru", "before")]

# A captured graph without a GPU: the function itself, called again.
GRAPH = "cuda-graph on the processor"

EXACT = [
    "p2-float32",
    "p2-onnxruntime-float32",
    "torch-eager",
    "torch-cell",
    "ort-operator",
    "openvino",
    "openvino-operator",
    GRAPH,
]
# Those that take their noise from `spec.noise`, so that a seed means the same text to all.
SAME_SEED = ["p2-float32", "p2-onnxruntime-float32", "ort-operator", "openvino", "openvino-operator"]

Load = Callable[..., Running]


def pairs(keys: list[str]) -> list[object]:
    return [
        pytest.param(key, cell, reset, id=f"{key}-{cell}-{reset}")
        for key in keys
        for cell, reset in CELLS
        if (key, reset) != ("torch-eager", "before")
    ]


def save_checkpoint(folder: Path, card: Card, parameters: dict[str, npt.NDArray[np.float32]]) -> Card:
    import torch

    from p2.trainer import checkpoint
    from p2.trainer.record import Record

    state = {name: torch.from_numpy(array) for name, array in parameters.items()}
    return checkpoint.save(folder, card, state, Record(options={}, corpus={}, software={}))


@pytest.fixture
def model_of(tmp_path, parameters_of, write_step) -> Callable[..., Model]:
    """A card's random weights in every form: ``model_of(card, precisions=["int8"])``."""

    def make(card: Card, precisions: tuple[str, ...] = ("float32",)) -> Model:
        folder = tmp_path / "checkpoint"
        saved = save_checkpoint(folder, card, parameters_of(card))
        steps = {
            name: write_step(card.with_(precision=name), name=f"charlm-{name}.onnx") for name in precisions
        }
        return Model(card.cell, saved, folder, steps)

    return make


@pytest.fixture
def load(model_of) -> Iterator[Load]:
    """Load a contender, or skip for the reason that it gives: ``load("openvino", card)``."""
    loaded: list[Running] = []

    def make(key: str, card: Card, threads: int | None = 1) -> Running:
        if key == GRAPH:
            model = model_of(card)
            running: Running = cuda.GraphRunning(
                card, 1, torch_cell.folded_cell(model), "cpu", lambda body: body
            )
        else:
            reason = by_key(key).missing(card)
            if reason:
                pytest.skip(reason)
            running = by_key(key).load(model_of(card, (by_key(key).precision,)), threads)
        loaded.append(running)
        return running

    yield make
    for running in loaded:
        running.close()


def followed(model, first, noise) -> npt.NDArray[np.int64]:
    state, token, written = model.zero(len(first)), first, []
    for row in noise:
        token = np.argmax(model.step(state, token) + row, axis=1)
        written.append(token)
    return np.stack(written, axis=1)


def drawn(card: Card, count: int, batch: int = 3) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    rng = np.random.default_rng(7)
    first = rng.integers(card.vocab, size=batch)
    return first, rng.gumbel(size=(count, batch, card.vocab)).astype(np.float32)


@pytest.mark.parametrize(("key", "cell", "reset"), pairs(EXACT))
def test_given_noise_gives_the_reference_text(key, cell, reset, load, card_of, numpy_model):
    card = card_of(cell, reset)
    first, noise = drawn(card, 40)  # more than one captured graph, and a remainder
    running = load(key, card)
    text = running.follow(first, noise)
    assert text.dtype == np.int64
    assert text.tolist() == followed(numpy_model(card), first, noise).tolist()
    assert running.follow(first[:1], noise[:0]).shape == (1, 0)


@pytest.mark.parametrize(("key", "cell", "reset"), pairs(EXACT))
def test_logits_are_those_of_the_reference(key, cell, reset, load, card_of, numpy_model):
    card = card_of(cell, reset)
    tokens = np.random.default_rng(1).integers(card.vocab, size=(2, 12))
    logits = load(key, card).logits(tokens)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, numpy_model(card).run(tokens), rtol=0, atol=1e-4)


@pytest.mark.parametrize("key", EXACT)
@pytest.mark.parametrize("batch", [1, 3])
def test_writing_goes_on_across_calls(key, batch, load, card_of):
    card = card_of("lstm", layers=1)
    running = load(key, card)
    running.start(batch, 5)
    pieces = [running.write(3), running.write(0), running.write(40)]
    assert [piece.shape for piece in pieces] == [(batch, 3), (batch, 0), (batch, 40)]
    text = np.concatenate(pieces, axis=1)
    assert text.dtype == np.int64
    assert (text >= 0).all()
    assert (text < card.vocab).all()
    running.start(batch, 5)
    assert running.write(3).tolist() == pieces[0].tolist()  # the seed decides
    running.start(batch, 6)
    assert np.concatenate([running.write(3), running.write(40)], axis=1).tolist() != text.tolist()


@pytest.mark.parametrize("key", SAME_SEED)
def test_a_seed_gives_the_text_of_the_noise_stream(key, load, card_of, numpy_model):
    card = card_of("gru")
    running = load(key, card)
    running.start(2, 9)
    text = np.concatenate([running.write(3), running.write(4)], axis=1)
    first = first_tokens(9, range(2), card.vocab)
    expected = followed(numpy_model(card), first, gumbel(9, range(2), 1, 7, card.vocab))
    assert text.tolist() == expected.tolist()
    running.start(2, 9)
    assert running.write(7).tolist() == expected.tolist()


@pytest.mark.parametrize("key", EXACT)
def test_reading_leaves_the_text_being_written_alone(key, load, card_of):
    card = card_of("rnn", layers=1)
    running = load(key, card)
    running.start(2, 3)
    expected = running.write(6)
    running.start(2, 3)
    begun = running.write(2)
    running.read(np.random.default_rng(2).integers(card.vocab, size=(1, 50)))
    assert np.concatenate([begun, running.write(4)], axis=1).tolist() == expected.tolist()


@pytest.mark.parametrize("key", ["torch-eager", "torch-cell", GRAPH])
def test_own_random_numbers_draw_from_the_softmax(key, tmp_path, card_of, parameters_of):
    card = card_of("lstm", layers=1)
    weights = np.random.default_rng(0).dirichlet(np.ones(card.vocab))
    parameters = {name: np.zeros_like(array) for name, array in parameters_of(card).items()}
    parameters["output.bias"] = np.log(weights).astype(np.float32)  # whatever was read before
    model = Model("biased", save_checkpoint(tmp_path, card, parameters), tmp_path, {})
    if key == GRAPH:
        advance = torch_cell.folded_cell(model)
        running: Running = cuda.GraphRunning(card, 1, advance, "cpu", lambda body: body)
    else:
        running = by_key(key).load(model, 1)
    running.start(64, 0)
    counts = np.bincount(running.write(150).ravel(), minlength=card.vocab)
    total = counts.sum()
    deviation = np.sqrt(total * weights * (1 - weights))
    assert (abs(counts - total * weights) < 5 * deviation + 1).all()


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "reset"), [("lstm", "after"), ("gru", "after")])
def test_compiled_step(cell, reset, load, card_of, numpy_model):
    card = card_of(cell, reset)
    running = load("torch-compile", card)
    first, noise = drawn(card, 20, batch=1)
    assert running.follow(first, noise).tolist() == followed(numpy_model(card), first, noise).tolist()
    logits = running.logits(first[None])
    np.testing.assert_allclose(logits, numpy_model(card).run(first[None]), rtol=0, atol=1e-4)
    running.start(1, 4)
    text = running.write(5)
    running.start(1, 4)
    assert np.concatenate([running.write(2), running.write(3)], axis=1).tolist() == text.tolist()


@pytest.mark.parametrize(
    ("precision", "least", "most"),
    [("float16", 1e-6, 0.02), ("int8", 1e-4, 0.1), ("int4", 1e-2, 2.0)],
)
def test_p2_loads_the_precision_that_it_is_named_after(precision, least, most, load, card_of, numpy_model):
    card = card_of("lstm")
    tokens = np.random.default_rng(1).integers(card.vocab, size=(2, 12))
    error = abs(load(f"p2-{precision}", card).logits(tokens) - numpy_model(card).run(tokens)).max()
    assert least < error < most


@pytest.mark.gpu
@pytest.mark.parametrize("key", ["cuda-eager", "cuda-graph", "ort-cuda"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_gpu_writes_the_reference_text(key, cell, load, card_of, numpy_model):
    card = card_of(cell)
    first, noise = drawn(card, 40)
    running = load(key, card)
    assert running.follow(first, noise).tolist() == followed(numpy_model(card), first, noise).tolist()
    running.start(3, 1)
    assert running.write(40).shape == (3, 40)
    running.read(first[None])


class Chain(Stepper):
    """A step whose prediction depends on the token and on how many came before it."""

    def __init__(self, batch: int) -> None:
        self.token = np.zeros(batch, np.int64)
        self.steps = 0

    def step(self) -> npt.NDArray[np.float32]:
        self.steps += 1
        return np.stack([chain_row(token, self.steps) for token in self.token.tolist()])


def chain_row(token: int, position: int) -> npt.NDArray[np.float32]:
    return np.cos(np.arange(31, dtype=np.float32) * (token + 1) + position)


class Chains(HostLoop):
    def open(self, batch: int) -> Stepper:
        return Chain(batch)


@given(cuts=st.lists(st.integers(0, 9), max_size=5), batch=st.integers(1, 4), seed=st.integers(0, 2**64))
@settings(max_examples=30, deadline=None)
def test_the_loop_in_python_writes_the_same_text_however_it_is_cut(cuts, batch, seed):
    from p2.reports.bench.contenders import host_loop

    card = Card("lstm", 1, 8, 16, "".join(map(chr, range(97, 128))))
    running = Chains(card, 1)
    running.start(batch, seed)
    before, host_loop.NOISE_NUMBERS = host_loop.NOISE_NUMBERS, 2 * batch * card.vocab  # two rows at a time
    try:
        text = np.concatenate([running.write(0), *(running.write(count) for count in cuts)], axis=1)
    finally:
        host_loop.NOISE_NUMBERS = before
    token, count = first_tokens(seed, range(batch), card.vocab), sum(cuts)
    for index, row in enumerate(gumbel(seed, range(batch), 1, count, card.vocab)):
        token = np.array(
            [np.argmax(chain_row(int(one), index + 1) + noise) for one, noise in zip(token, row, strict=True)]
        )
        assert text[:, index].tolist() == token.tolist()


@pytest.mark.parametrize(("cell", "reset"), CELLS)
def test_operator_graph_is_valid_and_made_once(cell, reset, tmp_path, card_of, parameters_of):
    import onnx

    card = card_of(cell, reset, layers=3)
    saved = save_checkpoint(tmp_path / "checkpoint", card, parameters_of(card))
    model = Model("three layers", saved, tmp_path / "checkpoint", {"float32": tmp_path / "charlm.onnx"})
    prepare(model)
    path = operator_graph.ensure(model)
    assert path.parent == tmp_path
    onnx.checker.check_model(onnx.load(path), full_check=True)
    made = path.stat().st_mtime_ns
    prepare(model)
    assert path.stat().st_mtime_ns == made
    other = Model(model.name, model.card.with_(checkpoint_sha256="d" * 64), model.checkpoint, model.steps)
    assert operator_graph.ensure(other) != path


def test_a_model_too_large_for_one_file_is_refused(model_of, card_of, monkeypatch):
    monkeypatch.setattr("p2.export.graph.MAX_BYTES", 1000)
    with pytest.raises(Exception, match="one ONNX file holds at most 2 GiB"):
        prepare(model_of(card_of()))


@pytest.mark.parametrize("key", ["p2-float32", "ort-operator", "openvino", "openvino-operator"])
def test_contenders_without_torch_do_not_load_it(key, model_of, card_of):
    model = model_of(card_of())
    if reason := by_key(key).missing(model.card):
        pytest.skip(reason)
    prepare(model)
    card, paths = json.dumps(model.card.to_dict()), [str(model.checkpoint), str(model.steps["float32"])]
    code = (
        "import sys, json\nfrom pathlib import Path\n"
        "from p2.reports.bench.contender import Model\nfrom p2.spec.card import Card\n"
        "from p2.reports.bench.contenders.registry import by_key\n"
        f"checkpoint, step = map(Path, {paths!r})\ncard = Card.from_dict(json.loads({card!r}), '')\n"
        f"running = by_key({key!r}).load(Model('m', card, checkpoint, {{'float32': step}}), 1)\n"
        "running.start(1, 0)\nassert running.write(3).shape == (1, 3)\n"
        "print('torch' in sys.modules, running.threads)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False 1\n"), done.stderr


def test_openvino_tells_nobody_that_it_runs(tmp_path):
    if reason := by_key("openvino").missing(Card("rnn", 1, 1, 1, "a")):
        pytest.skip(reason)
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from p2.spec.card import Card\nfrom p2.spec.errors import P2Error\n"
        "from p2.reports.bench.contenders.openvino_contender import OpenVinoRunning\n"
        "try: OpenVinoRunning(Card('rnn', 1, 1, 1, 'a'), Path('missing.onnx'), 1)\n"
        "except P2Error as error: print(error)\n"
        "print('openvino' in sys.modules, [m for m in sys.modules if m.startswith('openvino_telemetry.')])"
    )
    home = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=home)
    assert done.returncode == 0, done.stderr
    said, loaded = done.stdout.strip().splitlines()
    assert said.startswith("OpenVINO does not take missing.onnx: ")
    assert loaded == "True []"
    assert list(tmp_path.iterdir()) == []


def test_asking_what_is_missing_imports_nothing_heavy(card_of):
    card = json.dumps(card_of().to_dict())
    code = (
        "import sys, json\nfrom p2.spec.card import Card\n"
        "from p2.reports.bench.contenders.registry import contenders\n"
        f"for contender in contenders(): contender.missing(Card.from_dict(json.loads({card!r}), ''))\n"
        "print({'torch', 'onnx', 'onnxruntime', 'openvino', 'tensorrt', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


PACKAGES = {
    "p2-onnxruntime-int8": ("onnxruntime", "ONNX Runtime is not installed: pip install 'p2[cpu]'"),
    "torch-eager": ("torch", "PyTorch is not installed: pip install 'p2[train]'"),
    "torch-cell": ("torch", "PyTorch is not installed: pip install 'p2[train]'"),
    "torch-compile": ("torch", "PyTorch is not installed: pip install 'p2[train]'"),
    "ort-operator": ("onnxruntime", "ONNX Runtime is not installed: pip install 'p2[cpu]'"),
    "openvino": ("openvino", "OpenVINO is not installed: pip install 'p2[bench]'"),
    "openvino-operator": ("openvino", "OpenVINO is not installed: pip install 'p2[bench]'"),
    "cuda-eager": ("torch", "PyTorch is not installed: pip install 'p2[train]'"),
    "cuda-graph": ("torch", "PyTorch is not installed: pip install 'p2[train]'"),
    "ort-cuda": ("onnxruntime", "ONNX Runtime is not installed: pip install 'p2[gpu]'"),
}
A_GPU = nvidia.Gpus((nvidia.Gpu("NVIDIA Test", (9, 0), 1 << 30),))


@pytest.mark.parametrize("key", PACKAGES)
def test_a_missing_package_is_named_with_its_cure(key, card_of, monkeypatch):
    monkeypatch.setattr(nvidia, "gpus", lambda: A_GPU)
    monkeypatch.setattr(native, "available", lambda: True)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    gone: set[str] = set()
    found = types.SimpleNamespace(find_spec=lambda name: None if name in gone else object())
    monkeypatch.setattr(availability.importlib, "util", found)
    monkeypatch.setattr(torch_cell.Path, "exists", lambda path: True)
    assert by_key(key).missing(card_of()) is None
    package, sentence = PACKAGES[key]
    gone.add(package)
    assert by_key(key).missing(card_of()) == sentence


@pytest.mark.parametrize("key", ["cuda-eager", "cuda-graph", "ort-cuda", "p2-tensorrt-float16"])
def test_without_a_gpu_they_say_so(key, card_of, monkeypatch):
    monkeypatch.setattr(nvidia, "gpus", lambda: nvidia.Gpus(problem="no NVIDIA driver is installed"))
    expected = "it needs an NVIDIA GPU, and no NVIDIA driver is installed"
    assert by_key(key).missing(card_of()) == expected


def test_tensorrt_needs_its_library_and_a_plan(model_of, card_of, monkeypatch):
    contender = by_key("p2-tensorrt-float32")
    monkeypatch.setattr(nvidia, "gpus", lambda: A_GPU)
    monkeypatch.setattr(nvidia, "installed", lambda flavour: False)
    reason = "neither TensorRT nor TensorRT-RTX is installed: pip install 'p2[gpu]'"
    assert contender.missing(card_of()) == reason
    monkeypatch.setattr(nvidia, "installed", lambda flavour: flavour.name == "tensorrt")
    assert contender.missing(card_of()) is None
    with pytest.raises(UsageError, match="lstm has no plan in float32 beside its step"):
        contender.load(model_of(card_of()), None)


def test_torch_compile_names_what_it_lacks(card_of, monkeypatch):
    contender = by_key("torch-compile")
    monkeypatch.setenv("CXX", "no-such-compiler")
    reason = "torch.compile needs a C++ compiler, and no-such-compiler is not installed"
    assert contender.missing(card_of()) == reason
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(torch_cell.sysconfig, "get_path", lambda name: "/nowhere")
    assert "Python.h" in str(contender.missing(card_of()))


@pytest.mark.parametrize("key", ["torch-eager", "cuda-eager", "ort-cuda"])
def test_libraries_without_the_original_gru_say_so(key, card_of, monkeypatch):
    monkeypatch.setattr(nvidia, "gpus", lambda: A_GPU)
    reason = by_key(key).missing(card_of("gru", "before"))
    assert reason is not None
    assert reason.endswith("before it")


def test_onnx_runtime_without_the_provider_is_refused(model_of, card_of):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")
    with pytest.raises(BackendMissing, match="this ONNX Runtime has no CUDAExecutionProvider, only "):
        by_key("ort-cuda").load(model_of(card_of()), None)


def test_a_graph_that_onnx_runtime_refuses_is_a_sentence(model_of, card_of):
    model = model_of(card_of())
    operator_graph.ensure(model).write_bytes(b"not a graph")
    with pytest.raises(BackendMissing, match=r"ONNX Runtime does not run operator-\w+\.onnx on CPU"):
        OperatorRunning(model, 1)


def test_a_precision_that_was_not_exported_is_named(model_of, card_of):
    with pytest.raises(UsageError, match="lstm was not exported in int4"):
        by_key("p2-int4").load(model_of(card_of()), None)


SIGNAL_AFTER_CLOSING = """
import gc, signal, sys
from pathlib import Path
from p2.reports.bench.contenders.openvino_contender import OpenVinoRunning
from p2.runtime.step_file import open_step

path = Path(sys.argv[1])
heard = []
signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
one, other = (OpenVinoRunning(open_step(path).card, path, 1) for _ in range(2))
one.close()
del one
gc.collect()
other.close()
del other
gc.collect()
signal.raise_signal(signal.SIGUSR1)
assert heard
"""


def test_a_signal_after_openvino_is_heard(write_step, card_of):
    """Closed in the order of opening, two plugins left no stack for a handler: a signal ended the process."""
    if by_key("openvino").missing(card_of()) is not None:
        pytest.skip("OpenVINO is not installed")
    # faulthandler has the main thread use a stack for handlers, as pytest does.
    command = [sys.executable, "-X", "faulthandler", "-c", SIGNAL_AFTER_CLOSING, write_step(card_of())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_threads_are_as_asked(load, card_of):
    import torch

    before = torch.get_num_threads()
    try:
        for key in ("torch-eager", "ort-operator", "openvino", "p2-float32"):
            if by_key(key).missing(card_of()) is None:
                assert load(key, card_of(), 1).threads == 1
        assert load("ort-operator", card_of(), None).threads == availability.processors()
        if by_key("openvino").missing(card_of()) is None:
            assert load("openvino", card_of(), None).threads >= 1
    finally:
        torch.set_num_threads(before)


def test_registry_lists_each_once():
    listed = contenders()
    keys = [contender.key for contender in listed]
    assert len(set(keys)) == len(keys)
    assert keys[:4] == ["p2-float32", "p2-float16", "p2-int8", "p2-int4"]
    titles = {(contender.title, contender.device) for contender in listed}
    assert len(titles) == len(listed)
    assert {contender.group for contender in listed} == {"p2", "peer", "variant"}
    assert {contender.device for contender in listed} == {"cpu", "cuda"}
    with pytest.raises(UsageError, match="unknown contender 'fast': choose from p2-float32, "):
        by_key("fast")
