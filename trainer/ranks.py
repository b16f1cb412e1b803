"""Several processes that train one model, started by torchrun: who they are, and what they exchange.

Every process computes its rows of each batch; gradients are added up, and all take the same step. What is
decided and written is the business of the first; the others follow it. Gradients go through one all-reduce a
tensor rather than through DistributedDataParallel: a recurrent layer's are finished at the end of the way
back through time, so there is next to nothing to overlap with, and so they need no second copy and no
wrapper around the model. Words go through gloo on every kind of device: the processor notices that a process
has died, whatever the GPU waits for.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from ..contract.errors import P2Error, UsageError
from .signals import ignore

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch._C._distributed_c10d import ProcessGroup, Store

SILENCE_SECONDS = 600.0
"""A process that is not heard of for so long counts as gone; one that is killed is missed at once."""

TELLING_SECONDS = 5.0
"""So long a process waits for the first one to say what is wrong, before it says it itself."""

_GIVEN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # by torchrun
_TOLD = "p2/told"
_POLL_SECONDS = 0.05


class Lost(P2Error):
    """Another process of the training has ended, or cannot be reached.

    Args:
        reason: what the system says of it.
    """

    def __init__(self, reason: str, then: str = "") -> None:
        super().__init__(f"a process of the training has ended or cannot be reached ({reason}){then}")
        self.reason = reason


class Ranks:
    """The processes of a training; this class is a single one, which has nobody to talk to.

    Attributes:
        rank: number of this process.
        size: how many there are.
        local: number of this process, and how many there are, on this machine.
    """

    def __init__(self, rank: int = 0, size: int = 1, local: tuple[int, int] = (0, 1)) -> None:
        self.rank = rank
        self.size = size
        self.local = local

    @property
    def first(self) -> bool:
        """Whether this is the process that reads, decides, writes and shows."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """This process's rows of a batch.

        Raises:
            UsageError: not all would have as many.
        """
        share, rest = divmod(batch_size, self.size)
        if rest:
            raise UsageError(
                f"--batch-size {batch_size} cannot be shared out evenly among {self.size} processes:"
                " it must be a multiple of their number"
            )
        return slice(self.rank * share, (self.rank + 1) * share)

    def compute_on(self, device: torch.device) -> None:
        """Get ready to exchange tensors that are on a device."""

    def meet(self) -> None:
        """Go on when all are here."""

    def check_same(self, facts: Mapping[str, str]) -> None:
        """Compare what each process has read, by what it is called in a sentence.

        Raises:
            P2Error: they differ; all raise it.
        """

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Put the first process's numbers into everybody's tensors."""

    def total(self, tensors: Iterable[Tensor]) -> None:
        """Put the sum over all processes into the tensors; on a GPU without waiting for it."""

    def gather(self, rows: Tensor) -> Tensor:
        """Everybody's rows, one below the other, in the order of the processes."""
        return rows

    def agree(self, *wishes: bool) -> tuple[bool, ...]:
        """What any process wishes."""
        return wishes

    def from_first(self, numbers: tuple[float, ...]) -> tuple[float, ...]:
        """The first process's numbers; the others' are only as many."""
        return numbers


ALONE = Ranks()


