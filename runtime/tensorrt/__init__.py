"""The TensorRT backends: a plan, run by TensorRT or TensorRT-RTX on the first GPU.

`opening` reads a plan as far as that goes without a GPU, `step` is TensorRT's side of one step, `driver`
what it needs of CUDA, `device_loop` writes many characters in one launch, `engine` puts them behind the
engine protocol, `kernel_cache` keeps what TensorRT-RTX compiled.
"""
