"""Tests that schemas are fetched once, in bounded time and number, and that each refusal has the fix."""

import time
from dataclasses import replace

import pytest
from pydantic import SecretStr

from services.local.children import free_port
from tests.wire.schema_registry import Registry
from wire.errors import BadMessage
from wire.registry import MAX_REFERENCES, RegistryConfig, Schemas


def test_a_schema_and_its_references_are_fetched_once(registry: Registry) -> None:
    registry.add_tickets(7)
    schemas = Schemas(registry.config)
    found = schemas.get(7)
    assert ["Customer" in each.schema for each in found] == [True, True]
    assert '"Ticket"' in found[-1].schema and found[-1].schema_type == "AVRO"
    assert schemas.get(7) is found
    assert set(registry.asked.values()) == {1}


def test_an_unknown_id_is_not_requested_again_and_again(registry: Registry) -> None:
    schemas = Schemas(registry.config)
    for _ in range(3):
        with pytest.raises(BadMessage, match="registry has no /schemas/ids/8"):
            schemas.get(8)
    assert registry.asked["/schemas/ids/8"] == 1


def test_a_registry_that_is_away_briefly_is_waited_for(registry: Registry) -> None:
    registry.add(1, {"type": "string"})
    registry.failures = 2
    assert Schemas(registry.config).get(1)[0].schema_type == "AVRO"


@pytest.mark.alone
def test_a_registry_that_stays_away_delays_the_reader_once() -> None:
    config = RegistryConfig(url=f"http://127.0.0.1:{free_port()}")
    schemas = Schemas(config, patience_s=0.5)
    begun_s = time.monotonic()
    for number in range(50):
        with pytest.raises(BadMessage, match="the registry does not answer"):
            schemas.get(number)
    assert time.monotonic() - begun_s < 5


def test_a_wrong_password_is_named(registry: Registry) -> None:
    registry.add(1, {"type": "string"})
    wrong = replace(registry.config, password=SecretStr("another"))
    with pytest.raises(BadMessage, match=r"401: correct bus\.registry\.username"):
        Schemas(wrong, patience_s=0).get(1)


def test_an_invalid_schema_is_refused(registry: Registry) -> None:
    registry.bodies["/schemas/ids/1"] = {"schema": 5}
    with pytest.raises(BadMessage, match="is not a schema"):
        Schemas(registry.config).get(1)


def test_cyclic_references_end(registry: Registry) -> None:
    def naming(*numbers: int) -> list[dict[str, object]]:
        return [{"name": f"s{each}", "subject": f"s{each}", "version": 1} for each in numbers]

    registry.add(1, {"type": "string"}, references=naming(2))
    registry.bodies["/subjects/s2/versions/1"] = {"schema": "{}", "references": naming(2)}
    assert len(Schemas(registry.config).get(1)) == 2
    many = range(MAX_REFERENCES + 1)
    registry.add(3, {"type": "string"}, references=naming(*many))
    registry.bodies |= {f"/subjects/s{each}/versions/1": {"schema": "{}"} for each in many}
    with pytest.raises(BadMessage, match="references more than"):
        Schemas(registry.config).get(3)


def test_the_cache_of_schemas_is_bounded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.registry.MAX_KEPT", 2)
    schemas = Schemas(registry.config)
    for number in (1, 2, 3, 1):
        registry.add(number, {"type": "string"})
        schemas.get(number)
    assert registry.asked["/schemas/ids/1"] == 2
