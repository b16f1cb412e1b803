"""Quality against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from p2.bench.quality import DIFFERENCE_LIMITS, assess

# Two characters, V = 2: the reference gives the target 1/2 and 1/4, the other 1/4 and 1/4.
REFERENCE = np.log(np.array([[[0.5, 0.5], [0.25, 0.75]]], np.float32))
OTHER = np.log(np.array([[[0.25, 0.75], [0.25, 0.75]]], np.float32))
TARGETS = np.array([[0, 0]])


def test_bits_difference_and_divergence():
    found = assess(REFERENCE, OTHER, TARGETS, "int8")
    assert found["characters"] == 2
    assert found["bits_per_character"] == pytest.approx(2.0)
    assert found["difference"] == pytest.approx(2.0 - 1.5)
    assert found["kl"] == pytest.approx((0.5 * math.log(2) + 0.5 * math.log(2 / 3)) / 2)
    assert (found["limit"], found["passes"]) == (0.005, False)


def test_the_reference_against_itself_passes_without_a_limit():
    found = assess(REFERENCE, REFERENCE, TARGETS, "float32")
    assert (found["difference"], found["kl"], found["limit"], found["passes"]) == (0.0, 0.0, None, True)


@pytest.mark.parametrize("precision", DIFFERENCE_LIMITS)
@pytest.mark.parametrize(("share", "passes"), [(0.9, True), (1.1, False), (-5.0, True)])
def test_the_limit_is_of_the_loss(precision, share, passes):
    """One character: bits are -log2 p, so p is chosen for the wanted loss; a gain is no loss."""
    p = 0.5 * 2 ** -(share * DIFFERENCE_LIMITS[precision])
    reference = np.log(np.array([[[0.5, 0.5]]], np.float32))
    other = np.log(np.array([[[p, 1 - p]]]))
    found = assess(reference, other, np.array([[0]]), precision)
    assert found["difference"] == pytest.approx(share * DIFFERENCE_LIMITS[precision], abs=1e-6)
    assert found["passes"] is passes
