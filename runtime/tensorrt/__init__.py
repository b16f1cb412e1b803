"""The TensorRT backends: a plan, run by TensorRT or TensorRT-RTX on the first GPU.

`plan_file` reads a plan as far as that goes without a GPU, `step` is TensorRT's side of one step,
`device_loop` writes many characters in one launch, `engine` puts them behind the engine protocol,
`kernel_cache` keeps what TensorRT-RTX compiled.
"""

from __future__ import annotations


def why_not(flavour: str) -> str:
    """Why plans of one of `contract.plan.FLAVOURS` cannot run here; empty if they can. Imports no library."""
    from ...contract.plan import FLAVOURS
    from ...contract.shell import install
    from .. import cuda_core, nvidia

    about = FLAVOURS[flavour]
    if not nvidia.installed(about):
        return f"{about.title} is not installed: {install(about.extra)}"
    return cuda_core.missing()
