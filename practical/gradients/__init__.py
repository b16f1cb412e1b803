"""How far the gradient reaches: back-propagation through time by hand, and norms along a sequence.

`bptt` is the formula, `experiment` the command, `claims`, `plots` and `section` what is made of its results.
"""
