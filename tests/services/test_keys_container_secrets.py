"""Tests the secrets of containers: each folder holds only what its containers need, and existing secrets are kept."""

from pathlib import Path

from services.keys import add_key, read_keys, rotate_to, secrets_environment, write_secrets
from services.keys import write_keys as write_keys
from wire.keyring import Kind, parse
from wire.store import account_rules


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_keeps_everything(tmp_path: Path) -> None:
    paths = write_secrets(tmp_path, "lifelong:")
    before = contents(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in paths} == before.keys()
    write_secrets(tmp_path, "lifelong:")
    assert contents(tmp_path) == before


def test_replicas_can_sign_nothing_and_have_a_password_of_their_own(tmp_path: Path) -> None:
    write_secrets(tmp_path, "lifelong:")
    found = contents(tmp_path)
    assert parse(found["service/signing.keys"]).signer is not None
    assert parse(found["replicas/signing.keys"]).signer is None
    assert found["service/store.password"] != found["replicas/store.password"]


def test_redis_gets_both_accounts_and_a_health_check_that_may_do_nothing_else(tmp_path: Path) -> None:
    write_secrets(tmp_path, "shop:")
    found = contents(tmp_path)
    check, *accounts = found["redis/users.acl"].splitlines()
    assert check.split()[-2:] == ["-@all", "+ping"]
    passwords = found["service/store.password"], found["replicas/store.password"]
    assert accounts == account_rules(*passwords, prefix="shop:").splitlines()


def test_only_redis_s_file_may_be_read_by_others(tmp_path: Path) -> None:
    modes = {
        str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in write_secrets(tmp_path, "lifelong:")
    }
    assert modes.pop("redis/users.acl") == 0o644
    assert set(modes.values()) == {0o600}


def test_the_public_keys_follow_a_rotation(tmp_path: Path) -> None:
    write_secrets(tmp_path, "lifelong:")
    path = tmp_path / "service" / "signing.keys"
    ring = add_key(read_keys(path), Kind.NEXT)
    write_keys(path, rotate_to(ring, ring.of(Kind.NEXT)[-1]))
    write_secrets(tmp_path, "lifelong:")
    assert read_keys(tmp_path / "replicas" / "signing.keys") == (read_keys(path) or ring).for_replicas()


def test_the_lines_for_kubernetes_are_values_in_one_line_each() -> None:
    values, accounts = secrets_environment("lifelong:")
    assert parse(values["LIFELONG_SIGNING_KEY"]).signer is not None
    assert parse(values["REPLICA_KEYS"]).signer is None
    assert not any("\n" in value for value in values.values())
    assert accounts == account_rules(values["LIFELONG_STORE__PASSWORD"], values["REPLICA_STORE_PASSWORD"])
