"""The settings of the page."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from annotated_types import Ge, Le, MinLen
from pydantic import SecretStr

from wire.config import SECTION, OrNone, require

MIN_TOKEN_CHARS = 16

PageToken: TypeAlias = Annotated[SecretStr, MinLen(MIN_TOKEN_CHARS)]


@dataclass(frozen=True, kw_only=True, slots=True)
class PageConfig:
    """The page that `lifelong up` and `demo` serve."""

    __pydantic_config__ = SECTION

    host: str = "127.0.0.1"
    """Address that the page listens on. If it is not a loopback address, reading needs the token, too."""
    is_local: bool = False
    """Whether only this machine reaches the page although `host` is not a loopback address, for example if a
    container's port is published on 127.0.0.1. Then reading needs no token, and a request must name this machine as its
    host."""
    port: Annotated[int, Ge(0), Le(65_535)] = 8_090
    """Port of the page. If it is taken, a free port is used, and printed. 0: no page."""
    token: OrNone[PageToken] = None
    """Secret of 16 characters or more, which is required to promote, roll back, pause, release or replay by the page.
    If it is not set, it is generated in the file `page.token` in `state_dir`."""

    def __post_init__(self) -> None:
        require((self.host != "", "page.host must be an address; 0.0.0.0 is every address of this machine"))
