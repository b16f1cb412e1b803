"""The runtime room: load an engine and sample from it, with no PyTorch installed.

    p2 generate --engine charlm.onnx --prompt "The "

`onnx_format` reads and writes the few parts of an ONNX file that are needed, `step_file` checks a
step graph against the contract, `compose` wraps it into one in-graph loop that samples inside,
`onnx_engine` runs that on ONNX Runtime, `tensorrt` runs a plan, `generate` turns tokens into
text as they come.
"""
