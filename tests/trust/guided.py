"""Hostile files by what they reach: libFuzzer chooses what is changed. A program of its own.

``python -m p2.tests.trust.guided FOLDER TRACES SEED COUNT UNTIL`` tries inputs of nearly all readers: so
many, or where UNTIL is not None, to that second of the epoch. An input is the choices that a reader's
`forge` makes, so its checksums fit. libFuzzer keeps what reaches something new in p2's Python, and in the
compiled decoder where that tells, and goes on from there. FOLDER/told.json then tells of each reader.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import resource
import sys
import time
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parent.parent.parent
TESTS = [
    ".".join(("p2", *path.relative_to(ROOT).with_suffix("").parts)) for path in ROOT.glob("tests/**/*.py")
]
LEFT_OUT = (
    "import: .keras, .h5",  # HDF5 tries them in a process of its own
    "requests",  # threads of a server
    "snapshots",  # made by a seed, whatever is chosen
)
LENGTH = 200  # bytes of choices
BEGINNINGS = 30


class Choices(random.Random):
    """Draws bytes that are given; 0 after them."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data, self._at = data, 0

    def getrandbits(self, k: int, /) -> int:
        """So many bits."""
        count = -(-k // 8)
        taken = self._data[self._at : self._at + count]
        self._at += count
        return int.from_bytes(taken, "little") & (1 << k) - 1

    def random(self) -> float:
        """From 0 to 1, without 1."""
        return self.getrandbits(16) / 2**16


def main(folder: Path, traces: Path, seed: int, count: int, until: float | None) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    inside, corpus = folder / "input", folder / "corpus"
    corpus.mkdir()
    rnd = random.Random(seed)
    for number in range(BEGINNINGS):
        (corpus / str(number)).write_bytes(rnd.randbytes(LENGTH))
    with atheris.instrument_imports(include=["p2"], exclude=["p2.tests", *TESTS]):
        import pytest

        from .. import tracing
        from . import read_models, readers, reading

        tracing.FOLDER.append(traces)

        readers.without_pictures(pytest.MonkeyPatch())
        ours = [one for one in readers.ALL if one.name not in LEFT_OUT]
        ours = [
            dataclasses.replace(one, read=read_models.read_step) if one.read is read_models.run_step else one
            for one in ours
        ]
        for one in ours:  # imports and first uses are no input's
            reading.write(inside, one.good(0))
            one.read(inside)
    # Under AddressSanitizer a reader that runs PyTorch takes 128 MiB, and hardly any without; a loop over the
    # characters of a text 6 seconds, and 0.1 without: `check_hostile` says what time and memory p2 takes.
    sanitised = "ASAN_OPTIONS" in os.environ
    slack = (8 if sanitised else 1) * reading.SLACK
    most = (12 if sanitised else 1) * reading.MOST_SECONDS
    told = {one.name: reading.Told() for one in ours}

    def one_input(data: bytes) -> None:
        choices = Choices(data)
        reader = choices.choice(ours)
        files = reader.forge(reader.good(choices.randrange(reading.KINDS)), choices)
        reading.try_one(reader, inside, files, told[reader.name], slack, most)
        tried = sum(one.inputs for one in told.values())
        faults = sum(len(one.faults) for one in told.values())
        over = tried >= count if until is None else time.time() >= until
        if over or faults > reading.MOST_FAULTS:
            (folder / "told.json").write_text(json.dumps({name: vars(one) for name, one in told.items()}))
            os._exit(0)  # libFuzzer knows no end by a clock or count of ours

    options = ["-timeout=0", "-rss_limit_mb=0", "-malloc_limit_mb=0", "-detect_leaks=0", "-len_control=0"]
    words = [f"-seed={1 + seed % 2**31}", f"-max_len={LENGTH}", f"-artifact_prefix={folder}/", str(corpus)]
    atheris.Setup([sys.argv[0], *options, *words], one_input)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what readers print
    atheris.Fuzz()


if __name__ == "__main__":
    _folder, _traces, _seed, _count, _until = sys.argv[1:]
    main(Path(_folder), Path(_traces), int(_seed), int(_count), None if _until == "None" else float(_until))
