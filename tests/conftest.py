"""Where the fixtures are: real servers, one file per system."""

from importlib.util import find_spec

pytest_plugins = [name for name in ("tests.brokers", "tests.stores") if find_spec(name)]
