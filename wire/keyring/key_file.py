"""The keys of a file, read again when it changes, so that keys rotate without a restart.

    KeyRing.keys --at most every CHECK_S--> has the file another stamp? --read, parse--> the keys from now on

A file that cannot be read, or holds keys with which this program could not go on, changes nothing: the keys that were
read last stay, and the log says so once. Kubernetes puts a new file in the place of a mounted secret, an editor too;
both have another stamp.

Rejected: a thread that watches (each program would have one more to end), and a signal (containers have no operator who
sends it).
"""

from pathlib import Path
from typing import Final

import structlog

from wire.files import FileWatch
from wire.keyring.key import SIGNING, Key
from wire.keyring.parsing import parse
from wire.keyring.ring import KeyRing

CHECK_S: Final = 5.0
"""Interval at which a program looks whether its file has changed."""

log = structlog.get_logger("keys")


class FollowedKeys:
    """The keys of one file; a call returns them. Any thread may call, and every process that gets a copy."""

    def __init__(self, path: Path, keys: tuple[Key, ...], *, check_s: float) -> None:
        self._path = path
        self._keys = keys
        self._watch = FileWatch(path, check_s=check_s, is_read=False)
        self._error = ""

    def __call__(self) -> tuple[Key, ...]:
        try:
            keys = self._watch.read_again(self._read)
        except (OSError, ValueError) as error:
            self._tell(str(error))
            return self._keys
        if keys is not None:
            self._error = ""
            if keys != self._keys:
                self._keys = keys
                log.info("keys_read_again", path=str(self._path), accepted=KeyRing(keys).accepted)
        return self._keys

    def _read(self) -> tuple[Key, ...]:
        keys = parse(self._path.read_text().rstrip("\r\n")).keys
        if _signs(self._keys) and not _signs(keys):
            raise ValueError("its keys can verify and not sign, as those of a replica")
        return keys

    def _tell(self, error: str) -> None:
        if error != self._error:
            self._error = error
            log.error("keys_not_read", path=str(self._path), error=error, fix="the keys of before stay: correct it")


def followed(path: Path, ring: KeyRing, *, check_s: float = CHECK_S) -> KeyRing:
    """Returns the keys of `ring`, and from now on those of the file, whatever it is changed to."""
    return KeyRing(ring.keys, FollowedKeys(path, ring.keys, check_s=check_s))


def given(text: str, *, file: str) -> KeyRing:
    """Returns the keys of a text, or of a file, which is followed; none where both are empty. Raises ValueError."""
    if not file:
        return parse(text) if text else KeyRing(())
    path = Path(file).absolute()
    try:
        return followed(path, parse(path.read_text().rstrip("\r\n")))
    except OSError as error:
        raise ValueError(f"{file}: cannot be read as keys ({error})") from error


def _signs(keys: tuple[Key, ...]) -> bool:
    return any(key.kind in SIGNING for key in keys)
