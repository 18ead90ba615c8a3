"""Describes settings, and explains why a value is not accepted. Pure functions of a model's JSON Schema.

the model of all settings --schemas--> the JSON Schema of each, by dotted name --> `describe_setting`, `render_mistake`
"""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from wire.logs import HIDDEN, without_password
from wire.sections import INTERNAL_VARIABLE

MAIN = (
    "encoder",
    "state_dir",
    "log_level",
    "signing_key",
    "api_key",
    "bus.bootstrap_servers",
    "bus.security_protocol",
    "bus.sasl_mechanism",
    "bus.sasl_username",
    "bus.sasl_password",
    "bus.ssl_cafile",
    "bus.prefix",
    "store.url",
    "store.password",
    "store.prefix",
    "labels.kind",
    "labels.mode",
    "labels.allow",
    "serving.replicas",
    "serving.threads",
    "serving.http_host",
    "serving.http_port",
    "serving.keys_file",
    "serving.max_tokens",
    "serving.exactly_once",
    "learner.trainable_layers",
    "learner.replay_samples",
    "learner.trust.require_receipts",
    "rollout.approval",
    "metrics.port",
)
"""The settings that a user must know, in the order of their rooms. All other settings are advanced."""

SUFFIX = "_file"
"""Suffix of a secret's name; NAME_file is the path of a file that holds the secret."""

SHOWN_KEYWORDS = ("enum", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "default")
"""Keywords of JSON Schema that the description of a setting shows."""

RENAMED = {
    "bus.client_rack": "bus.client.client_rack",
    "bus.delivery_timeout_ms": "bus.client.delivery_timeout_ms",
    "bus.fetch_max_wait_ms": "bus.client.fetch_max_wait_ms",
    "bus.fetch_min_bytes": "bus.client.fetch_min_bytes",
    "bus.heartbeat_interval_ms": "bus.client.heartbeat_interval_ms",
    "bus.linger_ms": "bus.client.linger_ms",
    "bus.max_poll_records": "bus.client.max_poll_records",
    "bus.request_timeout_ms": "bus.client.request_timeout_ms",
    "bus.retry_backoff_ms": "bus.client.retry_backoff_ms",
    "bus.session_timeout_ms": "bus.client.session_timeout_ms",
    "labels.high": "labels.range",
    "labels.low": "labels.range",
    "learner.base_layers": "learner.deeper_layers",
    "learner.domain_layers": "learner.deeper_layers",
    "learner.guard": "learner.trust",
    "learner.held_back_samples": "learner.holdout_samples",
    "learner.held_back_share": "learner.holdout_share",
    "learner.replay_bytes": "learner.replay_samples",
    "map": "bus.map",
    "rollout.candidate_share": "rollout.ramp",
    "serving.api_keys": "serving.keys_file",
    "serving.body_timeout_s": "serving.http_timeout_s",
    "serving.header_timeout_s": "serving.http_timeout_s",
    "serving.level": "serving.promises",
}
"""Maps the old names of settings and sections to the new ones. A user who sets an old name gets a mistake that names
the new one. `map` never existed: it is where a user might look for `bus.map`. Settings that became constants are
not listed, since their fields are marked (`wire.sections.INTERNAL`)."""


KEY = "[key]"
"""Last part of the location that pydantic gives for a mapping key that is not accepted."""


@cache
def schemas(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """Returns the JSON Schema of every setting by dotted name; `writeOnly` says whether its value is secret."""
    whole = model.model_json_schema()
    found: dict[str, dict[str, Any]] = {}

    def walk(section: Mapping[str, Any], prefix: str) -> None:
        for name, given in section["properties"].items():
            schema = whole["$defs"][given["$ref"].removeprefix("#/$defs/")] if "$ref" in given else given
            if "properties" in schema:
                walk(schema, f"{prefix}{name}.")
            else:
                secret = {"writeOnly": "writeOnly" in str(schema)}
                found[f"{prefix}{name}"] = schema | schema.get("anyOf", [{}])[0] | secret

    walk(whole, "")
    return found


def file_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Returns the JSON Schema of the settings file. Sections have no default, since their settings have defaults."""
    schema = model.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for given in section.get("properties", {}).values():
            if "$ref" in given:
                given.pop("default", None)
    return schema


def tables(model: type[BaseModel]) -> list[str]:
    """Returns the names of the settings that are tables, that is, mappings whose keys are chosen by the user."""
    return [name for name, schema in schemas(model).items() if schema["type"] == "object"]


def documented_name(model: type[BaseModel], name: str) -> str:
    """Returns the name of the table if `name` is a row of a table, else `name`."""
    return next((table for table in tables(model) if name.startswith(f"{table}.")), name)


def describe_setting(model: type[BaseModel], name: str) -> str:
    """Returns the meaning, type, range and default of a setting; for a row of a table, the table's description."""
    schema = schemas(model)[documented_name(model, name)]
    facts = [f"{key} {json.dumps(schema[key])}" for key in SHOWN_KEYWORDS if key in schema]
    return f"{' '.join(schema['description'].split())} ({', '.join([schema['type'], *facts])})"


def dotted_name(detail: ErrorDetails) -> str:
    """Returns the dotted name of the setting, or of the table's row, that has the error; "" for the whole model."""
    return ".".join(part for part in detail["loc"] if isinstance(part, str) and part != KEY)


def render_mistake(model: type[BaseModel], detail: ErrorDetails, origins: Mapping[str, str]) -> str:
    """Returns a sentence that names the error, its origin and the fix. `origins` has origins by dotted name."""
    known = schemas(model)
    name = dotted_name(detail)
    setting = documented_name(model, name)
    reason = detail["msg"].removeprefix("Value error, ")
    below = ", ".join(origin for each, origin in origins.items() if each.startswith(f"{name}."))
    if setting in known and KEY not in detail["loc"]:
        shown = HIDDEN if known[setting]["writeOnly"] else without_password(repr(detail["input"]))
        return (
            f"{origins.get(name, below)}: {shown} is not accepted ({reason}). {name}: {describe_setting(model, name)}"
        )
    if origins.get(name) == INTERNAL_VARIABLE:
        return f"{INTERNAL_VARIABLE}: {name}: {detail['input']!r} is not accepted ({reason})"
    # A message without the prefix was not raised by a rule between settings: pydantic does not know the name.
    if reason == detail["msg"]:
        files = [f"{each}{SUFFIX}" for each, schema in known.items() if schema["writeOnly"]]
        close = get_close_matches(name, [*known, *files], n=1)
        fix = f"Did you mean {close[0]}?" if close else "`lifelong config show --all` lists all settings"
        if name in RENAMED:
            fix = f"It is {RENAMED[name]} now"
        return f"{origins.get(name, below)}: {name} is not a setting ({reason}). {fix}"
    rows = tuple(f"{table}." for table in tables(model))
    told = [origin for each, origin in origins.items() if each in reason and (each in known or each.startswith(rows))]
    places = ", ".join(told) or below
    if len(told) < 2:
        return f"{places}: {reason}" if places else reason
    return f"{places}: {reason}. Change one of them"
