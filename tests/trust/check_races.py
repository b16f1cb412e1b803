"""The larger ones of the models with which `make test` looks for races in the CUDA kernels."""

from __future__ import annotations

import functools

import pytest

from p2.contract.sampling import Sampling

from ..runtime.cuda import conftest
from ..runtime.cuda.test_kernels import CASES, decoder_of, label, step_of_case
from ..runtime.cuda.test_races import is_small, write_and_read

kernels_of, memory = conftest.kernels_of, conftest.memory


@pytest.mark.parametrize("case", [case for case in CASES if not is_small(case)], ids=label)
def test_the_kernels_have_no_races(case, kernels_of, memory, trust):
    decoder = decoder_of(case, step_of_case(case), functools.partial(kernels_of, races=True), memory)
    write_and_read(decoder, case, trust.times(2, most=5), Sampling(0.8, top_p=0.9))
    trust.count("Races", f"{case.precision}, {case.cell}", launches=3)
