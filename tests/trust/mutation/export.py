"""Faults in what an export computes: folding, the step, the passes over its graph, the integers."""

from __future__ import annotations

from .planting import Mutant

_FOLD, _STEP, _QUANTIZE = "export/fold.py", "export/step.py", "export/quantize.py"
_EQUATIONS = "export/test_graph.py::test_says_what_the_equations_say"
_PARITY = "trust/check_numbers.py::test_parity"
_FORMS = "contract/test_integers.py"

MUTANTS = (
    Mutant(
        "an LSTM's recurrent bias is dropped",
        _FOLD,
        "bias = b_ih + b_hh",
        "bias = b_ih",
        (f"{_EQUATIONS}[lstm-2]", f"{_PARITY}[lstm-float32]"),
    ),
    Mutant(
        "a recurrent matrix keeps PyTorch's order of gates",
        _FOLD,
        'w_hh = _reorder(card, wide[f"rnn.weight_hh_l{layer}"]).T',
        'w_hh = wide[f"rnn.weight_hh_l{layer}"].T',
        (f"{_EQUATIONS}[lstm-1]", f"{_PARITY}[lstm-int8]"),
    ),
    Mutant(
        "a bias keeps PyTorch's order of gates",
        _FOLD,
        'b_ih = _reorder(card, wide[f"rnn.bias_ih_l{layer}"])',
        'b_ih = wide[f"rnn.bias_ih_l{layer}"]',
        f"{_EQUATIONS}[lstm-1]",
    ),
    Mutant(
        "the bias inside a GRU's reset product is added outside as well",
        _FOLD,
        'torch.cat([gates, torch.zeros_like(folded[f"b_hn_{name}"])])',
        "b_hh",
        (f"{_EQUATIONS}[gru-1]", f"{_PARITY}[gru-float32]"),
    ),
    Mutant(
        "state and input change places in a deeper layer's matrix",
        _FOLD,
        "torch.cat([w_ih, w_hh])",
        "torch.cat([w_hh, w_ih])",
        f"{_EQUATIONS}[gru-before-2]",
    ),
    Mutant(
        "the table has no biases in it",
        _FOLD,
        "@ w_ih + bias",
        "@ w_ih",
        f"{_EQUATIONS}[rnn-1]",
    ),
    Mutant(
        "the output layer's bias is dropped",
        _FOLD,
        'folded["b_out"] = wide["output.bias"]',
        'folded["b_out"] = torch.zeros_like(wide["output.bias"])',
        f"{_EQUATIONS}[rnn-1]",
    ),
    Mutant(
        "folding rounds to float32 on its way",
        _FOLD,
        'tensor.detach().to("cpu", torch.float64)',
        'tensor.detach().to("cpu", torch.float32)',
        "export/test_stored_weights.py::test_folding_adds_no_error_of_its_own[rnn]",
    ),
    Mutant(
        "a GRU's update gate is its complement",
        _STEP,
        "n + z * (h - n)",
        "h + z * (n - h)",
        f"{_EQUATIONS}[gru-1]",
    ),
    Mutant(
        "new states are handed out layer by layer",
        _STEP,
        "sum(zip(*new, strict=True), ())",
        "sum(new, ())",
        f"{_EQUATIONS}[lstm-2]",
    ),
    Mutant(
        "an LSTM's input and forget gates are swapped",
        "trainer/cells.py",
        "i, f, o = _sigmoids(layer, gates)",
        "f, i, o = _sigmoids(layer, gates)",
        "trainer/test_model.py::test_both_paths_follow_the_equations[lstm-1]",
    ),
    Mutant(
        "a GRU's candidate is scaled by the update gate",
        "trainer/cells.py",
        "layer.add_product(given_n, r, layer.inside(recurrent_n))",
        "layer.add_product(given_n, z, layer.inside(recurrent_n))",
        "trainer/test_cells.py::test_all_say_what_the_equation_says_in_float64",
    ),
    Mutant(
        "a GRU resets by the update gate before the product",
        "trainer/cells.py",
        'layer.product(x_n, r * h, "_n")',
        'layer.product(x_n, z * h, "_n")',
        "trainer/test_cells.py::test_all_say_what_the_equation_says_in_float64",
    ),
    Mutant(
        "PyTorch's order of an LSTM's gates is taken for another",
        "contract/cells.py",
        '"LSTM", "ifog", 3, "ifgo"',
        '"LSTM", "ifog", 3, "ifog"',
        "trainer/test_model.py::test_both_paths_follow_the_equations[lstm-1]",
    ),
    Mutant(
        "bfloat16 weights are cut off, not rounded",
        "export/short_weights.py",
        "rounded = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16",
        "rounded = bits >> 16",
        "export/test_stored_weights.py::test_short_floats_are_the_nearest[bfloat16]",
    ),
    Mutant(
        "two stacked products change places",
        "export/matvec.py",
        "for part, out in zip(parts, outs, strict=True):",
        "for part, out in zip(parts, outs[::-1], strict=True):",
        "export/test_matvec.py::test_sums_are_the_products",
    ),
    Mutant(
        "a lower operator set reduces over all axes",
        "export/opset.py",
        'node.attribute.append(helper.make_attribute("axes", axes))',
        "",
        "export/test_untyped.py::test_an_older_operator_set_says_the_same[rnn-float32-False]",
    ),
    Mutant(
        "the largest weight of a block is cut off",
        _QUANTIZE,
        "top = 2 ** (bits - 1) - 1",
        "top = 2 ** (bits - 1) - 2",
        "export/test_quantize.py::test_in_8_bits_no_weight_is_off_by_more_than_half_a_scale",
    ),
    Mutant(
        "two weights of 4 bits change places in their byte",
        _QUANTIZE,
        "packed = flat[0::2] | (flat[1::2] << 4)",
        "packed = flat[1::2] | (flat[0::2] << 4)",
        "export/test_quantize.py::test_the_graph_multiplies_by_the_rounded_weights[int4-w_00-4-192]",
    ),
    Mutant(
        "of the scales of 4 bits the worst is kept",
        _QUANTIZE,
        "np.where(error < least, tried, scales)",
        "np.where(error > least, tried, scales)",
        "export/test_quantize.py::test_in_4_bits_no_block_is_worse_than_rounded_by_its_largest_weight",
    ),
    Mutant(
        "float8 weights use half of their range",
        _QUANTIZE,
        "FLOAT8_MAX = 448.0",
        "FLOAT8_MAX = 448.0 / 2**7",
        "export/test_stored_weights.py::test_float8_is_the_nearest_of_its_whole_range",
    ),
    Mutant(
        "blocks of 4 bits are cut from the wrong rows",
        "contract/integers.py",
        "np.arange(rows.start, rows.stop, block) // of_file",
        "np.arange(0, count, block) // of_file",
        f"{_FORMS}::test_blocks_are_cut_between_input_and_state",
    ),
    Mutant(
        "a digit of the integers' tanh is another",
        "contract/integers.py",
        "np.float32(8.1414)",
        "np.float32(8.1404)",
        f"{_FORMS}::test_tanh_is_that_of_float64_but_for_its_stated_error",
    ),
    Mutant(
        "states on a tie are rounded up",
        "contract/integers.py",
        "np.clip(np.rint(h * STEPS), -128, 127)",
        "np.clip(np.floor(h * STEPS + np.float32(0.5)), -128, 127)",
        f"{_FORMS}::test_states_are_rounded_to_the_even_step",
    ),
    Mutant(
        "the output layer of int4 has 4 bits too",
        "contract/card.py",
        'return max(found.bits, 8) if matrix == "w_out" else found.bits',
        "return found.bits",
        "contract/test_card.py::test_bytes_per_step_by_hand",
    ),
    Mutant(
        "a graph's choice takes the last of equal characters",
        "contract/choice.py",
        'add("ReduceMin", "candidates at_1", "chosen", keepdims=0)',
        'add("ReduceMax", "candidates at_1", "chosen", keepdims=0)',
        "contract/test_choice.py::test_ties_go_to_the_lowest_token",
    ),
    Mutant(
        "a graph's top-k counts equal characters apart",
        "contract/choice.py",
        'add("Less", "rank top_k", "kept_by_k")',
        'add("Less", "position top_k", "kept_by_k")',
        "contract/test_choice.py::test_what_the_filters_keep",
    ),
    Mutant(
        "a graph's top-p sums up what top-k has left out",
        "contract/choice.py",
        'add("ReduceSum", "top_weights at_1", "total", keepdims=1)',
        'add("ReduceSum", "weights at_1", "total", keepdims=1)',
        "contract/test_choice.py::test_what_the_filters_keep",
    ),
)
