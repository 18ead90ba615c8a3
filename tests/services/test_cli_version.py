"""`lifelong --version` is that of the package."""

from lifelong import __version__
from tests.services.command_line import lifelong


def test_the_version_is_that_of_the_package() -> None:
    done = lifelong("--version")
    assert (done.returncode, done.stdout) == (0, f"lifelong {__version__}\n")
