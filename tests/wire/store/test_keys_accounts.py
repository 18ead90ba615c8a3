"""The accounts of Redis: `tests/wire/store/test_server_connecting.py` shows what each may do with a real server."""

from services.versions import ROOT
from wire.store.keys import account_rules


def test_the_accounts_hold_digests_and_no_passwords() -> None:
    text = account_rules("a password", "another password")
    assert "password" not in text
    assert [line.split()[1] for line in text.splitlines()] == ["service", "replica"]
    assert text != account_rules("a password", "a third password")


def test_the_document_shows_these_accounts() -> None:
    shown = (ROOT / "docs" / "connect.md").read_text().replace("\\\n", " ")
    said = {" ".join(line.split()) for line in shown.splitlines()}
    for line in account_rules("", "").splitlines():
        words = ["on >PASSWORD" if word == "on" else word for word in line.split() if not word.startswith("#")]
        assert " ".join(words) in said
