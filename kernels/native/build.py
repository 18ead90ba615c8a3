"""Compiles `source/` into one shared object: at install if there is a compiler, otherwise at first use.

    sources + compiler -> <digest>.so, beside this file (at install) or in the user's cache (at first use)

The name is a digest of the sources and the compiler's flags, so an object never runs with sources that it was not
built from, and an outdated one is not found. An object is written under another name and renamed, which is atomic: two
processes that build at once do not disturb each other. Only the standard library is imported, because the build of the
wheel runs this file before anything is installed.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "source"

FLAGS = (
    *("-std=gnu11", "-O3", "-fPIC", "-pthread", "-fvisibility=hidden", "-Wno-psabi"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
)
VNNI = (
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni"),
    *("-mfma", "-mprefer-vector-width=512"),
)
X86 = {"amx": (*VNNI, "-mamx-tile", "-mamx-int8"), "vnni": VNNI, "avx2": ("-mavx2", "-mfma")}
"""The instruction sets besides `plain`, fastest first, and their compiler flags. A compiler that is too old for one
builds the others."""

TIMEOUT_S = 600
"""The limit of one compilation, which takes seconds, or minutes under a sanitizer or on a busy machine."""


class BuildFailed(RuntimeError):
    """There is no compiler, or the compilation failed; the message says which."""


def digest() -> str:
    """Hashes the sources, the flags (ours and those of CFLAGS) and the kind of machine."""
    content = hashlib.sha256(repr((_flags(), X86, platform.machine(), platform.system())).encode())
    for path in sorted(SOURCE.iterdir()):
        content.update(path.name.encode() + b"\0" + path.read_bytes())
    return content.hexdigest()[:16]


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lifelong" / "native"


def find_or_build() -> Path:
    """Returns the path of the object for these sources, built if there is none yet. Raises BuildFailed."""
    name = f"{digest()}.so"
    for folder in (HERE, cache_folder()):
        if (folder / name).is_file():
            return folder / name
    return build(cache_folder() / name)


def build(target: Path) -> Path:
    """Compiles to `target` and returns it. CC and CFLAGS are honoured. Raises BuildFailed."""
    compile_ = [*_compiler(), *_flags()]
    jobs = _jobs(compile_)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder, ThreadPoolExecutor() as threads:
            objects = {name: f"{folder}/{name}.o" for name in jobs}
            commands = [[*compile_, "-c", *job, "-o", objects[name]] for name, job in jobs.items()]
            for _ in threads.map(_run, commands):  # raises the first error
                pass
            linked = f"{folder}/linked.so"
            _run([*compile_, "-shared", *objects.values(), "-lm", "-o", linked])
            os.replace(linked, target)
    except OSError as error:
        raise BuildFailed(f"cannot write {target}: {error}") from error
    return target


def _jobs(compile_: Sequence[str]) -> dict[str, list[str]]:
    """Returns the arguments of each compilation: one for each instruction set, and one for `library.c`."""
    x86 = X86 if platform.machine() in ("x86_64", "AMD64") else {}
    isas: dict[str, tuple[str, ...]] = {isa: flags for isa, flags in x86.items() if _accepts(compile_, flags)}
    isas["plain"] = ()
    jobs = {"library": ["-DISAS=" + " ".join(f"X({isa})" for isa in isas), "library.c"]}
    for isa, flags in isas.items():
        jobs[isa] = [f"-DTABLE={isa}", *flags, "kernels.c"]
    return jobs


def _flags() -> list[str]:
    return [*FLAGS, *os.environ.get("CFLAGS", "").split()]


def _compiler() -> list[str]:
    named = os.environ.get("CC", "").split()
    for candidate in [named] if named else [["gcc"], ["clang"], ["cc"]]:
        if shutil.which(candidate[0]):
            return candidate
    raise BuildFailed("no C compiler (CC, gcc, clang or cc)")


def _accepts(compile_: Sequence[str], flags: Sequence[str]) -> bool:
    try:
        _run([*compile_, *flags, "-fsyntax-only", "-x", "c", os.devnull])
    except BuildFailed:
        return False
    return True


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"{command[0]} took more than {TIMEOUT_S} s") from error
    if done.returncode:
        raise BuildFailed(f"{' '.join(command)}: {done.stderr[-2000:]}")


if __name__ == "__main__":
    print(build(HERE / f"{digest()}.so"))
