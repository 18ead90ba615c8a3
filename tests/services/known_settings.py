"""The facts of the settings that their tests share: types, ranges, defaults."""

from services.settings import Settings
from services.settings_docs import describe_setting, schemas

NUMBERS = sorted(name for name, schema in schemas(Settings).items() if schema["type"] in ("integer", "number"))


def facts(name: str) -> str:
    """Returns the type, the range and the default of a setting, which follow its documentation."""
    return (
        describe_setting(Settings, name)
        .removeprefix(" ".join(schemas(Settings)[name]["description"].split()))
        .strip(" ()")
    )


def bounds(name: str) -> tuple[float, float]:
    """Returns the range of a number, without its ends if the schema excludes them."""
    schema = schemas(Settings)[name]
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    assert low is not None and high is not None, name
    return low, high
