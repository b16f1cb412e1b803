"""A folder of texts belongs to one job; a part is there whole or not at all. None of this starts Ray."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

import p2
from p2.contract.errors import P2Error, UsageError
from p2.ray import job as jobs
from p2.ray.job import Job
from p2.ray.rows import find, split
from p2.runtime.generate import Request

ROOT = Path(__file__).parents[2]


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": "the "[: n % 5]}) + "\n" for n in range(10)))
    return path


@pytest.fixture
def job_of(tmp_path, card_of, write_step):
    path = str(write_step(card_of()))

    def make(**settings):
        request = Request(length=12, seed=7, num_samples=2, **settings)
        return Job(path, None, 1, str(tmp_path / "texts"), "jsonl", "prompt", request)

    return make


def parts_of(prompts, rows=4):
    return split(find(prompts), rows, "prompt", lambda function, some: [function(*one) for one in some])


def test_parts_together_are_what_generate_writes(job_of, prompts, tmp_path, capsys):
    job = job_of()
    Path(job.folder).mkdir()
    with p2.load(job.engine) as model:
        for part in reversed(parts_of(prompts)):
            assert job.write(model.engine, part)
            assert not job.write(model.engine, part)
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(json.loads(line)["prompt"] + "\n" for line in prompts.read_text().splitlines()))
    from p2.cli import main

    argv = f"generate --engine {job.engine} --prompts {lines} --length 12 --seed 7 --num-samples 2".split()
    assert main(argv) == 0
    found = "".join(path.read_text() for path in sorted(Path(job.folder).iterdir()))
    assert found == capsys.readouterr().out


def test_a_prompt_that_cannot_be_read_leaves_no_part(job_of, prompts):
    prompts.write_text('"the"\n"the É"\n')
    job = job_of()
    Path(job.folder).mkdir()
    with p2.load(job.engine) as model, pytest.raises(P2Error, match=r"prompts.jsonl: row 2: .*'É'"):
        job.write(model.engine, parts_of(prompts)[0])
    assert list(Path(job.folder).iterdir()) == []


def begun(job, prompts, rows=4, seeded=True):
    _, card = jobs.locate_engine(job.engine)
    return jobs.begin(job, card, find(prompts), rows, seeded)


def test_a_restart_is_the_same_job_or_refused(job_of, prompts):
    job = job_of()
    assert begun(job, prompts) == begun(job, prompts) == job
    with pytest.raises(P2Error, match=r"holds texts of another job \(rows differ\)"):
        begun(job, prompts, rows=5)
    with pytest.raises(P2Error, match=r"another job \(request differ\)"):
        begun(job_of(stop=("x",)), prompts)
    prompts.write_text(prompts.read_text() + '"more"\n')
    with pytest.raises(P2Error, match=r"another job \(prompts differ\)"):
        begun(job, prompts)


def test_a_seed_that_was_drawn_is_kept(job_of, prompts):
    import dataclasses

    job = job_of()
    begun(job, prompts, seeded=False)
    drawn = dataclasses.replace(job, request=dataclasses.replace(job.request, seed=8))
    assert begun(drawn, prompts, seeded=False).request.seed == 7
    with pytest.raises(P2Error, match="request differ"):
        begun(drawn, prompts, seeded=True)


@pytest.mark.parametrize("data", ["", "[]", "{}", '{"request": 1}', "[" * 100_000])
def test_a_damaged_record_is_refused(data, job_of, prompts):
    job = job_of()
    begun(job, prompts)
    (Path(job.folder) / "job.json").write_text(data)
    with pytest.raises(P2Error, match=r"job.json is damaged"):
        begun(job, prompts)


def test_somebody_elses_folder_is_refused(job_of, prompts):
    job = job_of()
    Path(job.folder).mkdir()
    (Path(job.folder) / "thesis.tex").touch()
    with pytest.raises(P2Error, match="holds files that are no job of texts"):
        begun(job, prompts)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"format": "csv"}, "format is parquet or jsonl"),
        ({"rows": 0}, "rows must be"),
        ({"workers": 0}, "workers must be"),
        ({"seed": -1}, "seed must be"),
        ({"cpus": 0}, "a worker needs cpus or gpus"),
        ({"tau": 2, "greedy": True}, "give one of"),
        ({"length": -1}, "length must be"),
    ],
)
def test_bad_values_are_usage_errors(settings, says, job_of, prompts, tmp_path):
    with pytest.raises(UsageError, match=says):
        p2.ray.write_texts(job_of().engine, prompts, tmp_path / "texts", **settings)
    assert not (tmp_path / "texts").exists()


def test_without_ray_it_is_a_sentence(tmp_path, job_of, prompts):
    code = (
        "import sys\n"
        "sys.modules['ray'] = None\n"
        "import p2\n"
        "try:\n"
        f"    p2.ray.write_texts({job_of().engine!r}, {str(prompts)!r}, {str(tmp_path / 'texts')!r})\n"
        "except p2.P2Error as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "is not installed" in done.stdout
    assert "ray" in done.stdout


def test_in_the_checkout_the_library_is_still_the_library():
    """There the room is found first under the library's name."""
    code = (
        "import sys; sys.path.insert(0, '')\n"
        "try:\n"
        "    import ray\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error.name)\n"
        "else:\n"
        "    print(ray.__version__ and ray.__name__, '' in sys.path)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    installed = any(importlib.metadata.distributions(name="ray"))
    assert done.stdout.strip() == ("ray True" if installed else "ray")
