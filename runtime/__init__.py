"""The runtime room: load an engine and sample from it, with no PyTorch installed.

    p2 generate --engine charlm.onnx --prompt "The "

A folder for each backend: `native`, `onnxruntime`, `tensorrt`. `onnx_format` reads the few parts of an ONNX
file that are needed, `step_file` and `step_weights` hold a step graph to the contract, `decoder`, `generate`,
`streams` and `prompts` turn tokens into text as they come, `locate` finds engines, `doctor` says what runs
here.
"""
