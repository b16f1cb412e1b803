"""What pyproject.toml cannot say of the build.

The compiled decoder is a plain library that ctypes loads: one wheel fits every Python 3. Where there is no C
compiler, or it refuses, p2 is built without it. With SOURCE_DATE_EPOCH the same files give the same archives.
"""

from __future__ import annotations

import glob
import gzip
import os
import shlex
import shutil
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import CompileError

FLAGS = ["-O3", "-pthread", "-fPIC"]


def variable(name: str, default: str = "") -> list[str]:
    """The words of an environment variable that compilers know."""
    return shlex.split(os.environ.get(name) or default)


class Library(build_ext):
    """Compiles a library that knows nothing of Python, with CC, CFLAGS and LDFLAGS where they are set."""

    def get_ext_filename(self, fullname: str) -> str:
        """Its file, whichever Python builds it."""
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext: Extension) -> None:
        """One object of each source, as many at a time as there are processors."""
        found = filter(shutil.which, ("cc", "gcc", "clang"))
        compiler = [*variable("CC", next(found, "")), *FLAGS, *variable("CFLAGS")]
        if compiler[0] == FLAGS[0]:
            raise CompileError("there is no C compiler")
        target = Path(self.get_ext_fullpath(ext.name))
        for folder in (target.parent, Path(self.build_temp)):
            folder.mkdir(parents=True, exist_ok=True)

        def compiled(source: str) -> str:
            made = Path(self.build_temp) / source.replace("/", "-").replace(".c", ".o")
            call([*compiler, "-c", source, "-o", str(made)])
            return str(made)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compiled, ext.sources))
        call([*compiler, "-shared", *objects, "-o", str(target), *variable("LDFLAGS"), "-lm"])


def call(words: list[str]) -> None:
    """Run a compiler.

    Raises:
        CompileError: it failed; it has said why.
    """
    try:
        subprocess.run(words, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CompileError(str(error)) from None


class Wheel(bdist_wheel):
    """Of a platform, and of every Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        """The three parts of the wheel's name."""
        return "py3", "none", super().get_tag()[2]


class Sdist(sdist):
    """Its archive holds no owner and, with SOURCE_DATE_EPOCH, no other time."""

    def make_archive(self, base_name: Any, format: str, *where: Any, base_dir: Any = None, **who: Any) -> str:
        """A .tar.gz as other builders write it, in the order of the names."""
        if format != "gztar":
            return super().make_archive(base_name, format, *where, base_dir=base_dir, **who)
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        time = None if epoch is None else int(epoch)

        def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mode = 0o755 if entry.isdir() else 0o644
            entry.mtime = entry.mtime if time is None else time
            return entry

        path = f"{base_name}.tar.gz"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with (
            open(path, "wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=time) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(base_dir, filter=plain)  # goes by names
        return path


os.umask(0o022)  # the modes of files are in a wheel
setup(
    script_name="setup.py",  # which is how build_py knows that it is none of the package's modules
    ext_modules=[
        Extension(
            "p2.runtime.native._decoder",
            sources=sorted(glob.glob("runtime/native/**/*.c", recursive=True)),
            depends=sorted(glob.glob("runtime/native/**/*.h", recursive=True)),
            optional=True,
        )
    ],
    cmdclass={"build_ext": Library, "bdist_wheel": Wheel, "sdist": Sdist},
)
