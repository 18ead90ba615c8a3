"""The settings of a schema registry."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from wire.sections import SECTION, OrNone, require


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryConfig:
    """Where the schemas of messages lie that were written with a schema registry."""

    __pydantic_config__ = SECTION

    url: str = ""
    """Address of the registry, such as `https://registry:8081`. Empty: messages are plain JSON."""
    username: str = ""
    """User name, or API key, for the registry (HTTP Basic)."""
    password: OrNone[SecretStr] = None
    """Password, or API secret, of `username`; without a user name it is a bearer token."""
    cafile: OrNone[Path] = None
    """Certificate authorities (PEM) for the registry's certificate. Default: those that this machine trusts."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        is_address = not self.url or (parts.scheme in ("http", "https") and bool(parts.hostname))
        require(
            (is_address, "bus.registry.url is no address such as https://registry:8081"),
            (parts.username is None, "bus.registry.url holds a user name: give it as bus.registry.username"),
            (not self.username or self.password is not None, "bus.registry.username needs bus.registry.password"),
            (
                bool(self.url) or not (self.username or self.password),
                "bus.registry.url is required: it names the registry",
            ),
        )
