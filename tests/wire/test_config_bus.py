"""Tests the settings of the Kafka client: contradictions are refused with the sentence of the broken rule."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from wire.config import BusConfig

SECRET = SecretStr("hush-hush")
FILE = Path("file.pem")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"security_protocol": "SASL_SSL"}, "need bus.sasl_username and bus.sasl_password"),
        ({"security_protocol": "SASL_SSL", "sasl_username": "me"}, "need bus.sasl_username and bus.sasl_password"),
        ({"sasl_username": "me", "sasl_password": SECRET}, "belong to bus.security_protocol SASL_PLAINTEXT or"),
        ({"security_protocol": "SSL", "sasl_password": SECRET}, "belong to bus.security_protocol SASL_PLAINTEXT or"),
        ({"ssl_cafile": FILE}, "belong to bus.security_protocol SSL or SASL_SSL"),
        ({"ssl_password": SECRET}, "belong to bus.security_protocol SSL or SASL_SSL"),
        ({"security_protocol": "SSL", "ssl_keyfile": FILE}, "bus.ssl_keyfile and bus.ssl_password belong to"),
        ({"security_protocol": "SSL", "ssl_password": SECRET}, "to the key of bus.ssl_certfile, which is not set"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}, "bus.sasl_oauth_token_provider provides"),
        ({"sasl_oauth_token_provider": "my.tokens:Provider"}, "bus.sasl_oauth_token_provider provides the tokens for"),
    ],
)
def test_security_that_has_no_effect_is_refused(settings: dict[str, Any], sentence: str) -> None:
    """B9: a password that the protocol does not use is a mistake."""
    with pytest.raises(ValueError, match=sentence):
        BusConfig(**settings)


@pytest.mark.parametrize("mechanism", ["AWS_MSK_IAM", "GSSAPI"])
def test_a_mechanism_without_a_password_needs_none(mechanism: Any) -> None:
    config = BusConfig(security_protocol="SASL_SSL", sasl_mechanism=mechanism)
    assert config.uses_sasl and not config.uses_password


def test_the_password_is_not_shown() -> None:
    config = BusConfig(security_protocol="SASL_SSL", sasl_username="me", sasl_password=SECRET)
    assert "hush" not in repr(config)
    assert config.password == "hush-hush"
