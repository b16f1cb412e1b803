"""Faults in a server's batches: rows, states, noise and pieces of texts that join and leave."""

from __future__ import annotations

from .planting import Mutant

_INTERLEAVED = "serve/test_completions.py::test_500_interleaved_requests_all_equal_p2_generate"

MUTANTS = (
    Mutant(
        "who joins stands before those who are there, and their rows behind",
        "serve/rows.py",
        "self.texts = [*(self.texts[row] for row in stay), *joining]",
        "self.texts = [*joining, *(self.texts[row] for row in stay)]",
        _INTERLEAVED,
    ),
    Mutant(
        "who stays takes over the rows of those who left",
        "serve/rows.py",
        "self._places = [self._places[row] for row in stay]",
        "self._places = self._places[: len(stay)]",
        _INTERLEAVED,
    ),
    Mutant(
        "a text that comes back has lost its state",
        "serve/rows.py",
        "self._places.append(self._zeros if text.state is None else text.state)",
        "self._places.append(self._zeros)",
        "serve/test_rows.py",
    ),
    Mutant(
        "a new text begins with the state that was in its place",
        "serve/rows.py",
        "self._places.append(self._zeros if",
        "self._places.append((self._copy([0]) if self._rows else self._zeros) if",
        _INTERLEAVED,
    ),
    Mutant(
        "who leaves takes the first row along",
        "serve/rows.py",
        "text.state = self._copy([place]) if isinstance(place, int) else place",
        "text.state = self._copy([0]) if isinstance(place, int) else place",
        "serve/test_rows.py",
    ),
    Mutant(
        "a text's noise is that of the next character",
        "serve/text.py",
        "return Draw(self.seed, self.stream, self.written, self.sampling)",
        "return Draw(self.seed, self.stream, self.written + 1, self.sampling)",
        _INTERLEAVED,
    ),
    Mutant(
        "a first character is drawn from the first stream",
        "serve/text.py",
        "first_tokens(self.seed, [self.stream], vocab)",
        "first_tokens(self.seed, [0], vocab)",
        "serve/test_completions.py::test_prompts_and_choices_are_numbered_as_p2_generate_numbers_them",
    ),
    Mutant(
        "characters beyond the length are shown",
        "serve/text.py",
        "        characters = characters[: self.left]\n",
        "",
        _INTERLEAVED,
    ),
    Mutant(
        "what is held back for a moment is forgotten",
        "serve/text.py",
        "self._held += characters",
        "self._held = characters",
        _INTERLEAVED,
    ),
    Mutant(
        "a prompt's last character is read twice",
        "serve/text.py",
        "return max(0, len(self.prompt) - 1 - self.read)",
        "return max(0, len(self.prompt) - self.read)",
        _INTERLEAVED,
    ),
    Mutant(
        "the newest character of a text is another text's",
        "serve/batcher.py",
        "text.advance(tokens[row], own,",
        "text.advance(tokens[0], own,",
        _INTERLEAVED,
    ),
    Mutant(
        "probabilities of two texts are each other's",
        "serve/rows.py",
        "before = self.copy_of(scored) if scored else None",
        "before = self.copy_of(scored[::-1]) if scored else None",
        "serve/test_completions.py::test_logprobs_of_texts_side_by_side_are_their_own",
    ),
    Mutant(
        "a prompt is read on from a step too early",
        "serve/rows.py",
        "            text.read += steps\n",
        "            text.read += max(1, steps - 1)\n",
        "serve/test_rows.py",
    ),
    Mutant(
        "what is known of a text is shown as written",
        "serve/text.py",
        "self.push(characters[known:], now, apart)",
        "self.push(characters, now, apart)",
        _INTERLEAVED,
    ),
    Mutant(
        "C: the noise of a text begins with its prompt",
        "runtime/native/loops.c",
        "if (!alone) draw(d, how, chosen, m->vocab);",
        "if (!alone) draw(d, how, step, m->vocab);",
        "runtime/test_mixed.py::test_prompts_that_end_in_the_middle_of_a_chunk",
    ),
    Mutant(
        "all choices of a request have one stream",
        "serve/completions.py",
        "                stream=number,\n",
        "                stream=0,\n",
        "serve/test_completions.py::test_prompts_and_choices_are_numbered_as_p2_generate_numbers_them",
    ),
)
