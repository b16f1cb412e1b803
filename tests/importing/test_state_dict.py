"""A state_dict of anybody's: models of several authors, names of all kinds, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import p2
from p2.cli import main
from p2.contract.errors import P2Error
from p2.importing.mapping import apply
from p2.importing.recognise import recognise
from p2.importing.source import kind_of_source
from p2.importing.weights import read_weights

from .conftest import CHARACTERS, V

H = 12


class Embedded(nn.Module):
    """The usual one: embedding, layers of one module, linear."""

    def __init__(self, kind=nn.LSTM, layers=2, width=8, bias=True, vocab=V, hidden=H):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.rnn = kind(width, hidden, layers, batch_first=True, bias=bias)
        self.fc = nn.Linear(hidden, vocab, bias=bias)

    def forward(self, x):
        return self.fc(self.rnn(self.embedding(x))[0])


class OneHot(nn.Module):
    """char-rnn's way: no embedding, no biases."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.GRU(V, H, 1, batch_first=True, bias=False)
        self.out = nn.Linear(H, V, bias=False)

    def forward(self, x):
        return self.out(self.lstm(F.one_hot(x, V).float())[0])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(V, H)
        self.rnn = nn.RNN(H, H, 2, batch_first=True)
        self.decoder = nn.Linear(H, V)
        self.decoder.weight = self.encoder.weight

    def forward(self, x):
        return self.decoder(self.rnn(self.encoder(x))[0])


class Several(nn.Module):
    """AWD-LSTM's way: a module a layer, eleven of them, so that 10 comes after 9."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(V, H)
        self.rnns = nn.ModuleList(nn.LSTM(H, H, batch_first=True) for _ in range(11))
        self.decoder = nn.Linear(H, V)

    def forward(self, x):
        x = self.encoder(x)
        for rnn in self.rnns:
            x, _ = rnn(x)
        return self.decoder(x)


class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(V, 5)
        self.cells = nn.ModuleList([nn.GRUCell(5, H), nn.GRUCell(H, H)])
        self.head = nn.Linear(H, V)

    def forward(self, x):
        x = self.emb(x)[0]
        for cell in self.cells:
            h, states = torch.zeros(1, H), []
            for one in x:
                h = cell(one[None], h)
                states.append(h)
            x = torch.cat(states)
        return self.head(x)[None]


class ByHand(nn.Module):
    """Matrices of one's own, as a course asks for them: [hidden, inputs], one bias a gate."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(V, H)
        for gate in "gifo":
            setattr(self, f"W_{gate}x", nn.Parameter(torch.randn(H, H) / 3))
            setattr(self, f"W_{gate}h", nn.Parameter(torch.randn(H, H) / 3))
            setattr(self, f"b_{gate}", nn.Parameter(torch.randn(H, 1) / 3))
        self.W_ph = nn.Parameter(torch.randn(V, H))
        self.b_p = nn.Parameter(torch.randn(V, 1))

    def forward(self, x):
        h = c = torch.zeros(H, 1)
        found = []
        for one in self.embedding(x)[0]:
            g, i, f, o = (
                getattr(self, f"W_{k}x") @ one[:, None]
                + getattr(self, f"W_{k}h") @ h
                + getattr(self, f"b_{k}")
                for k in "gifo"
            )
            c = g.tanh() * i.sigmoid() + c * f.sigmoid()
            h = c.tanh() * o.sigmoid()
            found.append((self.W_ph @ h + self.b_p)[:, 0])
        return torch.stack(found)[None]


class FromTheBook(nn.Module):
    """A GRU as a textbook writes it: [inputs, hidden], one-hot, reset before the product."""

    def __init__(self):
        super().__init__()
        for gate in "zrh":
            setattr(self, f"W_x{gate}", nn.Parameter(torch.randn(V, H) / 3))
            setattr(self, f"W_h{gate}", nn.Parameter(torch.randn(H, H) / 3))
            setattr(self, f"b_{gate}", nn.Parameter(torch.randn(H) / 3))
        self.W_hq = nn.Parameter(torch.randn(H, V))
        self.b_q = nn.Parameter(torch.randn(V))

    def forward(self, x):
        h, found = torch.zeros(1, H), []
        for one in F.one_hot(x, V).float()[0]:
            z = torch.sigmoid(one @ self.W_xz + h @ self.W_hz + self.b_z)
            r = torch.sigmoid(one @ self.W_xr + h @ self.W_hr + self.b_r)
            n = torch.tanh(one @ self.W_xh + (r * h) @ self.W_hh + self.b_h)
            h = z * h + (1 - z) * n
            found.append(h @ self.W_hq + self.b_q)
        return torch.cat(found)[None]


