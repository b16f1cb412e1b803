"""Token files: the text comes back, hostile ones are refused, and what is trained from one is the same."""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2.contract.errors import ContractError, P2Error, UsageError
from p2.trainer import checkpoint, loop, token_file
from p2.trainer.corpus import load
from p2.trainer.display import Silent
from p2.trainer.reader import Reader
from p2.trainer.tokenizing import tokenize
from p2.trainer.windows import Lanes, RandomWindows, split, widened

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


def packed(*blocks: str) -> bytes:
    file = io.BytesIO()
    token_file.pack(file, blocks, "a test")
    return file.getvalue()


def write(path: Path, data: bytes | str) -> str:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def built(count: int, width: int, tokens: bytes, **changes: object) -> bytes:
    """A token file by the description in the module, made without its code."""
    description = {
        "format": "p2 tokens 1",
        "vocabulary": "abc",
        "sha256": "0" * 64,
        "characters": count,
        "text": "a test",
        "producer": "a test",
    }
    data = json.dumps(description | changes).encode()
    header = struct.pack("<8sQII8x", b"P2TOKENS", count, width, len(data))
    return header + hashlib.sha256(data).digest() + tokens + data


@given(st.lists(TEXTS, min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_any_text_in_any_blocks_comes_back(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tokens"
    path.write_bytes(packed(*blocks))
    found, text = token_file.open_tokens(path), "".join(blocks)
    assert "".join(found.blocks()) == text
    assert found.vocabulary == "".join(sorted(set(text)))
    assert found.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert np.asarray(found.tokens).tolist() == [found.vocabulary.index(character) for character in text]


@pytest.mark.parametrize(
    ("counts", "chunk"),
    [
        *((counts, chunk) for counts in ((255,), (256,), (200, 100, 300)) for chunk in (1, 3, 1 << 20)),
        *((counts, 1 << 16) for counts in ((65_535,), (3, 70_000, 2))),
    ],
)
def test_tokens_grow_while_the_text_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: tuple[int, ...], chunk: int
) -> None:
    """The numbers widen from one to two to four bytes where they lie, and nothing is lost on the way."""
    monkeypatch.setattr(token_file, "_CHUNK", chunk)
    # Downwards, so that the order in which they come is not that of the vocabulary.
    points = iter(range(0x30000, 0x30000 - sum(counts), -1))
    blocks = ["".join(chr(next(points)) for _ in range(count)) for count in counts]
    path = tmp_path / "a.tokens"
    path.write_bytes(packed("aa", *blocks, "a"))
    found = token_file.open_tokens(path)
    distinct = sum(counts) + 1
    assert found.tokens.width == (1 if distinct <= 256 else 2 if distinct <= 65_536 else 4)
    assert "".join(found.blocks()) == "aa" + "".join(blocks) + "a"


def test_the_format_is_as_it_is_described(tmp_path: Path) -> None:
    assert packed("cab")[: 64 + 3][64:] == bytes([2, 0, 1])
    path = tmp_path / "a.tokens"
    path.write_bytes(built(5, 1, bytes([0, 2, 1, 0, 0])))
    assert "".join(token_file.open_tokens(path).blocks()) == "acbaa"
    wide = "".join(map(chr, range(0x100, 0x100 + 300)))
    path.write_bytes(built(2, 2, b"\x01\x00\x2b\x01", vocabulary=wide))
    assert "".join(token_file.open_tokens(path).blocks()) == "\u0101\u022b"


GOOD = built(5, 1, bytes([0, 2, 1, 0, 0]))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (GOOD[:63], "is no token file"),
        (b"P3" + GOOD[2:], "is no token file"),
        (GOOD[:-1], "bytes, and its header asks for"),
        (GOOD + b"\0", "bytes, and its header asks for"),
        (GOOD[:8] + struct.pack("<Q", 1 << 63) + GOOD[16:], "bytes, and its header asks for"),
        (GOOD[:16] + struct.pack("<I", 3) + GOOD[20:], "its header makes no sense"),
        (GOOD[:20] + struct.pack("<I", 0xFFFFFFFF) + GOOD[24:], "its header makes no sense"),
        (GOOD.replace(b'"abc"', b'"abd"'), "does not have the checksum"),
        (built(5, 1, bytes(5), vocabulary="acb"), "contradicts itself"),
        (built(5, 1, bytes(5), vocabulary="aab"), "contradicts itself"),
        (built(5, 1, bytes(5), vocabulary=""), "contradicts itself"),
        (built(5, 1, bytes(5), vocabulary="a\ud800"), "contradicts itself"),
        (built(5, 1, bytes(5), characters=4), "contradicts itself"),
        (built(5, 2, bytes(10)), "3 characters do not take 2 bytes each"),
        (built(5, 1, bytes(5), vocabulary="".join(map(chr, range(1, 300)))), "299 characters do not take"),
        (built(5, 1, bytes(5), vocabulary=["a"]), "is damaged: vocabulary is not text"),
        (built(5, 1, bytes(5), format="p2 tokens 9"), "has the format 'p2 tokens 9'"),
        (built(0, 1, b"", characters=0), "is damaged: characters is not at least 1"),
    ],
)
def test_a_damaged_or_hostile_file_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "a.tokens"
    path.write_bytes(data)
    with pytest.raises(ContractError, match=said):
        token_file.open_tokens(path)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
