"""What the tests of several commands share."""

from pathlib import Path

import pytest

from tests.stores import SIGNING_KEY
from wire.config import StoreConfig


@pytest.fixture
def there(store_config: StoreConfig, tmp_path: Path) -> dict[str, str]:
    """Names a server of Redis, and a broker that is not there."""
    return {
        "LIFELONG_STORE__URL": store_config.url,
        "LIFELONG_STORE__PREFIX": store_config.prefix,
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "LIFELONG_STATE_DIR": str(tmp_path),
        "LIFELONG_SIGNING_KEY": SIGNING_KEY.decode(),
    }
