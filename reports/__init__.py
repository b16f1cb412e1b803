"""The reports room: what is measured about models and engines, as tables, JSON and pictures.

    p2 parity charlm.onnx --checkpoint artifacts/charlm

`engines` opens any engine behind the one protocol, `parity` proves that they say the same,
`inspect` describes a file, `demo` shows everything once.
"""
