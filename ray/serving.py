"""The server of texts behind Ray Serve: the same ASGI application, in as many replicas as are needed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.errors import BackendMissing, UsageError
from ..contract.shell import install
from ..runtime.locate import locate
from ..runtime.opening import open_engine

if TYPE_CHECKING:
    from ..serve.settings import Settings

Engines = str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]]


def app(
    engines: Engines,
    settings: Settings | None = None,
    *,
    replicas: int | tuple[int, int] = 1,
    cpus: float = 1,
    gpus: float = 0,
    backend: str | None = None,
    threads: int | None = None,
    name: str = "p2",
) -> Any:
    """An application for ``serve.run``: what ``p2 serve`` serves, on a cluster.

    Args:
        engines: files that every machine sees, by the names that clients know them by; of a list the names
            are those of the files, without their endings.
        settings: limits and keys, of each replica.
        replicas: a number, or the fewest and the most between which Ray Serve scales with the load.
        cpus, gpus: of a replica.
        backend: what runs the engines, as ``--backend``.
        threads: processor threads of an engine; None is `cpus`, where the processor runs it.
        name: of the deployment.

    Returns:
        a ``ray.serve.Application``.

    Raises:
        P2Error: an engine is missing.
        UsageError: two engines have one name, or the replicas are no range.
        BackendMissing: Ray Serve is not installed.
    """
    try:
        from ray import serve

        from ..serve.app import create_app
        from ..serve.settings import Settings
    except ModuleNotFoundError as error:
        raise BackendMissing(f"{error.name} is not installed: {install('ray', 'serve')}") from error
    few, many = (replicas, replicas) if isinstance(replicas, int) else replicas
    if not 0 <= few <= many or many < 1:
        raise UsageError(f"replicas are a number from 1 up, or the fewest and the most, not {replicas}")
    paths, limits = _named(engines), settings or Settings()
    if threads is None and not gpus:
        threads = max(1, int(cpus))

    def build() -> Any:
        opened = {
            one: open_engine(path, None if path.endswith(".plan") else threads, backend)
            for one, path in paths.items()
        }
        return create_app(opened, limits)

    number: dict[str, Any] = {"num_replicas": many}
    if few < many:
        # Half of what is written side by side: above it a further replica pays.
        target = max(1, limits.max_streams // 2)
        number = {
            "autoscaling_config": {
                "min_replicas": few,
                "max_replicas": many,
                "target_ongoing_requests": target,
            }
        }
    deployment = serve.deployment(
        serve.ingress(build)(),
        name=name,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        max_ongoing_requests=limits.max_streams + limits.queue,
        graceful_shutdown_timeout_s=limits.grace,
        **number,
    )
    return deployment.bind()


def _named(engines: Engines) -> dict[str, str]:
    if isinstance(engines, Mapping):
        given = list(engines.items())
    else:
        listed = [engines] if isinstance(engines, str | os.PathLike) else list(engines)
        given = [(Path(one).stem, one) for one in listed]
    found: dict[str, str] = {}
    for name, engine in given:
        if name in found:
            raise UsageError(f"two engines are called {name!r}: give them names, as a mapping")
        found[name] = str(locate(os.fspath(engine))[0].absolute())
    if not found:
        raise UsageError("there is no engine to serve")
    return found
