"""Many texts out of an engine, group by group: memory grows with a group, not with the job.

Text number t of a job, counted over all prompts and samples, draws its noise from stream
``first_stream + t``. So what it says depends neither on the texts beside it nor on how a job is cut
into runs; engines that round differently for another batch can differ where two characters tie.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ..contract.codec import Codec, Tokens, UnknownCharacter
from ..contract.engine import Engine
from ..contract.errors import NotFinite, P2Error
from .decoder import Decoder
from .generate import Cutter, PieceWriter, Request

# Texts written side by side: enough to use the processor fully, and the batch plans are built for.
GROUP = 64

# Characters between two looks at whether texts that met a stop string can leave their group. A
# fixed number, so that the batch of every step, and with it any rounding, is the same in each run.
CLOSE_RANKS = 64


@dataclass(frozen=True)
class Text:
    """One text of a job.

    Attributes:
        prompt_index: which prompt, from 0.
        sample: which text for that prompt, from 0.
        stream: stream of its noise.
        prompt: the prompt as it was given.
        text: what was written after the prompt.
        stopped: whether a stop string ended it.
        error: why it ended before it was as long as wanted: the model computed NaN; empty if it did not.
    """

    prompt_index: int
    sample: int
    stream: int
    prompt: str
    text: str
    stopped: bool
    error: str = ""


@dataclass
class _Row:
    """A text while it is being written."""

    prompt_index: int
    sample: int
    stream: int
    prompt: str
    tokens: Tokens
    cutter: Cutter
    pieces: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def ended(self) -> bool:
        return self.cutter.stopped or bool(self.error)

    def text(self) -> Text:
        written = "".join([*self.pieces, self.cutter.finish()])
        return Text(
            self.prompt_index,
            self.sample,
            self.stream,
            self.prompt,
            written,
            self.cutter.stopped,
            self.error,
        )


def write_texts(
    engine: Engine,
    request: Request,
    prompts: Iterable[str] | None = None,
    advance: Callable[[int], None] = lambda _: None,
    waits: Callable[[], bool] = lambda: False,
) -> Iterator[Text]:
    """Write ``num_samples`` texts for every prompt.

    Args:
        engine: any backend.
        request: what to write.
        prompts: read as they are needed, an empty one starts from a random character; with None, the
            request's own prompt is the only one.
        advance: told, piece by piece, how many more characters of the job are done; a text that
            ends early counts in full.
        waits: whether the next prompt has not come yet; those before it are then answered first.

    Yields:
        the texts in order, as soon as the group that they belong to is done.

    Raises:
        UnknownCharacter: a prompt holds a character that the model does not know.
        NotFinite: the model computed NaN for some texts (`Text.error`); all have been handed out then.
    """
    codec = Codec(engine.card.vocabulary)
    texts, errors = 0, list[str]()
    for group in _groups(_rows(codec, request, prompts, waits)):
        # The first character of a text without a prompt is drawn, not decoded.
        for batch in ([r for r in group if len(r.tokens)], [r for r in group if not len(r.tokens)]):
            if batch:
                _write(engine, codec, request, batch, advance)
        for row in group:
            yield row.text()
        texts += len(group)
        errors += [row.error for row in group if row.error]
    if errors:
        said = errors[0] if texts == 1 else f"{len(errors):,} of {texts:,} texts: {errors[0]}"
        raise NotFinite(said, ())


def _groups(rows: Iterator[_Row | None]) -> Iterator[list[_Row]]:
    """Rows by the `GROUP`, or fewer where a None says that the next one has not come yet."""
    group: list[_Row] = []
    try:
        for row in rows:
            if row is not None:
                group.append(row)
            if group and (row is None or len(group) == GROUP):
                yield group
                group = []
    except P2Error:
        if group:  # what came before a prompt that is refused
            yield group
        raise
    if group:
        yield group


def encode_prompt(codec: Codec, prompt: str, index: int, on_unknown: str) -> Tokens:
    """Tokens of one of many prompts, int64 ``[length]``.

    Raises:
        UnknownCharacter: names the line, the character and its position.
    """
    try:
        return codec.encode(prompt, on_unknown)
    except UnknownCharacter as error:
        raise UnknownCharacter(f"line {index + 1} of the prompts: {error}") from error


def _rows(
    codec: Codec, request: Request, prompts: Iterable[str] | None, waits: Callable[[], bool]
) -> Iterator[_Row | None]:
    stream = request.first_stream
    for index, prompt in enumerate([request.prompt] if prompts is None else prompts):
        if prompts is None:
            tokens = codec.encode(prompt, request.on_unknown)
        else:
            tokens = encode_prompt(codec, prompt, index, request.on_unknown)
        for sample in range(request.num_samples):
            yield _Row(index, sample, stream, prompt, tokens, Cutter(request.stop))
            stream += 1
        if waits():
            yield None


def _write(
    engine: Engine, codec: Codec, request: Request, rows: list[_Row], advance: Callable[[int], None]
) -> None:
    """Write all rows to their end; either all of them have a prompt or none has."""
    decoder = Decoder(engine, request.sampling, request.seed, [row.stream for row in rows])
    writer, batch, written = PieceWriter(), len(rows), 0
    if len(rows[0].tokens):
        with contextlib.suppress(NotFinite):  # writing says so, too
            decoder.begin([row.tokens for row in rows])
    while rows and written < request.length:
        most = request.length - written
        if request.stop:
            most = min(most, CLOSE_RANKS - written % CLOSE_RANKS)
        try:
            tokens = writer.write(decoder, most)
        except NotFinite as error:
            for row in (rows[at] for at in error.rows):
                row.error = row.error or ("" if row.ended else str(error))
            if len(error.rows) == len(rows):
                break
            tokens = error.result
        written += tokens.shape[1]
        advance(batch * tokens.shape[1])
        for row, new in zip(rows, tokens, strict=True):
            if not row.error:
                row.pieces.append(row.cutter.push(codec.decode(new)))
        going = [index for index, row in enumerate(rows) if not row.ended]
        if not going or (written % CLOSE_RANKS == 0 and 2 * len(going) <= len(rows)):
            rows = [rows[index] for index in going]
            if rows:
                decoder.keep(going)
    advance(batch * (request.length - written))