class Torchrun(Ranks):
    """The processes that torchrun has started.

    Everything but `rows` is called by all of them in the same order, and raises `Lost` where one is gone.

    Args:
        store: of torchrun, or of the first process.
        rank: as in `Ranks`, and so on.
        size: as in `Ranks`.
        local: as in `Ranks`.
    """

    def __init__(self, store: Store, rank: int, size: int, local: tuple[int, int]) -> None:
        super().__init__(rank, size, local)
        self._store = store
        self._tensors: ProcessGroup | None = None  # of gloo, unless a GPU computes

    def compute_on(self, device: torch.device) -> None:
        """See `Ranks.compute_on`."""
        import torch
        from torch import distributed

        if device.type == "cuda" and distributed.is_nccl_available():
            torch.cuda.set_device(device)
            with self._talking():
                self._tensors = distributed.new_group(backend="nccl")

    def meet(self) -> None:
        """See `Ranks.meet`."""
        self.agree(True)

    def check_same(self, facts: Mapping[str, str]) -> None:
        """See `Ranks.check_same`."""
        import torch

        digests = [list(sha256(value.encode()).digest()) for value in facts.values()]
        everybody = self.gather(torch.tensor(digests, dtype=torch.uint8)[None])
        for index, what in enumerate(facts):
            for rank, theirs in enumerate(everybody[:, index]):
                if not torch.equal(theirs, everybody[0, index]):
                    raise P2Error(
                        f"{what} is not the same in process {rank} as in process 0: every machine must see"
                        " the same files, under the same paths"
                    )

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """See `Ranks.spread`."""
        from torch import distributed

        with self._talking():
            for tensor in tensors:
                distributed.broadcast(tensor.detach(), 0, self._tensors)

    def total(self, tensors: Iterable[Tensor]) -> None:
        """See `Ranks.total`."""
        from torch import distributed

        with self._talking():
            works = [distributed.all_reduce(tensor, group=self._tensors, async_op=True) for tensor in tensors]
            for work in works:
                work.wait()

    def gather(self, rows: Tensor) -> Tensor:
        """See `Ranks.gather`; on the processor."""
        import torch
        from torch import distributed

        mine = rows.detach().cpu().contiguous()
        everybody = [torch.empty_like(mine) for _ in range(self.size)]
        with self._talking():
            distributed.all_gather(everybody, mine)
        return torch.cat(everybody)

    def agree(self, *wishes: bool) -> tuple[bool, ...]:
        """See `Ranks.agree`."""
        import torch
        from torch import distributed

        counts = torch.tensor(wishes, dtype=torch.int32)
        with self._talking():
            distributed.all_reduce(counts)
        return tuple(count > 0 for count in counts.tolist())

    def from_first(self, numbers: tuple[float, ...]) -> tuple[float, ...]:
        """See `Ranks.from_first`."""
        import torch
        from torch import distributed

        values = torch.tensor(numbers, dtype=torch.float64)
        with self._talking():
            distributed.broadcast(values, 0)
        return tuple(values.tolist())

    def tell(self) -> None:
        """Let the others know that the first process says what is wrong."""
        with contextlib.suppress(RuntimeError):
            self._store.set(_TOLD, "1")

    def is_told(self) -> bool:
        """Whether the first process says what is wrong; it may have died."""
        until = time.monotonic() + TELLING_SECONDS
        with contextlib.suppress(RuntimeError):
            while not self._store.check([_TOLD]):
                if time.monotonic() > until:
                    return False
                time.sleep(_POLL_SECONDS)
            return True
        return False

    @contextlib.contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # PyTorch has no class of its own for it
            if self.first:
                self.tell()
            raise Lost(_reason(str(error))) from error


def _reason(error: str) -> str:
    """What gloo says, without the line of its source and its advice."""
    return re.sub(r"^\[[^]]*\] ", "", error).split(". ")[0]


def launched() -> tuple[int, int]:
    """Number of this process, and how many torchrun has started; ``(0, 1)`` without it.

    Raises:
        UsageError: the environment's numbers cannot be meant.
    """
    if not all(os.environ.get(name) for name in _GIVEN):
        return 0, 1
    rank, size = os.environ["RANK"], os.environ["WORLD_SIZE"]
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
        raise UsageError(f"RANK={rank} of WORLD_SIZE={size} is no process of torchrun's: unset both")
    return int(rank), int(size)


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """The processes that train together, for as long as they do.

    An error that all have is raised in the first one; the others end with its exit code.

    Raises:
        P2Error: the others cannot be reached.
    """
    rank, size = launched()
    if size == 1:
        yield ALONE
        return
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    silence = timedelta(seconds=SILENCE_SECONDS)
    try:
        store, _, _ = next(iter(rendezvous("env://", timeout=silence)))
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=silence)
    except (RuntimeError, ValueError) as error:
        raise P2Error(f"process {rank} of {size} cannot reach the others: {error}") from error
    local = int(os.environ.get("LOCAL_RANK", rank)), int(os.environ.get("LOCAL_WORLD_SIZE", size))
    ranks = Torchrun(store, rank, size, local)
    try:
        yield ranks
    except P2Error as error:
        ignore()  # torchrun ends all when one has ended
        if ranks.first:
            ranks.tell()
            raise
        if ranks.is_told():
            raise SystemExit(error.exit_code) from error
        error.args = (f"process {rank} of {size}: {error}",)
        raise
    except KeyboardInterrupt:
        ignore()
        if ranks.first:
            raise
        raise SystemExit(130) from None
    finally:
        with contextlib.suppress(RuntimeError):
            distributed.destroy_process_group()
