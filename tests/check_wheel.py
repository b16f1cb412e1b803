"""`make wheel-check`: p2 built as it would be published, and used in an empty environment without a compiler.

Downloads nothing: the environment sees the dependencies that are installed here, and not this checkout.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
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

from p2.runtime.native import binding
from p2.version import __version__

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = sorted({sysconfig.get_path(name) for name in ("purelib", "platlib")})
SCRIPT = ROOT / "docs" / "wheels.py"

# The reader's own settings of pip and Python would find this checkout, or an index.
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
CLEAN |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONNOUSERSITE": "1"}


def run(*words: str | Path, cwd: Path, **more: str) -> str:
    done = subprocess.run([*map(str, words)], cwd=cwd, env=CLEAN | more, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels():
    spec = importlib.util.spec_from_file_location("wheels", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def processors(wheels) -> list[str]:
    """Those that are compiled for here; this machine's own is one, or there is nothing to check."""
    found = [one for one in wheels.PROCESSORS if shutil.which(wheels.compiler(one))]
    if platform.machine() not in found:
        pytest.skip(f"{wheels.compiler(platform.machine())} is missing")
    return found


@pytest.fixture(scope="module")
def built(processors, tmp_path_factory) -> list[Path]:
    """The source distribution, and the wheels."""
    made = tmp_path_factory.mktemp("built")
    run(sys.executable, SCRIPT, made, *processors, cwd=ROOT)
    return sorted(made.glob("*.tar.gz")) + [next(made.glob(f"*{one}.whl")) for one in processors]


@pytest.fixture(scope="module")
def sdist(built: list[Path]) -> Path:
    return built[0]


@pytest.fixture(scope="module")
def wheel(built: list[Path]) -> Path:
    """This machine's."""
    return next(path for path in built if path.name.endswith(f"{platform.machine()}.whl"))


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
    assert not any(shutil.which(compiler, path=str(scripts)) for compiler in ("cc", "gcc", "clang"))

    def call(command: str, *words: str) -> str:
        start = pip if command == "pip" else (scripts / command,)
        return run(*start, *words, cwd=base / "work", PATH=str(scripts))

    return call


def test_two_builds_are_one(built, processors, tmp_path, capsys):
    """In another folder, later, by somebody with other habits."""
    umask = os.umask(0o077)
    try:
        run(sys.executable, SCRIPT, tmp_path, *processors, cwd=tmp_path, TZ="Asia/Tokyo", LC_ALL="C")
    finally:
        os.umask(umask)
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in built}
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()} == sums
    with capsys.disabled():
        print("", *(f"{value}  {name}" for name, value in sums.items()), sep="\n")


def test_the_source_distribution_is_what_builds_a_wheel(sdist, wheels):
    with tarfile.open(sdist) as archive:
        names = {m.name.partition("/")[2] for m in archive if m.isfile()}
    tracked = wheels.tracked()
    folders = {name.partition("/")[0] for name in tracked if name.endswith("/__init__.py")}
    source = {n for n in tracked if n.partition("/")[0] in folders or (n.endswith(".py") and "/" not in n)}
    made = {n for n in names if ".egg-info/" in n} | {"PKG-INFO", "setup.cfg"}
    assert names - made == source | {"LICENSE", "MANIFEST.in", "README.md", "py.typed", "pyproject.toml"}


def test_a_wheel_holds_every_room_and_nothing_else(built, wheels):
    outside = ("tests/", "docs/", "setup.py")
    tracked = wheels.tracked()
    python = {f"p2/{n}" for n in tracked if n.endswith(".py") and not n.startswith(outside)}
    kernels = {f"p2/{n}" for n in tracked if n.startswith("runtime/cuda/kernels/")}
    pages = {f"p2/{n}" for n in tracked if n.startswith(("contract/", "export/web/"))}
    pages.add("p2/serve/playground.html")
    for path in built[1:]:
        with zipfile.ZipFile(path) as archive:
            names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert names == python | kernels | pages | {wheels.DECODER, "p2/py.typed"}


def test_a_wheel_runs_where_its_name_says(built, processors):
    """By the symbols that the decoder asks the system's libraries for."""
    for path, processor in zip(built[1:], processors, strict=True):
        said = json.loads(run(sys.executable, "-m", "auditwheel", "show", "--json", path, cwd=path.parent))
        for tag in (said["overall_tag"], said["sym_tag"]):
            manylinux, major, minor, machine = tag.split("_", 3)
            assert (manylinux, major, machine) == ("manylinux", "2", processor)
            assert int(minor) <= 28
        assert path.name.endswith(f"-py3-none-manylinux_2_28_{processor}.whl")
        assert said["external_libs"] == {}


LOADS = """
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **words) {
    void *library = dlopen(words[count - 1], RTLD_NOW);
    if (!library) return puts(dlerror()), 1;
    return !printf("%d", ((int (*)(void))dlsym(library, "p2_layout"))());
}
"""


def test_a_wheels_decoder_loads_on_its_processor(built, processors, wheels, tmp_path):
    """Another processor's in an emulator, without Python."""
    (tmp_path / "loads.c").write_text(LOADS)
    for path, processor in zip(built[1:], processors, strict=True):
        start = []
        if processor != platform.machine():
            start = [f"qemu-{processor}", "-L", f"/usr/{processor}-linux-gnu"]
            if not shutil.which(start[0]):
                pytest.skip(f"{start[0]} is missing")
        program = tmp_path / processor
        run(wheels.compiler(processor), "loads.c", "-o", program, "-ldl", cwd=tmp_path)
        with zipfile.ZipFile(path) as archive:
            decoder = archive.extract(wheels.DECODER, tmp_path)
        assert run(*start, program, decoder, cwd=tmp_path) == str(binding.LAYOUT)


def test_pip_refuses_another_processors_wheel(elsewhere, built, wheel):
    for other in built[1:]:
        if other != wheel:
            with pytest.raises(AssertionError, match="is not a supported wheel on this platform"):
                elsewhere("pip", "install", "--dry-run", other)


def test_the_source_distribution_installs_without_a_compiler(elsewhere, sdist, tmp_path):
    """There is no decoder then, and ONNX Runtime does its work."""
    elsewhere("pip", "install", "--no-deps", "--no-build-isolation", "--target", tmp_path, sdist)
    find = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from p2.runtime import native"
    said = elsewhere("python", "-c", f"{find}; print(native.__file__, native.problem())")
    assert said.startswith(str(tmp_path))
    assert said.strip().endswith("it was not compiled when p2 was installed")


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
