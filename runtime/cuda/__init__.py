"""p2's own decoder for NVIDIA GPUs: CUDA C++ that is compiled for the very model and GPU at first use.

- ``geometry``: how a model is shared among the blocks of a GPU; its definitions are what is compiled for.
- ``compiler``: NVRTC, and the cache of what it made.
- ``packing``: a step's weights in the order in which the kernels read them.
- ``job``: the structures of ``kernels/types.cuh``.
- ``launches``: what lies on the device, and a launch.
- ``engine``: the engine that runs on it, and why it cannot.
- ``kernels``: ``decoder.cu``, ``noise.cu`` and what they include; what is CUDA's own is in ``platform.cuh``.
"""
