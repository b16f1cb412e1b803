"""Faults in what judges: measures, parity, the exporter's own check, evaluation."""

from __future__ import annotations

from .planting import Mutant

_AGREEMENT, _PARITY, _SCORES = "contract/agreement.py", "parity/compare.py", "evaluation/scores.py"
_CAUGHT = "parity/test_parity.py::test_each_fault_is_caught_and_named"

MUTANTS = (
    Mutant(
        "divergence is weighed by the candidate",
        _AGREEMENT,
        "(np.exp(log_p) * (log_p - log_q))",
        "(np.exp(log_q) * (log_p - log_q))",
        "contract/test_agreement.py::test_two_classes_by_hand",
    ),
    Mutant(
        "NaN is within every limit",
        _AGREEMENT,
        "return self.relative <= limits.relative and self.kl <= limits.kl",
        "return not (self.relative > limits.relative or self.kl > limits.kl)",
        "contract/test_agreement.py::test_nan_is_never_within_limits",
    ),
    Mutant(
        "parity: what goes on from a snapshot is compared with itself",
        _PARITY,
        "return bool(np.array_equal(first, again))",
        "return bool(np.array_equal(again, again))",
        f"{_CAUGHT}[loses a digit of a state-from a snapshot]",
    ),
    Mutant(
        "parity: rows of a batch are compared with themselves",
        _PARITY,
        "return agreement(alone, predictions(engine, texts))",
        "return agreement(alone, alone)",
        f"{_CAUGHT}[mixes rows-a row of a batch]",
    ),
    Mutant(
        "parity: a step from a zero state is not judged",
        _PARITY,
        '            ("a single step", result.single),\n',
        "",
        f"{_CAUGHT}[wrong from the start-a single step]",
    ),
    Mutant(
        "export: a graph is compared with itself",
        "export/verify.py",
        'measured = _compare(expected, logits, precision, f"the {precision} graph")',
        'measured = _compare(logits, logits, precision, f"the {precision} graph")',
        "export/test_exporter.py::test_a_graph_out_of_tolerance_is_not_written",
    ),
    Mutant(
        "evaluation: a window goes on with the state of the one before",
        "evaluation/predictor.py",
        "        if not self._position:\n            self._state = ",
        "        if self._state is None:\n            self._state = ",
        "evaluation/test_predictor.py::test_it_is_the_same_however_it_is_cut",
    ),
    Mutant(
        "evaluation: a character is judged by itself",
        "evaluation/predictor.py",
        "tokens[1:].reshape(rows, length)",
        "tokens[:-1].reshape(rows, length)",
        "evaluation/test_run.py::test_figures_are_those_of_the_equations",
    ),
    Mutant(
        "evaluation: nats are called bits",
        _SCORES,
        "bits = nats / characters / math.log(2)",
        "bits = nats / characters",
        "evaluation/test_run.py::test_figures_are_those_of_the_equations",
    ),
    Mutant(
        "evaluation: of equally probable characters all are the first",
        _SCORES,
        "((logits > chosen) | ((logits == chosen) & before))",
        "(logits > chosen)",
        "evaluation/test_scores.py::test_what_came_is_judged_by_its_probability_and_its_rank",
    ),
    Mutant(
        "evaluation: positions are counted from zero",
        _SCORES,
        "np.frexp(np.arange(first - 1, first - 1 + count, dtype=np.float64))",
        "np.frexp(np.arange(first, first + count, dtype=np.float64))",
        "evaluation/test_scores.py::test_positions_go_together_by_powers_of_two",
    ),
)
