"""Where the fixtures are: real servers, one file per system."""

pytest_plugins = ["tests.brokers", "tests.stores"]
