"""What a server counts, in Prometheus' form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

if TYPE_CHECKING:
    from .batcher import Batcher

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Meters:
    """The meters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(name, what, labels, registry=registry)

        def gauge(name: str, what: str) -> Gauge:
            return Gauge(name, what, ("model",), registry=registry)

        def histogram(name: str, what: str, label: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(name, what, (label,), buckets=buckets, registry=registry)

        self.requests = counter("p2_requests", "Requests that were answered.", "path", "status")
        self.request_seconds = histogram("p2_request_seconds", "From request to end of answer.", "path")
        self.characters = counter("p2_characters", "Characters that were written.", "model")
        self.prompt_characters = counter("p2_prompt_characters", "Characters of prompts.", "model")
        self.first = histogram("p2_first_character_seconds", "From request to its first character.", "model")
        self.chunk_seconds = histogram("p2_chunk_seconds", "Of one chunk of the batch.", "model")
        self.batch = histogram("p2_batch_texts", "Texts of a chunk.", "model", _TEXTS)
        self._waiting = gauge("p2_waiting_texts", "Texts in the queue.")
        self._running = gauge("p2_running_texts", "Texts that are being read or written.")
        self._paused = gauge("p2_paused_texts", "Texts whose readers are slow.")
        self._occupancy = gauge("p2_batch_occupancy", "Share of the places that are taken.")

    def chunk(self, model: str, texts: int, characters: int, seconds: float) -> None:
        """A model has written a chunk."""
        self.characters.labels(model).inc(characters)
        self.chunk_seconds.labels(model).observe(seconds)
        self.batch.labels(model).observe(texts)

    def page(self, batchers: Mapping[str, Batcher]) -> bytes:
        """All meters as they stand now."""
        for model, batcher in batchers.items():
            counts = batcher.counts()
            self._waiting.labels(model).set(counts["waiting"])
            self._paused.labels(model).set(counts["paused"])
            self._running.labels(model).set(counts["running"])
            self._occupancy.labels(model).set(counts["running"] / batcher.places)
        return generate_latest(self._registry)
