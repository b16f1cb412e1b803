"""The ONNX Runtime backends: a step graph in loops of ONNX Runtime's own, on the processor or on a GPU.

`cells`, `integer_cells`, `products` and `operators` write a step in as few operators as ONNX Runtime allows,
`compose` wraps it into one in-graph loop that samples inside, `prefill` reads known text layer by layer,
`engine` runs them on the processor, `gpu` with `providers` on ONNX Runtime's GPU providers, `session` opens
a graph.
"""
