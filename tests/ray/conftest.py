"""A small local Ray, started once for all tests that need one."""

from __future__ import annotations

import logging
import os
import socket

import pytest


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Two processors of this machine."""
    ray = pytest.importorskip("ray", reason="ray is not installed: `make ray-test` brings it")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: `make ray-test` brings it")
    # Local, and nobody else's: no token in the home folder, no report to anybody.
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=100 << 20,
    )
    yield ray
    ray.shutdown()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
