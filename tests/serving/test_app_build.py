"""Tests what is refused before a replica starts: names that nobody reads, missing addresses, a port that is taken."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from serving import app
from serving.config import ServingConfig
from serving.http.listener import PortTaken
from serving.replica_config import ReplicaConfig
from tests.serving.http.test_listener import make_listener
from wire.config import BusConfig, StoreConfig
from wire.keyring import parse


def make_config(port: int) -> ReplicaConfig:
    """Settings with servers that do not exist."""
    return ReplicaConfig(
        encoder="minilm-l6",
        serving=ServingConfig(http_port=port),
        bus=BusConfig(bootstrap_servers="127.0.0.1:1"),
        store=StoreConfig(url="redis://127.0.0.1:1/0"),
        ring=parse("key"),
    )


def test_a_port_that_is_taken_is_said_before_anything_starts() -> None:
    listener = make_listener("another service")
    with pytest.raises(PortTaken):
        app.run(make_config(listener.port), threading.Event())
    listener.close()


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Any]:
    monkeypatch.setenv("LIFELONG_SIGNING_KEY", "k" * 32)
    return app.build


ADDRESSES = {"store.url": "redis://127.0.0.1:1/0", "bus": {"bootstrap_servers": "127.0.0.1:1"}}


def test_build_names_everything_that_is_missing(
    build: Callable[[dict[str, Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIFELONG_SIGNING_KEY")
    with pytest.raises(ValueError, match=r"bus\.bootstrap_servers, store\.url, LIFELONG_SIGNING_KEY"):
        build({})


def test_build_refuses_names_that_nobody_reads(build: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(ValueError, match="replica_count"):
        build({**ADDRESSES, "serving.replica_count": "2"})


def test_build_refuses_sections_that_nobody_reads(build: Callable[[dict[str, Any]], Any]) -> None:
    for name in ("sotre.url", "learner.seed"):
        with pytest.raises(ValueError, match=name.split(".")[0]):
            build({**ADDRESSES, name: "1"})


def test_build_refuses_constants(build: Callable[[dict[str, Any]], Any]) -> None:
    for name in ("serving.max_batch_items", "learner.trust.max_sources"):
        with pytest.raises(ValueError, match=f"{name} is a constant now"):
            build({**ADDRESSES, name: "8"})


def test_a_malformed_password_is_not_printed(build: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(ValueError, match=r"bus\.sasl_password") as caught:
        build({**ADDRESSES, "bus.sasl_password": ["canary"]})
    assert "canary" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, at import
def test_build_reads_text_as_the_command_line_gives_it(build: Callable[[dict[str, Any]], Any]) -> None:
    args = {"serving": {"precision.mode": "int4"}, "serving.replicas": "3", "learner.trust.require_receipts": "true"}
    application = build({**ADDRESSES, **args})
    assert application._bound_deployment.num_replicas == 3
    (config,) = application._bound_deployment.init_args
    assert config.serving.precision.mode == "int4"
    assert config.trust.require_receipts


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, at import
def test_build_hides_all_secrets_in_the_logs(build: Callable[[dict[str, Any]], Any]) -> None:
    sasl = {"security_protocol": "SASL_SSL", "sasl_username": "u", "sasl_password": "a" * 16}
    (config,) = build({**ADDRESSES, **{f"bus.{name}": sasl[name] for name in sasl}})._bound_deployment.init_args
    assert {"k" * 32, "a" * 16} <= {*config.logs.secrets}
