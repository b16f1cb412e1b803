"""How long a chunk is: what is written of all texts, for the time that it takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2.serve.pace import BORDER_SHARE, CHUNK_SECONDS, LONGEST_CHUNK_SECONDS, MOST_CHARACTERS, Pace, chunk


@given(st.lists(st.integers(1, 600), min_size=1, max_size=64), st.integers(1, 512))
def test_no_other_length_writes_more_in_the_same_time(left, most):
    def rate(steps):
        return sum(min(one, steps) for one in left) / (steps + most * BORDER_SHARE)

    found = chunk(left, most)
    assert 1 <= found <= min(most, max(left))
    assert rate(found) >= max(rate(steps) for steps in range(1, min(most, max(left)) + 1)) * (1 - 1e-12)


@given(st.integers(1, 300), st.integers(1, 500), st.floats(1e-6, 10))
def test_a_chunk_takes_about_as_long_as_wanted(batch, steps, seconds):
    pace = Pace()
    assert pace.steps(batch) == 1  # until a batch of that size has been seen
    pace.took(batch, steps, seconds)
    found = pace.steps(batch)
    assert 1 <= found <= MOST_CHARACTERS
    each = seconds / steps
    assert found == 1 or found * each <= LONGEST_CHUNK_SECONDS * 9 / 8 + each


@given(st.floats(0, 0.9 * CHUNK_SECONDS), st.floats(1e-4, 1e-2))
def test_what_a_call_costs_by_itself_is_shared(call, step):
    pace = Pace()
    for _ in range(100):
        steps = pace.steps(1)
        taken = call + steps * step
        pace.took(1, steps, taken)
    assert taken > 0.7 * CHUNK_SECONDS - step
    assert taken < 9 / 8 * CHUNK_SECONDS + step
