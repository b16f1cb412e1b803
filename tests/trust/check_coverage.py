"""Hostile files by what they reach: atheris, and in a soak the decoder under Clang's sanitizers."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from p2.runtime import native

from .. import tracing
from . import read_models
from .check_decoder import sanitised
from .conftest import Trust
from .reading import KINDS, ROOT, kept

FOUND = importlib.util.find_spec("atheris")

pytestmark = pytest.mark.skipif(FOUND is None, reason="no atheris here: pip install atheris")


@pytest.mark.weight(60)
def test_what_reaches_something_new_is_a_sentence(trust, tmp_path):
    (tmp_path / "p2").symlink_to(ROOT)
    reached(trust, tmp_path, trust.times(250), "p2's Python", {})


@pytest.mark.weight(120)
@pytest.mark.skipif(shutil.which("clang") is None, reason="no clang here")
@pytest.mark.skipif(native.problem() is not None, reason="no compiled decoder here")
def test_nor_does_it_lead_the_decoder_out_of_its_memory(trust, tmp_path):
    if trust.scale == 1 and trust.until is None:
        pytest.skip("in a soak: Clang takes long over the sanitizers")
    flags = "-fsanitize=address,undefined,fuzzer-no-link", "-fno-sanitize-recover=undefined"
    # Of what is reached the kernels decide nothing; `check_decoder` watches them.
    package = sanitised(tmp_path, [], *flags, compiler="clang")
    more = {
        "LD_PRELOAD": str(Path(FOUND.origin).parent.parent / "asan_with_fuzzer.so"),
        "PYTHONMALLOC": "malloc",
        # What is freed stays out of use for a while, but within the memory that a reader may take.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=8",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    said = reached(trust, package, trust.times(300), "p2's Python and the decoder, sanitizers", more)
    assert "inline 8-bit counters" in said, "the decoder does not say what is reached in it"


def reached(trust: Trust, package: Path, count: int, name: str, more: dict[str, str]) -> str:
    """Count what `guided` tried; a fault fails with what was said, and its input is kept."""
    environment = {**os.environ, "PYTHONPATH": str(package), "XDG_CACHE_HOME": str(package / "cache"), **more}
    for number in range(KINDS):
        read_models.step(number)  # traced here, where others need it, too
    words = [str(package), str(tracing.FOLDER[0]), str(trust.seed), str(count), str(trust.until)]
    done = subprocess.run(
        [sys.executable, "-m", "p2.tests.trust.guided", *words],
        env=environment, cwd=package, stderr=subprocess.PIPE, text=True, errors="replace", check=False,
    )  # fmt: skip
    told = package / "told.json"
    if done.returncode or not told.exists():
        raise AssertionError(f"{done.stderr[-6000:]}\n{kept(package / 'input', 'guided')}")
    places = [int(number) for number in re.findall(r"cov: (\d+)", done.stderr)] or [0]
    rows = json.loads(told.read_text())
    faults = [fault for row in rows.values() for fault in row["faults"]]
    counts = {key: sum(row[key] for row in rows.values()) for key in ("inputs", "refused", "read")}
    counts |= {"places at first": places[0], "places at the end": places[-1]}
    trust.count("Hostile files by what they reach", name, **counts)
    assert not faults, "\n\n".join(faults)
    return done.stderr
