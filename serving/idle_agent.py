"""Runs in place of Ray's dashboard agent and its agent for runtime environments, neither of which is used here.

A raylet starts both, waits until each has written the files that name its ports, and ends if one of them ends. For this
Ray's own agents import all of Ray. This program is started without site packages and takes some milliseconds. It ends
with its raylet.
"""

import os
import sys
import time

NO_PORT = "1"
"""Written as the port of an agent: nothing listens there."""

PORTS = {
    "agent.py": ("dashboard_agent_listen_port", "metrics_agent_port", "metrics_export_port"),
    "main.py": ("runtime_env_agent_port",),
}
"""Program of Ray -> the names of the ports that it announces."""

POLL_S = 0.5
"""Interval in seconds at which the parent process is checked."""


def announce_ports(command: list[str]) -> None:
    """Writes the files for which the raylet waits. `command`: the program of Ray to replace, and its options."""
    program, *rest = command
    options = dict(option.removeprefix("--").split("=", 1) for option in rest if "=" in option)
    for name in PORTS[os.path.basename(program)]:
        path = os.path.join(options["session-dir"], f"{name}_{options['node-id']}")
        # The raylet must not read an empty file.
        with open(f"{path}.new", "w") as file:
            file.write(NO_PORT)
        os.replace(f"{path}.new", path)


def wait_for_exit(parent: int) -> None:
    """Returns when the process `parent` is no longer our parent."""
    while os.getppid() == parent:
        time.sleep(POLL_S)


if __name__ == "__main__":
    raylet = os.getppid()
    announce_ports(sys.argv[1:])
    wait_for_exit(raylet)
