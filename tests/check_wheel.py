"""`make wheel-check`: p2 built, installed in an empty environment and used from another folder.

Downloads nothing: the environment sees the dependencies that are installed here, and not this checkout.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from p2.version import __version__

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = sorted({sysconfig.get_path(name) for name in ("purelib", "platlib")})

# The reader's own settings of pip and Python would find this checkout, or an index.
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
CLEAN |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONNOUSERSITE": "1"}


def run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, words)], cwd=cwd, env=CLEAN, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The files that git knows, with / between the folders."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    return [name for name in listed.split("\0") if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def sdist(tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a fresh copy: setuptools would take over what an earlier build left in a checkout."""
    copy, made = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("sdist")
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, made, cwd=copy)
    [path] = made.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """Built from the source distribution, as pip does."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", sdist.parent / "wheel"]
    run(sys.executable, "-m", "pip", "wheel", *options, sdist, cwd=sdist.parent)
    [path] = (sdist.parent / "wheel").iterdir()
    return path


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run a command of the environment in a folder of its own: ``elsewhere("p2", "--version")``."""
    base = tmp_path_factory.mktemp("stranger")
    run(sys.executable, "-m", "venv", "--without-pip", base / "env", cwd=base)
    scripts = base / "env" / ("Scripts" if os.name == "nt" else "bin")
    pip = (sys.executable, "-m", "pip", "--python", scripts / "python")
    run(*pip, "install", "--quiet", "--no-deps", wheel, cwd=base)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(scripts / "python", "-c", where, cwd=base).strip())
    # A line with a folder: what is installed in it is found, and its own .pth files, p2's too, are not read.
    (site / "dependencies.pth").write_text("\n".join(LIBRARIES))
    (base / "work").mkdir()

    def call(command: str, *words: str) -> str:
        start = pip if command == "pip" else (scripts / command,)
        return run(*start, *words, cwd=base / "work")

    return call


def test_the_source_distribution_is_what_builds_a_wheel(sdist, tracked):
    with tarfile.open(sdist) as archive:
        names = {m.name.partition("/")[2] for m in archive if m.isfile()}
    folders = {name.partition("/")[0] for name in tracked if name.endswith("/__init__.py")}
    source = {n for n in tracked if n.partition("/")[0] in folders or (n.endswith(".py") and "/" not in n)}
    made = {n for n in names if ".egg-info/" in n} | {"PKG-INFO", "setup.cfg"}
    assert names - made == source | {"LICENSE", "MANIFEST.in", "README.md", "py.typed", "pyproject.toml"}


def test_the_wheel_holds_every_room_and_nothing_else(wheel, tracked):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    decoder = "p2/runtime/native/_decoder.so"
    outside = ("tests/", "docs/", "setup.py")
    python = {f"p2/{n}" for n in tracked if n.endswith(".py") and not n.startswith(outside)}
    kernels = {f"p2/{n}" for n in tracked if n.startswith("runtime/cuda/kernels/")}
    assert names == python | kernels | {decoder, "p2/py.typed", "p2/serve/playground.html"}


def test_every_module_is_imported_from_the_wheel(elsewhere):
    code = """
import importlib, pkgutil, sys
import p2
for found in pkgutil.walk_packages(p2.__path__, "p2."):
    if not found.name.endswith("._decoder"):  # no Python module
        importlib.import_module(found.name)
files = [m.__file__ for name, m in sys.modules.items() if name.partition(".")[0] == "p2"]
print(sys.prefix, p2.runtime.native.binding.library(), *files, sep="\\n")
"""
    prefix, decoder, *files = elsewhere("python", "-c", code).splitlines()
    assert len(files) > 100
    assert [file for file in files if not file.startswith(prefix)] == []
    assert prefix in decoder


def test_the_three_commands_and_five_lines_of_python(elsewhere):
    assert elsewhere("p2", "--version").split() == ["p2", __version__]
    assert elsewhere("python", "-m", "p2.gpu_check", "--help") == elsewhere("p2", "gpu-check", "--help")
    small = ["--steps", "30", "--hidden", "16", "--layers", "1", "--batch-size", "8", "--seq-len", "32"]
    elsewhere("p2", "train", *small)
    elsewhere("p2", "export", "--fp16", "--engine", "none")
    said = elsewhere("p2", "generate", "--engine", "charlm.onnx", "--length", "40", "--seed", "7")
    assert len(said) == 41
    code = """
import sys
import p2
model = p2.load("charlm.onnx")
text = model.generate("The ", length=300, tau=2, seed=7)
print(len(text), "".join(model.stream("The ", length=300, tau=2, seed=7)) == text)
print(len(model.logprobs("some text")), model.bits_per_character("some text") > 0)
print(len(model.state("The ").write(20)), not {"torch", "onnx"} & sys.modules.keys())
"""
    assert elsewhere("python", "-c", code) == "300 True\n8 True\n20 True\n"


def test_advice_to_an_installed_wheel_works(elsewhere):
    """Without an index: pip takes the extra from the p2 that is installed."""
    advice = elsewhere("python", "-c", "from p2.contract.shell import install; print(install('cpu'))")
    pip, *words = shlex.split(advice)
    assert (pip, words) == ("pip", ["install", "p2-charlm[cpu]"])
    assert "onnxruntime" in elsewhere(pip, *words, "--dry-run")
    elsewhere("pip", "check")
