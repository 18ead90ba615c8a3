"""`lifelong new encoder` writes three files and says how they are run; a name that is taken is a usage error."""

from pathlib import Path

from tests.services.command_line import lifelong


def test_an_encoder_is_written_once(tmp_path: Path) -> None:
    done = lifelong("new", "encoder", "digits", "--folder", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "PYTHONPATH=. lifelong up --config digits.toml" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.py", "digits.toml", "test_digits.py"]
    again = lifelong("new", "encoder", "digits", "--folder", str(tmp_path))
    assert again.returncode == 2 and "digits.py, test_digits.py, digits.toml exists" in again.stderr
