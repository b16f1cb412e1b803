"""A Triton model repository from an export: the step with its state kept by the server, and a model of texts.

`config` says what a ``config.pbtxt`` says, `repository` lays the folders out. The text model itself, which
runs inside Triton's Python backend, is `serve.triton`.
"""
