"""100,000 prompts on two local workers, one of which is killed. Part of `make ray-test`; half a minute."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

import p2

COUNT, LENGTH, ROWS = 100_000, 20, 1000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


def test_a_hundred_thousand_prompts_and_a_killed_worker(cluster, card_of, write_step, tmp_path, capsys):
    engine, path, folder = write_step(card_of()), tmp_path / "prompts.jsonl", tmp_path / "texts"
    prompts = ["the quick brown fox"[: number % 19 + 1] for number in range(COUNT)]
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    told = []

    def done(part):
        told.append(part)
        if len(told) == COUNT // ROWS // 2:
            os.kill(part.worker, signal.SIGKILL)

    started = time.perf_counter()
    written = p2.ray.write_texts(
        engine, path, folder, length=LENGTH, seed=7, rows=ROWS, workers=2, format="jsonl", done=done
    )
    seconds = time.perf_counter() - started
    assert (written.rows, written.parts, len(told)) == (COUNT, COUNT // ROWS, COUNT // ROWS)
    rows = [json.loads(line) for part in sorted(folder.glob("*.jsonl")) for line in part.open()]
    assert [row["prompt_index"] for row in rows] == [row["stream"] for row in rows] == list(range(COUNT))
    with p2.load(engine) as model:
        wanted = model.texts(prompts, length=LENGTH, seed=7)
        assert [row["text"] for row in rows] == [text.text for text in wanted]
    with capsys.disabled():
        workers = len({part.worker for part in told})
        print(f"\n{COUNT:,} texts of {LENGTH} in {seconds:.0f} s; {workers} processes wrote, 1 was killed")
