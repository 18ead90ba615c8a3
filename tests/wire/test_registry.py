"""Tests the rules between the settings of the registry."""

import pytest
from pydantic import SecretStr

from wire.registry import RegistryConfig


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"url": "registry:8081"}, "must be an address"),
        ({"url": "http://me:hush@registry"}, "holds a user name"),
        ({"url": "http://registry", "username": "me"}, r"needs bus\.registry\.password"),
        ({"password": SecretStr("hush")}, r"bus\.registry\.url is required"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        RegistryConfig(**settings)  # type: ignore[arg-type]
