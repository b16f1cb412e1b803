"""HDF5's library reads a stranger's file in a process of its own first: a damaged one can hold it up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ..contract.errors import P2Error

_SECONDS = 5  # of a processor, and one more for each of so many bytes
_BYTES = 50 << 20
_PATIENCE = 60  # times as long by the clock, where others have the processors

# What p2 reads of a file: attributes, and the arrays that lie in it. It knows nothing of p2, to start soon.
_READ = """
import io, sys
try:
    import resource
    seconds = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except ImportError:
    pass
import h5py
def read(_, found):
    [*found.attrs.items()]
    if isinstance(found, h5py.Dataset) and not found.is_virtual and not found.external:
        if found.nbytes <= min(found.id.get_storage_size(), len(data)):
            found[()]
data = sys.stdin.buffer.read()
with h5py.File(io.BytesIO(data), "r") as file:
    read("", file)
    file.visititems(read)
"""


def try_hdf5(data: bytes, path: Path) -> None:
    """Read all of a file, elsewhere; what the library says of it is left to who reads it here.

    Args:
        data: the file.
        path: where it comes from, for the sentence.

    Raises:
        P2Error: the library did not come to an end, or crashed.
    """
    seconds = _SECONDS + len(data) // _BYTES
    words = [sys.executable, "-P", "-c", _READ, str(seconds)]
    try:
        done = subprocess.run(
            words, input=data, capture_output=True, timeout=_PATIENCE * seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise P2Error(f"{path} is damaged: HDF5's library does not come to an end with it") from error
    if done.returncode < 0:
        raise P2Error(f"{path} is damaged: HDF5's library does not survive it, or comes to no end")
