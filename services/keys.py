"""The signing key: given by settings, or made once for a Redis of our own and kept beside its data.

Whoever shares a Redis server must be given the same key; only a server that ends with us may have one that we made up.
"""

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

from services.settings import Settings, replaced
from services.sources import BadSettings, Problem, variable_of

FILE = "signing.key"


def with_signing_key(settings: Settings, *, own_store: bool) -> Settings:
    """The settings with a signing key. Raises BadSettings where one must be given and is not."""
    if settings.signing_key is not None:
        return settings
    if not own_store:
        fix = "Give the secret that the other programs on this Redis server use, in this variable"
        raise BadSettings([Problem(variable_of("signing_key"), "is required where store.url names a server", fix)])
    return replaced(settings, {"signing_key": SecretStr(_kept(settings.state_dir / FILE))})


def key_bytes(settings: Settings) -> bytes:
    """The key of settings that have one: those of `with_signing_key`."""
    assert settings.signing_key is not None, "attach, or start a stack, first"
    return settings.signing_key.get_secret_value().encode()


def _kept(path: Path) -> str:
    """The key in `path`, made when there is none: readable by its owner only, and whole or not there at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(32))
        try:
            os.link(draft, path)  # the first of two programs wins
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text()
