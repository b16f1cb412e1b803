"""What would be published: the source distribution, and from it a wheel for each kind of processor.

    python docs/wheels.py FOLDER [PROCESSOR...]

Built from the files that git knows, in a folder of their own, with the setuptools that is installed here and
gcc, `x86_64-linux-gnu-gcc` and the like. The same commit gives the same files, to the last bit, wherever and
whenever it is built with the same tools. Prints their SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROCESSORS = ("x86_64", "aarch64")
PLATFORM = "manylinux_2_28"  # Linux with glibc 2.28 or newer; pip refuses the wheel elsewhere
DECODER = "p2/runtime/native/_decoder.so"

# In glibc 2.28 threads are a library of their own.
OLD_LIBRARIES = {
    "CFLAGS": "-include runtime/native/manylinux.h",
    "LDFLAGS": "-Wl,--no-as-needed -l:libpthread.so.0",
}


def git(*words: str) -> str:
    """What git says of the checkout."""
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def tracked() -> list[str]:
    """The files that git knows or would add, with / between the folders."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return [name for name in listed.split("\0") if (ROOT / name).is_file()]


def setuptools(call: str, folder: Path, environment: dict[str, str]) -> None:
    """Call one of its functions in a folder; what it says is shown where it fails."""
    words = [sys.executable, "-c", f"from setuptools import build_meta; build_meta.{call}"]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}")


def build(folder: Path, processors: Sequence[str]) -> list[Path]:
    """Build into a folder.

    Returns:
        the source distribution, and a wheel for each of the processors.

    Raises:
        SystemExit: there is no compiler for a processor, or it fails.
    """
    for processor in processors:
        if not shutil.which(compiler(processor)):
            package = f"gcc-{processor.replace('_', '-')}-linux-gnu"
            sys.exit(f"{compiler(processor)} is missing; Debian has it in {package}")
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct").strip()}
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        # A copy: setuptools would take over what an earlier build left in a checkout.
        for name in tracked():
            (here / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, here / "checkout" / name)
        (here / "made").mkdir()
        setuptools(f"build_sdist({str(here / 'made')!r})", here / "checkout", environment)
        [sdist] = (here / "made").iterdir()
        for processor in processors:
            shutil.unpack_archive(sdist, here / processor)  # without a filter, which Python has since 3.11.4
            [source] = (here / processor).iterdir()
            options = {"--build-option": f"--plat-name={PLATFORM}_{processor}"}
            flags = {**environment, **OLD_LIBRARIES, "CC": compiler(processor)}
            setuptools(f"build_wheel({str(here / 'made')!r}, {options})", source, flags)
        made = [sdist, *(next((here / "made").glob(f"*{processor}.whl")) for processor in processors)]
        for wheel in made[1:]:
            if DECODER not in zipfile.ZipFile(wheel).namelist():
                sys.exit(f"the decoder is not in {wheel.name}: it did not compile")
        return [Path(shutil.copy(path, folder)) for path in made]


def compiler(processor: str) -> str:
    """The name of gcc for a processor."""
    return f"{processor}-linux-gnu-gcc"


if __name__ == "__main__":
    processors = sys.argv[2:] or PROCESSORS
    if len(sys.argv) < 2 or not set(processors) <= set(PROCESSORS):
        sys.exit(__doc__)
    for path in build(Path(sys.argv[1]), processors):
        print(hashlib.sha256(path.read_bytes()).hexdigest(), path)