def logits_of(model):
    @torch.no_grad()
    def logits(tokens):
        return model(torch.from_numpy(tokens)[None])[0].float().numpy()

    return logits


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(3)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_it_writes_what_the_usual_model_writes(kind, tmp_path, writes_the_same):
    model = Embedded(kind)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    made = writes_the_same(tmp_path / "model.pt", logits_of(model), export=kind is nn.LSTM)
    record = json.loads((made.folder / "model.json").read_text())["training"]["imported"]
    assert record["largest_difference"] == made.difference
    assert record["steps"] == made.steps == 256
    assert [row["tensor"] for row in record["mapped"]] == list(model.state_dict())
    assert any("sorted" in note for note in made.notes)


@pytest.mark.parametrize("author", [OneHot, Tied, Several, Cells], ids=lambda author: author.__name__)
def test_it_writes_what_other_models_write(author, tmp_path, writes_the_same):
    model = author()
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "decoder.weight"}
    if author is not Tied:
        state = model.state_dict()
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    writes_the_same(tmp_path / "model.safetensors", logits_of(model))


@pytest.mark.parametrize("author", [ByHand, FromTheBook], ids=lambda author: author.__name__)
def test_matrices_by_hand_need_a_mapping_whose_draft_is_printed(
    author, tmp_path, vocab, capsys, writes_the_same
):
    model = author()
    path = tmp_path / "model.pt"
    torch.save(model.state_dict(), path)
    out = str(tmp_path / "none")
    assert main(["import", str(path), "--vocab", str(vocab), "--out", out]) == 1
    assert "--print-mapping" in capsys.readouterr().err
    assert main(["import", str(path), "--print-mapping"]) == 0
    draft = capsys.readouterr().out
    (tmp_path / "mapping.json").write_text(draft)
    of_the_book = author is FromTheBook
    made = writes_the_same(path, logits_of(model), of_the_book, mapping=tmp_path / "mapping.json")
    assert made.judge == "its equations in numpy"
    assert (made.card.gru_reset == "before") == of_the_book


def test_a_tensor_may_have_its_gates_in_any_order(tmp_path, vocab):
    model = Embedded(nn.LSTM, layers=1)
    turned = {**model.state_dict()}
    layer: dict[str, str] = {"gates": "ogif"}
    for kind, name in (
        ("input", "weight_ih"),
        ("recurrent", "weight_hh"),
        ("input_bias", "bias_ih"),
        ("recurrent_bias", "bias_hh"),
    ):
        i, f, g, o = turned.pop(f"rnn.{name}_l0").chunk(4)
        turned[f"own.{kind}"] = torch.cat([o, g, i, f])
        layer[kind] = f"own.{kind}"
    mapping = {
        "cell": "lstm", "embedding": "embedding.weight", "layers": [layer],
        "output": "fc.weight", "output_bias": "fc.bias",
    }  # fmt: skip
    torch.save(turned, tmp_path / "turned.pt")
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    (tmp_path / "mapping.json").write_text(json.dumps(mapping))
    ours = p2.import_model(
        tmp_path / "turned.pt", vocab=vocab, out=tmp_path / "a", mapping=tmp_path / "mapping.json"
    )
    plain = p2.import_model(tmp_path / "plain.pt", vocab=vocab, out=tmp_path / "b")
    assert ours.card.checkpoint_sha256 == plain.card.checkpoint_sha256


def test_a_gate_may_be_negated(tmp_path, vocab):
    """h' = z * n + (1 - z) * h is the same with the weights of z turned."""
    model = Embedded(nn.GRU, layers=1)
    turned = {**model.state_dict()}
    rows = slice(H, 2 * H)
    parts = {
        "input": "weight_ih",
        "recurrent": "weight_hh",
        "input_bias": "bias_ih",
        "recurrent_bias": "bias_hh",
    }
    layer: dict[str, dict[str, str]] = {}
    for kind, name in parts.items():
        whole = turned.pop(f"rnn.{name}_l0").clone()
        whole[rows] *= -1
        for gate, part in zip("rzn", whole.chunk(3), strict=True):
            turned[f"{name}_{gate}"] = part.clone()
        layer[kind] = {"r": f"{name}_r", "z": f"-{name}_z", "n": f"{name}_n"}
    mapping = {
        "cell": "gru", "embedding": "embedding.weight", "layers": [layer],
        "output": "fc.weight", "output_bias": "fc.bias",
    }  # fmt: skip
    torch.save(turned, tmp_path / "turned.pt")
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    (tmp_path / "mapping.json").write_text(json.dumps(mapping))
    ours = p2.import_model(
        tmp_path / "turned.pt", vocab=vocab, out=tmp_path / "a", mapping=tmp_path / "mapping.json"
    )
    plain = p2.import_model(tmp_path / "plain.pt", vocab=vocab, out=tmp_path / "b")
    assert ours.card.checkpoint_sha256 == plain.card.checkpoint_sha256


