"""Tests the settings of the Redis client: contradictions are refused with the sentence of the broken rule."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from wire.config import StoreConfig

SECRET = SecretStr("hush-hush")
FILE = Path("file.pem")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"url": "redis://host", "ssl_cafile": FILE}, "belong to a store.url that begins with rediss://"),
        ({"url": "rediss://host", "ssl_keyfile": FILE}, "belong to the key of store.ssl_certfile, which is not set"),
        ({"url": "redis://host", "sentinel_password": SECRET}, "belong to a store.url that begins with redis.sentinel"),
    ],
)
def test_a_setting_without_effect_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        StoreConfig(**settings)


def test_the_password_is_not_shown() -> None:
    config = StoreConfig(url="rediss+sentinel://one:1/weights", password=SECRET, sentinel_password=SECRET)
    assert "hush" not in repr(config)
