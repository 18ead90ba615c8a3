"""The secrets of containers by the command line."""

from pathlib import Path

from tests.services.command_line import lifelong


def run(*words: str) -> str:
    done = lifelong("secrets", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_folder_gets_what_its_containers_need(tmp_path: Path) -> None:
    out = run("write", str(tmp_path))
    assert {path.parent.name for path in map(Path, out.split())} == {"service", "replicas", "redis"}
    assert run("write", str(tmp_path)) == out


def test_the_lines_for_kubernetes_begin_with_the_accounts_as_comments() -> None:
    lines = run("env").splitlines()
    comments = [line for line in lines if line.startswith("# user ")]
    assert [line.split()[2] for line in comments] == ["service", "replica"]
    names = [line.partition("=")[0] for line in lines if not line.startswith("#")]
    assert names == ["LIFELONG_SIGNING_KEY", "LIFELONG_STORE__PASSWORD", "REPLICA_KEYS", "REPLICA_STORE_PASSWORD"]
