"""The shared object is built once and found again. The build works with an old compiler, and with nothing installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels import native
from kernels.native import binding, build


@pytest.fixture
def is_built_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns off optimization, because these tests do not need a fast object."""
    monkeypatch.setenv("CFLAGS", "-O0")


@pytest.mark.usefixtures("is_built_fast")
def test_an_object_is_built_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "HERE", tmp_path / "package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = build.find_or_build()
    assert built == tmp_path / "lifelong" / "native" / f"{build.digest()}.so"
    first = built.stat()
    assert build.find_or_build() == built
    assert built.stat() == first
    assert list(built.parent.iterdir()) == [built]
    assert "plain" in binding.Library(built).kernels


def test_of_processes_that_start_together_one_builds(tmp_path: Path) -> None:
    links = tmp_path / "links"
    counting = tmp_path / "counting-gcc"
    counting.write_text(f'#!/bin/sh\ncase "$*" in *-shared*) echo $$ >> {links};; esac\nexec gcc "$@"\n')
    counting.chmod(0o755)
    environment = {**os.environ, "CC": str(counting), "CFLAGS": "-O0", "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", "from kernels.native import build; print(build.find_or_build())"]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = {each.communicate(timeout=120)[0] for each in started}
    assert len(found) == 1 and Path(found.pop().strip()).parent == tmp_path / "lifelong" / "native"
    assert len(links.read_text().split()) == 1


def test_other_flags_are_another_object(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = build.digest()
    monkeypatch.setenv("CFLAGS", "-g")
    assert build.digest() != plain


@pytest.mark.usefixtures("is_built_fast")
def test_a_compiler_that_is_too_old_for_one_isa_builds_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old-gcc"
    old.write_text('#!/bin/sh\ncase "$*" in *amx*) exit 1;; esac\nexec gcc "$@"\n')
    old.chmod(0o755)
    monkeypatch.setenv("CC", str(old))
    built = build.build(tmp_path / "built.so")
    assert list(binding.Library(built).kernels) == [
        isa for isa in native.ISAS if isa != "amx" and not native.why_unavailable(isa)
    ]


def test_the_build_needs_nothing_installed() -> None:
    """The build of the wheel runs it before torch is installed."""
    code = "import sys; sys.modules['torch'] = None; import runpy; runpy.run_path(sys.argv[1])"
    subprocess.run([sys.executable, "-S", "-c", code, str(Path(build.__file__))], check=True, timeout=60)
