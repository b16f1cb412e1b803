"""The files of the npm package onnxruntime-web that a page needs, each with the hash that it has to have."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path

from ...contract.errors import P2Error
from ...contract.files import reading
from ...runtime import cache

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"

# SHA-256 of each, in the package's folder dist.
FILES = {
    "ort.wasm.min.js": "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}

_PLACES = (".", "dist", "package/dist", "onnxruntime-web/dist", "node_modules/onnxruntime-web/dist")
_PATIENCE = 300  # seconds for 33 MB
_MOST = 1 << 26  # bytes: no file of the package that a page needs is larger

Contents = dict[str, bytes]


def find(given: Path | None) -> Contents:
    """The files by name.

    Args:
        given: what ``npm pack`` wrote, or a folder that npm installed into; None takes what an earlier export
            kept in p2's cache folder, or asks npm.

    Raises:
        P2Error: they are not there, cannot be had from npm, or are not those of `VERSION`, byte for byte.
    """
    if given is not None:
        return _checked(_of_folder(given) if given.is_dir() else _of_archive(given), str(given))
    kept = cache.folder() / f"onnxruntime-web-{VERSION}"
    found = {name: cache.read_cache(kept / name) for name in FILES}
    if _altered(found):
        found = _from_npm()
        for name, data in found.items():
            cache.write_cache(kept / name, data)
    return found


def _from_npm() -> Contents:
    npm = shutil.which("npm")
    if npm is None:
        raise P2Error(f"--web needs the npm package {PACKAGE}, and there is no npm here: {_instead()}")
    with tempfile.TemporaryDirectory(prefix="p2.") as folder:
        command = [npm, "pack", PACKAGE, "--pack-destination", folder, "--silent", "--fetch-retries=1"]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise P2Error(f"npm does not bring {PACKAGE} ({error}): {_instead()}") from error
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            raise P2Error(f"npm does not bring {PACKAGE} (no network, or no such registry): {_instead()}")
        return _checked(_of_archive(archives[0]), "what npm brought")


def _instead() -> str:
    return f"where npm is, `npm pack {PACKAGE}` writes a file that --ort-web takes"


def _of_archive(path: Path) -> Contents:
    found: Contents = {}
    try:
        with reading(path), open(path, "rb", opener=_at_once) as file, tarfile.open(fileobj=file) as archive:
            for name in FILES:
                member = archive.getmember(f"package/dist/{name}")
                content = archive.extractfile(member) if member.isfile() else None
                found[name] = content.read(_MOST) if content else b""
    except (tarfile.TarError, zlib.error, EOFError, KeyError) as error:
        raise P2Error(f"{path} is damaged, or not what `npm pack {PACKAGE}` writes") from error
    return found


def _at_once(path: str, flags: int) -> int:
    """Without waiting for somebody to write into a pipe of that name."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _of_folder(path: Path) -> Contents:
    for place in _PLACES:
        if all((path / place / name).is_file() for name in FILES):
            with reading(path):
                return {name: (path / place / name).read_bytes() for name in FILES}
    raise P2Error(f"there is no onnxruntime-web in {path}: `npm install {PACKAGE}` there brings it")


def _checked(found: Contents, where: str) -> Contents:
    altered = _altered(found)
    if altered:
        raise P2Error(f"{where} is not {PACKAGE} as it was published: {altered} has another SHA-256")
    return found


def _altered(found: Contents) -> str | None:
    """The first file that has not its hash."""
    return next(
        (name for name in FILES if hashlib.sha256(found.get(name, b"")).hexdigest() != FILES[name]), None
    )
