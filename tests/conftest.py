"""Loads the fixtures: real servers, one file per system. Property tests have no deadline."""

import hypothesis

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

pytest_plugins = [
    "tests.alone",
    "tests.again",
    "tests.required",
    "tests.brokers",
    "tests.lost_tails",
    "tests.secure_brokers",
    "tests.stores",
    "tests.proxies",
]