@settings(max_examples=25, deadline=None)
def test_a_file_with_any_byte_changed_is_refused_or_holds_three_characters(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.tokens"
    path.write_bytes(GOOD[:place] + bytes([byte]) + GOOD[place + 1 :])
    found, said = "", "flipped.tokens is"
    try:
        found = "".join(Reader([str(path)]))
    except P2Error as error:
        said = str(error)
    assert set(found) <= set("abc")
    assert re.search(r"flipped\.tokens (is|has)", said)


def test_a_token_beyond_the_vocabulary_is_found_when_it_is_drawn(tmp_path: Path) -> None:
    """The embedding would be read out of its bounds."""
    corpus = load([write(tmp_path / "a.tokens", built(40, 1, bytes(30) + b"\x03" + bytes(9)))])
    draw = RandomWindows(corpus.tokens, 4, 64, 0).batch
    with pytest.raises(ContractError, match="holds tokens that are not in its vocabulary"):
        [draw(step) for step in range(4)]
    with pytest.raises(ContractError, match="holds tokens that are not in its vocabulary"):
        widened(corpus.encode("abcd")[20:], torch.device("cpu"))


def test_what_is_drawn_is_the_same_as_from_memory(tmp_path: Path, text: str) -> None:
    name = write(tmp_path / "a.txt", text)
    memory = load([name])
    stored = load([str(tokenize([name], tmp_path / "a.tokens").path)])
    assert (stored.vocabulary, stored.sha256, stored.text) == (memory.vocabulary, memory.sha256, text)
    other = "".join(sorted(set(memory.vocabulary) | set(map(chr, range(0x100, 0x300)))))
    for vocabulary in (memory.vocabulary, other):
        here, there = (corpus.encode(vocabulary) for corpus in (memory, stored))
        assert here.dtype == there.dtype
        for kind in (RandomWindows, Lanes):
            parts = zip(split(here, 0.2, 8), split(there, 0.2, 8), strict=True)
            for one, two in parts:
                for step in (0, 1, 5):
                    pairs = zip(kind(one, 8, 4, 3).batch(step), kind(two, 8, 4, 3).batch(step), strict=True)
                    assert all((a == b).all() for a, b in pairs)
    assert stored.at(7) == text[7]
    assert stored.first_of({text[9]}) == text.index(text[9])
    with pytest.raises(UsageError, match=r"the text holds 't' .* at position 0, not in the vocabulary"):
        stored.encode("e")
    assert stored.head(100).text == text[:100]
    kept = stored.only(memory.vocabulary.replace("e", ""))
    assert kept.text == text.replace("e", "")
    assert kept.sha256 == hashlib.sha256(kept.text.encode()).hexdigest()
    assert isinstance(kept.tokens, token_file.Stored)  # on a disk, as what it was made of


@pytest.mark.usefixtures("without_curve")
def test_training_resuming_and_tuning_from_one_is_training_from_its_text(
    tmp_path: Path, text_file: Path, options: Callable
) -> None:
    stored = str(tokenize([str(text_file)], tmp_path / "a.tokens").path)

    def weights(out: str) -> dict[str, object]:
        found = checkpoint.load(tmp_path / out / "last")
        assert found.card.corpus_sha256 == hashlib.sha256(text_file.read_bytes()).hexdigest()
        return {name: tensor.tolist() for name, tensor in found.model_state.items()}

    def train(out: str, source: str, **changes: object) -> None:
        loop.train(options(out=tmp_path / out, **changes), load([source]), Silent())

    train("text", str(text_file))
    train("tokens", stored)
    assert weights("tokens") == weights("text")
    # Each goes on with the other's text, which is the same.
    loop.resume({"out": tmp_path / "text", "steps": 6}, [stored], Silent())
    loop.resume({"out": tmp_path / "tokens", "steps": 6}, [], Silent())
    assert weights("tokens") == weights("text")
    for out, source in (("tuned", str(text_file)), ("tuned from tokens", stored)):
        train(out, source, init_from=tmp_path / "text" / "last", steps=2)
    assert weights("tuned from tokens") == weights("tuned")
    write(text_file, text_file.read_text() + "x")
    with pytest.raises(P2Error, match="not the one that the run began with"):
        loop.resume({"out": tmp_path / "text", "steps": 8}, [str(text_file)], Silent())


def test_token_files_among_texts_are_read_as_texts(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.txt", "abc\n"), write(tmp_path / "b.txt", "xyz")
    stored = str(tokenize([b], tmp_path / "b.tokens").path)
    assert load([a, stored, a]).text == load([a, b]).text == "abc\nxyz"
    joined = tokenize([stored, a], tmp_path / "both.tokens")
    assert load([str(joined.path)]).text == "xyz\nabc\n"
    assert load([stored], column="text").text == "xyz"  # it has no columns, and needs none


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "a.txt", "abc"), write(tmp_path / "b.txt", b"abc\xff\xfe\xfd")
    out = tmp_path / "a.tokens"
    tokenize([good], out)
    before = out.read_bytes()
    for texts, said in (
        ([bad], "b.txt is not UTF-8"),
        ([write(tmp_path / "c.txt", " \n")], "there is no text"),
    ):
        with pytest.raises(P2Error, match=said):
            tokenize(texts, out)
        assert out.read_bytes() == before
    tokenize([str(out), good], out)  # it may be made of itself
    assert load([str(out)]).text == "abc\nabc"
    with pytest.raises(P2Error, match=r"b\.txt is there, and is no token file"):
        tokenize([good], Path(bad))
    with pytest.raises(P2Error, match="it is a folder, and a token file is one file"):
        tokenize([good], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tokens", "a.txt", "b.txt", "c.txt"]


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from p2.trainer.corpus import load
from p2.trainer.tokenizing import tokenize

small, text, out = sys.argv[1:]
load([str(tokenize([small], Path(out)).path)])  # what is loaded once does not count
pages = int(Path("/proc/self/statm").read_text().split()[5])
most = pages * resource.getpagesize() + (5 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
try:
    load([text])
    sys.exit("it fits into the memory: this shows nothing")
except MemoryError:
    pass
corpus = load([str(tokenize([text], Path(out)).path)])
for vocabulary in (corpus.vocabulary, corpus.vocabulary + chr(0x1F600)):
    tokens = corpus.encode(vocabulary)[len(corpus) // 10 :]
    for window in (np.arange(start, start + 65) for start in range(0, len(tokens) - 65, 1 << 16)):
        tokens.take(window)
print(corpus.sha256)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not limit this memory")
def test_a_text_larger_than_the_memory_is_written_and_drawn_from(tmp_path: Path) -> None:
    """With 5 MiB of memory left for 12 MB of text."""
    line = "".join(f"{chr(0x100 + n % 150)}{n} words\n" for n in range(1000))
    small, large = write(tmp_path / "a.txt", line), write(tmp_path / "b.txt", line * 900)
    argv = [sys.executable, "-c", LITTLE_MEMORY, small, large, str(tmp_path / "a.tokens")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.strip() == hashlib.sha256(Path(large).read_bytes()).hexdigest()
