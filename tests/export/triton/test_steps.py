"""The step behind Triton's sequence batcher writes what `p2 generate` writes, whoever is in the batch."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")

import p2
from p2.contract import noise, sampling
from p2.contract.codec import Codec

from .simulator import Request, Steps


class Client:
    """Samples outside: the next request of its sequence follows from the logits of the one before."""

    def __init__(
        self, number: int, codec: Codec, prompt: str, length: int, settings: sampling.Sampling
    ) -> None:
        self.number, self.codec, self.length, self.settings = number, codec, length, settings
        self.prompt, self.waiting = codec.encode(prompt), None
        self.written: list[int] = []
        self.fed = 0

    def next(self) -> Request | None:
        if self.waiting is not None:
            return None
        text = [*self.prompt.tolist(), *self.written]
        if len(self.written) == self.length:
            return None
        last = self.fed == len(self.prompt) + self.length - 2
        self.waiting = Request(1000 + self.number, text[self.fed], start=self.fed == 0, end=last)
        self.fed += 1
        return self.waiting

    def take(self) -> None:
        if self.waiting is None or not self.waiting.answered.is_set():
            return
        logits, self.waiting = self.waiting.logits[None], None
        if self.fed >= len(self.prompt):
            vocab = len(self.codec.vocabulary)
            drawn = noise.gumbel(7, [self.number], len(self.written), 1, vocab)[0]
            scaled = sampling.scale_noise(drawn, self.settings)
            self.written.append(int(sampling.choose(logits, scaled, self.settings)[0]))

    @property
    def text(self) -> str:
        return self.codec.decode(self.written)


def test_interleaved_sequences_write_what_generate_writes(exported, monkeypatch):
    chance = random.Random(3)
    steps = Steps(exported / "charlm_step")
    steps.slots, steps.config.max_batch_size = 5, 3
    settings = sampling.Sampling(0.5, top_k=12)
    with p2.load(exported.parent / "charlm.onnx") as model:
        codec = Codec(model.card.vocabulary)
        prompts = ["the quick ", "she", "s", "fox jumps over the lazy dog.\n"]
        clients = [
            Client(n, codec, chance.choice(prompts), chance.randint(1, 40), settings) for n in range(14)
        ]
        wanted = {
            client.number: model.generate(
                codec.decode(client.prompt),
                length=client.length,
                seed=7,
                temperature=0.5,
                top_k=12,
                first_stream=client.number,
            )
            for client in clients
        }
    waiting = 0
    while any(len(client.written) < client.length for client in clients):
        for client in chance.sample(clients, len(clients)):
            request = client.next() if chance.random() < 0.7 else None
            if request is not None:
                steps.submit(request)
        waiting = max(waiting, len(steps.backlog))
        steps.step()
        for client in clients:
            client.take()
    assert {client.number: client.text for client in clients} == wanted
    assert waiting  # slots were used again
    assert {1, 2, 3} <= set(steps.batches)
    assert not steps.live


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_states_keep_their_type(precision, card_of, write_step, tmp_path):
    from p2.export.triton.repository import Repository

    onnx = write_step(card_of(precision=precision))
    Repository(tmp_path / "models", "m").put(onnx, None, lambda _: None)
    steps = Steps(tmp_path / "models" / "m_step")
    requests = [Request(n, n, start=True, end=False) for n in range(3)]
    for turn in range(2):
        for request in requests:
            steps.submit(request)
        assert steps.step()
        requests = [Request(n, n + turn, start=False, end=turn == 0) for n in range(3)]
    assert steps.batches == [3, 3]
    assert not steps.live
