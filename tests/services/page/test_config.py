"""The settings of the page."""

import pytest

from services.page.config import PageConfig


def test_the_page_is_for_this_machine_unless_that_is_said() -> None:
    assert PageConfig().host == "127.0.0.1"
    with pytest.raises(ValueError, match=r"page\.host must be an address"):
        PageConfig(host="")
