"""Two workers of a local Ray, one of which is killed: nothing is lost, nothing is there twice."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
from pathlib import Path

import pytest

import p2
from p2.contract.errors import P2Error

# Ray leaves sockets and files of its own to the end of the process.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
PROMPTS = ["the ", "", "quick brown", "fox jumps over", "lazy"]


def test_a_worker_that_is_killed_loses_and_doubles_nothing(cluster, card_of, write_step, tmp_path):
    engine = write_step(card_of())
    prompts = [PROMPTS[number % 5] for number in range(600)]
    lines = [json.dumps({"prompt": prompt}) for prompt in prompts]
    (tmp_path / "a.jsonl").write_text("\n".join(lines[:250]))
    (tmp_path / "b.jsonl").write_text("\n".join(lines[250:]) + "\n")
    killed, told = [], []

    def done(part):
        told.append(part.path.name)
        if len(told) == 2:
            killed.append(part.worker)
            os.kill(part.worker, signal.SIGKILL)

    def write(seed=7):
        return p2.ray.write_texts(
            engine,
            tmp_path / "?.jsonl",
            tmp_path / "texts",
            length=30,
            seed=seed,
            rows=16,
            workers=2,
            done=done,
        )

    written = write()
    assert killed
    assert (written.rows, written.parts, written.before) == (600, len(told), 0)
    assert len(set(told)) == len(told)

    from pyarrow import parquet

    found = [
        row for name in sorted(told) for row in parquet.read_table(tmp_path / "texts" / name).to_pylist()
    ]
    with p2.load(engine) as model:
        wanted = list(model.texts(prompts, length=30, seed=7))
    assert [row["text"] for row in found] == [text.text for text in wanted]
    assert [(row["prompt_index"], row["stream"]) for row in found] == [(n, n) for n in range(600)]
    assert {path.name for path in (tmp_path / "texts").iterdir()} == {*told, "job.json"}

    # What is there is not written again; what is missing is written as it was.
    gone = tmp_path / "texts" / sorted(told)[3]
    before = parquet.read_table(gone)
    gone.unlink()
    told.clear()
    assert write(seed=None).before == written.parts - 1
    assert told == [gone.name]
    assert parquet.read_table(gone) == before


def test_the_call_of_the_page_runs(cluster, card_of, write_step, tmp_path, monkeypatch):
    from pyarrow import Table, parquet

    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    write_step(card_of())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts").mkdir()
    parquet.write_table(Table.from_pydict({"prompt": ["the ", "a "]}), "prompts/1.parquet")
    exec(compile(block, str(PAGE), "exec"), {})
    (written,) = (tmp_path / "texts").glob("*.parquet")
    found = parquet.read_table(written).to_pylist()
    with p2.load("charlm.onnx") as model:
        wanted = [text.text for text in model.texts(["the ", "a "], length=300, tau=2, seed=7)]
    assert [row["text"] for row in found] == wanted


def test_a_bad_prompt_ends_the_job_with_its_sentence(cluster, card_of, write_step, tmp_path):
    (tmp_path / "a.jsonl").write_text('"the"\n' * 10 + '"É"\n')
    with pytest.raises(P2Error, match=r"a.jsonl: row 11: .*'É'"):
        p2.ray.write_texts(write_step(card_of()), tmp_path / "a.jsonl", tmp_path / "texts", rows=4, length=3)


def test_workers_that_die_again_and_again_end_the_job(cluster, card_of, write_step, tmp_path):
    (tmp_path / "a.jsonl").write_text('"the"\n' * 8)
    killed, enough = set(), threading.Event()

    def kill() -> None:
        while not enough.wait(0.02):
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    said = process.read_bytes()
                    if said.startswith(b"ray::MapWorker") and b"__init__" not in said:
                        os.kill(int(process.parent.name), signal.SIGKILL)
                        killed.add(process.parent.name)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(P2Error, match=r"^workers died again and again at the same prompts.* goes on"):
            p2.ray.write_texts(
                write_step(card_of()), tmp_path / "a.jsonl", tmp_path / "texts", rows=4, length=3, workers=1
            )
    finally:
        enough.set()
        killer.join()
    assert len(killed) > 1


def test_a_cluster_without_room_is_a_sentence(cluster, card_of, write_step, tmp_path):
    (tmp_path / "a.jsonl").write_text('"the"\n')
    with pytest.raises(P2Error, match="no room for 1 workers of 1 CPU, 1 GPU each: the cluster has 2 CPU, 0"):
        p2.ray.write_texts(write_step(card_of()), tmp_path / "a.jsonl", tmp_path / "texts", gpus=1)
