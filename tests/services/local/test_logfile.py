"""Tests the rotated log: it is bounded, complete and private, and makes no program fail."""

import sys
from pathlib import Path

from services.local import children
from services.local.logfile import GENERATIONS, RotatingLog
from tests.required import impossible

LINES = """
import sys
for number in range(int(sys.argv[1])):
    print(f"line {number:06d} " + "x" * 86)
"""


def run(log: RotatingLog, *argv: str) -> int:
    return children.start([sys.executable, "-c", *argv], log=log).wait(30.0)


def files(log: RotatingLog) -> list[Path]:
    """Returns the files of the log, the oldest first."""
    older = [log.path.with_name(f"{log.path.name}.{number}") for number in range(GENERATIONS, 0, -1)]
    return [path for path in [*older, log.path] if path.exists()]


def test_nothing_is_lost_and_no_line_is_cut(tmp_path: Path) -> None:
    """B25, number 4: files of 64 KB hold all of 200 KB of lines, in order."""
    log = RotatingLog(tmp_path / "a.log", max_bytes=1 << 16)
    assert run(log, LINES, "2000") == 0
    log.close()
    contents = [path.read_text() for path in files(log)]
    lines = "".join(contents).splitlines()
    assert [line.split()[1] for line in lines] == [f"{number:06d}" for number in range(2_000)]
    assert len(contents) > 1
    assert all(text.endswith("\n") for text in contents)


def test_it_is_bounded(tmp_path: Path) -> None:
    """B25, number 4: 2 MB of lines leave a few files of bounded size with the newest lines."""
    log = RotatingLog(tmp_path / "a.log", max_bytes=1 << 16)
    run(log, LINES, "20000")
    log.close()
    # If the last write caused a rotation, there is no current file.
    assert len(files(log)) - GENERATIONS in (0, 1)
    assert sum(path.stat().st_size for path in files(log)) < (GENERATIONS + 1) * (3 << 16)
    last = [f"line {number:06d} {'x' * 86}" for number in range(19_000, 20_000)]
    assert [log.tail(num) for num in (1, 600)] == [last[-1:], last[-600:]]


def test_a_line_without_an_end_is_bounded_too(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "a.log", max_bytes=1 << 16)
    run(log, "import sys; sys.stdout.write('x' * (1 << 21))")
    log.close()
    assert sum(path.stat().st_size for path in files(log)) < (GENERATIONS + 1) * (3 << 16)


def test_the_last_words_of_a_program_are_in_its_tail(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "a.log")
    assert run(log, "import sys; print('one'); print('two', file=sys.stderr); sys.exit('three')") == 1
    assert sorted(log.tail(9)) == ["one", "three", "two"]
    log.close()


def test_an_earlier_owner_s_log_is_kept_beside_ours(tmp_path: Path) -> None:
    for word in ("first", "second"):
        log = RotatingLog(tmp_path / "a.log")
        run(log, f"print({word!r})")
        assert log.tail(9) == [word]
        log.close()
    assert [path.read_text() for path in files(log)] == ["first\n", "second\n"]


def test_it_is_its_owner_s_alone(tmp_path: Path) -> None:
    """B24: logs may hold users' texts."""
    log = RotatingLog(tmp_path / "a.log")
    made = tmp_path / "made"
    run(log, f"print('made'); open({str(made)!r}, 'w').close()")
    assert log.tail(1) == ["made"]
    assert [path.stat().st_mode & 0o777 for path in (made, log.path)] == [0o600, 0o600]
    log.close()


def test_a_full_disk_is_not_the_program_s_fault(tmp_path: Path) -> None:
    """B7: bytes that cannot be written are counted, and reported when there is space."""
    if not Path("/dev/full").exists():
        impossible("there is no /dev/full")
    path = tmp_path / "a.log"
    log = RotatingLog(path)
    path.symlink_to("/dev/full")
    assert run(log, "for _ in range(5): print('lost', flush=True)") == 0
    log.close()
    path.unlink()
    assert run(log, "print('kept')") == 0
    assert log.tail(9) == ["[25 bytes were lost here: they could not be written]", "kept"]
    log.close()


def test_control_c_does_not_reach_a_program(tmp_path: Path) -> None:
    """The program has its own process group: its owner decides which program is stopped first.

    Its session is ours, so that nice values count between programs.
    """
    log = RotatingLog(tmp_path / "a.log")
    run(log, "import os; print(os.getpgid(0) == os.getpid() != os.getsid(0))")
    assert log.tail(1) == ["True"]
    log.close()
