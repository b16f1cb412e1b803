"""The kernels that TensorRT-RTX compiled for this GPU, kept between runs.

A TensorRT-RTX plan is finished when it is loaded: kernels are compiled for the very GPU, which takes seconds.
The library can write them down; it checks by itself whether they fit the GPU, the driver and its own
version, and starts anew where they do not.
"""

from __future__ import annotations

from typing import Any

from ..cache import cache_path, read_cache, write_cache
from ..nvidia import Library


class KernelCache:
    """One cache for all execution contexts of a loaded plan.

    Args:
        library: TensorRT-RTX.
        gpu: name of the GPU.
    """

    def __init__(self, library: Library, gpu: str) -> None:
        self._path = cache_path("kernels", library.flavour, library.version, gpu)
        self._known = b""
        self._cache: Any = None

    def attach(self, config: Any) -> None:
        """Let a context that is created with this IRuntimeConfig use the cache."""
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            self._known = read_cache(self._path)
            if self._known and not self._cache.deserialize(self._known):
                self._known = b""
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write down what was compiled since."""
        if self._cache is None:
            return
        compiled = bytes(memoryview(self._cache.serialize()))
        if compiled != self._known:
            write_cache(self._path, compiled)
        self._cache = None
