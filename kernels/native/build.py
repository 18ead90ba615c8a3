"""Compiles `source/` into one shared object: at install where a compiler is there, else at first use.

    sources + compiler -> <digest>.so, beside this file (at install) or in the user's cache (at first use)

The digest is of the sources and of what is asked of the compiler, so an object never meets sources it was not made
from, and an old one is simply not found. An object comes to its name by a rename: two processes that build at once do
not disturb each other. Only the standard library is imported: the build of the wheel runs this file before anything is
installed.

Rejected: torch's C++ extensions (a minute of building, and again for every version of torch) and a build without
`-march` choices at run time (a wheel made on one machine would die on another).
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
"""Ways to compute besides `plain`, best first, and the instructions each may use. A compiler that is too old for one
makes the others."""

TIMEOUT_S = 600
"""For one compilation; it takes seconds, minutes under a sanitizer or on a busy machine."""


class BuildFailed(RuntimeError):
    """There is no compiler, or it did not take the sources; the message says which."""


def digest() -> str:
    """Changes with the sources, the flags (ours and those of CFLAGS) and the kind of machine."""
    content = hashlib.sha256(repr((_flags(), X86, platform.machine(), platform.system())).encode())
    for path in sorted(SOURCE.iterdir()):
        content.update(path.name.encode() + b"\0" + path.read_bytes())
    return content.hexdigest()[:16]


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lifelong" / "native"


def find_or_build() -> Path:
    """The object for these sources. Raises BuildFailed."""
    name = f"{digest()}.so"
    for folder in (HERE, cache_folder()):
        if (folder / name).is_file():
            return folder / name
    return build(cache_folder() / name)


def build(target: Path) -> Path:
    """Compiles to `target`. CC and CFLAGS are heeded. Raises BuildFailed."""
    compile_ = [*_compiler(), *_flags()]
    x86 = X86 if platform.machine() in ("x86_64", "AMD64") else {}
    ways = {way: flags for way, flags in x86.items() if _knows(compile_, flags)} | {"plain": ()}
    jobs = {"library": ["-DWAYS=" + " ".join(f"X({way})" for way in ways), "library.c"]}
    jobs |= {way: [f"-DTABLE={way}", *flags, "kernels.c"] for way, flags in ways.items()}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder, ThreadPoolExecutor() as threads:
            objects = {way: f"{folder}/{way}.o" for way in jobs}
            done = [threads.submit(_run, [*compile_, "-c", *job, "-o", objects[way]]) for way, job in jobs.items()]
            for each in done:
                each.result()
            made = f"{folder}/made.so"
            _run([*compile_, "-shared", *objects.values(), "-lm", "-o", made])
            os.replace(made, target)
    except OSError as error:
        raise BuildFailed(f"cannot write {target}: {error}") from error
    return target


def _flags() -> list[str]:
    return [*FLAGS, *os.environ.get("CFLAGS", "").split()]


def _compiler() -> list[str]:
    named = os.environ.get("CC", "").split()
    for candidate in [named] if named else [["gcc"], ["clang"], ["cc"]]:
        if shutil.which(candidate[0]):
            return candidate
    raise BuildFailed("no C compiler (CC, gcc, clang or cc)")


def _knows(compile_: Sequence[str], flags: Sequence[str]) -> bool:
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
