"""`lifelong bench learn`."""

from tests.services.command_line import lifelong


def test_data_sets_and_strategies_are_listed() -> None:
    done = lifelong("bench", "learn", "--list")
    assert done.returncode == 0, done.stderr
    for name in ("support", "clinc150", "der++", "ridge"):
        assert name in done.stdout