@settings(max_examples=40, deadline=None)
@given(
    prefix=st.sampled_from(["", "module.", "_orig_mod.", "model.net.", "a_b.0."]),
    names=st.sampled_from(
        [("emb", "rnn", "fc"), ("wte", "gru_1", "lm_head"), ("encoder", "core.lstm", "decoder")]
    ),
    sizes=st.tuples(*[st.integers(1, 7)] * 3, st.integers(2, 7)),
    kind=st.sampled_from([nn.RNN, nn.LSTM, nn.GRU]),
    bias=st.booleans(),
)
def test_whatever_the_prefixes_and_sizes(prefix, names, sizes, kind, bias):
    """Even where embedding and output layer are of one shape."""
    layers, width, hidden, vocab = sizes
    model = Embedded(kind, layers, width, bias, vocab, hidden)
    renamed = dict(zip(("embedding", "rnn", "fc"), names, strict=True))
    state = {
        f"{prefix}{renamed[name.partition('.')[0]]}.{name.partition('.')[2]}": tensor
        for name, tensor in model.state_dict().items()
    }
    found = apply(recognise(state, "x"), state, "x")
    tokens = np.arange(9) % vocab
    torch.testing.assert_close(
        torch.from_numpy(found.predict(tokens)), torch.from_numpy(logits_of(model)(tokens))
    )
    assert np.array_equal(found.embedding, model.embedding.weight.detach())
    assert np.array_equal(found.w_out, model.fc.weight.detach())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_and_a_larger_checkpoint(dtype, tmp_path, vocab):
    model = Embedded().to(dtype)
    whole = {
        "epoch": 3,
        "model_state_dict": model.state_dict(),
        "optimizer": {"state": {}, "param_groups": []},
    }
    torch.save(whole, tmp_path / "last.pt")
    made = p2.import_model(tmp_path / "last.pt", vocab=vocab, out=tmp_path / "out")
    assert made.difference < 1e-5
    assert any("model_state_dict" in note for note in made.notes)


def changed(**changes):
    return {**Embedded().state_dict(), **changes}


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def _cut(path):
    torch.save(changed(), path)
    path.write_bytes(path.read_bytes()[:-200])


def _bomb(path):
    torch.save(changed(), path)
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in entries.items():
            new.writestr(name, data + bytes(4 << 20) if name.endswith("data/0") else data)


