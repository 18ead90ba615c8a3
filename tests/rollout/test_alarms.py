"""What fails is shown until it succeeds, and counted each time."""

import pytest
from structlog.testing import capture_logs

from rollout.alarms import Alarms
from rollout.plans import NotPossible
from wire.errors import StoreUnavailable


def fail(alarms: Alarms, step: str, error: Exception) -> None:
    with alarms.attempt(step):
        raise error


def test_a_failure_is_an_alarm_until_its_step_succeeds() -> None:
    alarms = Alarms()
    fail(alarms, "collect", StoreUnavailable("no answer"))
    fail(alarms, "judge", NotPossible("there is no candidate"))
    assert alarms.active() == ("collect: StoreUnavailable: no answer", "judge: NotPossible: there is no candidate")
    with alarms.attempt("collect"):
        pass
    assert alarms.active() == ("judge: NotPossible: there is no candidate",)
    assert alarms.counts == {"failed_collect": 1, "failed_judge": 1}


def test_a_failure_is_logged_when_it_begins_when_its_kind_changes_and_when_it_is_over() -> None:
    alarms = Alarms()
    with capture_logs() as logs:
        fail(alarms, "collect", StoreUnavailable("no answer for 1 s"))
        fail(alarms, "collect", StoreUnavailable("no answer for 2 s"))
        fail(alarms, "collect", NotPossible("no plan"))
        alarms.clear("collect")
        alarms.clear("collect")
    assert [entry["event"] for entry in logs] == ["alarm", "alarm", "alarm_over"]
    assert alarms.counts == {"failed_collect": 3}


def test_a_bug_of_ours_is_no_alarm() -> None:
    alarms = Alarms()
    with pytest.raises(ZeroDivisionError):
        fail(alarms, "judge", ZeroDivisionError())
    assert alarms.active() == ()
