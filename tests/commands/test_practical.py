"""How `p2 practical` is called: every bad call is a sentence."""

from __future__ import annotations

import pytest

BAD_CALLS = [
    (["practical", "gradients", "--hidden", str(10**30)], 2, "--hidden must be at most 65,536"),
    (["practical", "gradients", "--sequences", str(10**30)], 2, "--sequences must be 2 to 65,536"),
    (["practical", "baum-sweet", "--embedding", str(10**30)], 2, "--embedding must be at most 65,536"),
]


@pytest.mark.parametrize(
    ("argv", "code", "words"), BAD_CALLS, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_bad_calls_are_answered(argv, code, words, here, fails):
    assert words in fails(*argv, code=code)