REFUSED = {
    "bidirectional": (
        changed(**{"rnn.weight_ih_l0_reverse": torch.zeros(4 * H, 8)}),
        "rnn.weight_ih_l0_reverse",
    ),
    "projection": (changed(**{"rnn.weight_hr_l0": torch.zeros(4, H)}), "projection"),
    "attention": (changed(**{"attn.in_proj_weight": torch.zeros(H, H)}), "attn.in_proj_weight"),
    "normalisation": (changed(**{"norm.weight": torch.zeros(H)}), "a normalisation"),
    "extra": (changed(what=torch.zeros(2, 3, 4)), "'what' (2 x 3 x 4)"),
    "integers": (changed(steps=torch.zeros(3, dtype=torch.int64)), "'steps' (3), of torch.int64"),
    "nan": (changed(**{"fc.bias": torch.full((V,), float("nan"))}), "'fc.bias' holds NaN"),
    "infinity": (
        changed(**{"rnn.bias_ih_l1": torch.full((4 * H,), 1e300, dtype=torch.float64)}),
        "'rnn.bias_ih_l1' holds NaN or infinity",
    ),
    "expanded": (changed(**{"fc.weight": torch.zeros(1).expand(V, H)}), "fewer are there"),
    "another cell": (changed(**{"rnn.weight_hh_l1": torch.zeros(2 * H, H)}), "of no cell"),
    "a layer left out": (
        {k.replace("_l1", "_l2"): v for k, v in changed().items()},
        "no matrix 'rnn.weight_ih_l1'",
    ),
    "float inputs": ({k: v for k, v in changed().items() if "emb" not in k}, "has no embedding"),
    "no output": ({k: v for k, v in changed().items() if "fc" not in k}, "no output layer"),
    "two widths": (
        changed(**{"rnn.weight_ih_l1": torch.zeros(4 * H, 7)}),
        "layer 1's input matrix is 48 x 7",
    ),
    "no recurrent layer": ({"a.weight": torch.zeros(3, 3)}, "no recurrent layer"),
    "no tensors": ({"a": 3}, "no state_dict"),
    "a list": ([torch.zeros(3)], "no state_dict"),
    "code": ({**changed(), "x": Harmful()}, "would run code"),
    "a module": (Embedded(), "would run code"),
    "cut": (_cut, "is a damaged zip archive"),
    "bomb": (_bomb, "that claim to be"),
    "text": (lambda path: path.write_text("weights"), "is a text; p2 import reads"),
    "empty": (lambda path: path.write_bytes(b""), "is an empty file"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(Harmful())), "is a Python pickle"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "nothing": (lambda path: None, "cannot read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named_and_nothing_is_written(name, tmp_path, vocab, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    what, said = REFUSED[name]
    path = tmp_path / "model.pt"
    if callable(what) and not isinstance(what, nn.Module):
        what(path)
    else:
        torch.save(what, path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["import", str(path), "--vocab", str(vocab), "--out", "out"]) == 1
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out
    assert sorted(tmp_path.rglob("*")) == before


LAYER = {"input": "rnn.weight_ih_l0", "recurrent": "rnn.weight_hh_l0"}
WHOLE = {"cell": "lstm", "embedding": "embedding.weight", "layers": [LAYER], "output": "fc.weight"}


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({**WHOLE, "output": "?"}, "holds no tensor '?'"),
        (WHOLE, "'rnn.bias_ih_l0' (48)"),
        ({**WHOLE, "cell": "qrnn"}, "no cell 'qrnn'"),
        ({**WHOLE, "reset": "before"}, "no cell 'lstm' with the reset 'before'"),
        ({**WHOLE, "extra": 1}, "unknown field 'extra'"),
        ({**WHOLE, "layers": []}, "layers is not at least 1"),
        ({**WHOLE, "layers": [{**LAYER, "input": "rnn.weight_ih_l0.T"}]}, "the input matrix is 2 x 48"),
        ({**WHOLE, "layers": [{**LAYER, "gates": "ifg"}]}, "the gates of this cell are ifgo"),
        (
            {**WHOLE, "layers": [{**LAYER, "input": {"i": "fc.weight"}}]},
            "a tensor for each of the gates ifgo",
        ),
        (
            {**WHOLE, "layers": [{**LAYER, "input": dict.fromkeys("ifgo", "fc.weight")}]},
            "the input matrix is",
        ),
        ({**WHOLE, "layers": [{**LAYER, "input_bias": "fc.weight"}]}, "no vector for"),
        ({**WHOLE, "layers": [{"input": "x"}]}, "layers[0].recurrent is missing"),
    ],
)
def test_a_mapping_that_does_not_fit(mapping, said, tmp_path, vocab):
    torch.save(Embedded(layers=1).state_dict(), tmp_path / "model.pt")
    (tmp_path / "mapping.json").write_text(json.dumps(mapping))
    with pytest.raises(P2Error) as error:
        p2.import_model(
            tmp_path / "model.pt", vocab=vocab, out=tmp_path / "out", mapping=tmp_path / "mapping.json"
        )
    assert said in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path, vocab, capsys):
    torch.save(Embedded().state_dict(), tmp_path / "model.pt")
    out = tmp_path / "out"
    p2.import_model(tmp_path / "model.pt", vocab=vocab, out=out)
    before = (out / "model.json").read_bytes()
    assert main(["import", str(tmp_path / "model.pt"), "--vocab", str(vocab), "-o", str(out)]) == 1
    assert "not empty" in capsys.readouterr().err
    assert (out / "model.json").read_bytes() == before
    assert main(["inspect", str(out)]) == 0
    assert "from model.pt" in capsys.readouterr().out


def test_the_command_shows_what_was_mapped_to_what(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(Embedded(layers=1).state_dict(), "model.pt")
    (tmp_path / "text.txt").write_text(CHARACTERS * 3)
    assert main(["import", "model.pt", "--vocab-from", "text.txt", "-o", "out"]) == 0
    shown = capsys.readouterr().out
    assert "rnn.weight_hh_l0" in shown
    assert "layer 0, recurrent" in shown
    assert "the largest difference from torch.nn over 256 steps: 0" in shown
    assert shown.endswith("next: p2 export out\n")
    assert main(["import", "model.pt", "-o", "other"]) == 2
    assert "give --vocab FILE" in capsys.readouterr().err


def test_a_file_that_changes_after_it_was_recognised(tmp_path):
    """By another program, or on a disk that fails: its zip archive has no list of files any more."""
    path = tmp_path / "model.pt"
    torch.save(Embedded().state_dict(), path)
    kind = kind_of_source(path)
    path.write_bytes(path.read_bytes().replace(b"PK\1\2", b"PK\1\3"))
    with pytest.raises(P2Error, match="is not a readable PyTorch file"):
        read_weights(path, kind)
