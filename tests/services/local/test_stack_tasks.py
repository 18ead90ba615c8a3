"""`lifelong up` with two tasks: both answer each event, each learns its own labels, and a command works on one task."""

import json

import pytest

from lifelong import Client
from tests.services.command_line import lifelong
from tests.services.stack_owner import UP, owning
from tests.waiting import eventually

pytestmark = pytest.mark.live

TEXT = "my card was stolen"
SETTINGS = {"LIFELONG_TASKS": '{"urgency": {}}', "LIFELONG_LEARNER__HOLDOUT_SHARE": "0"}


def test_each_task_learns_and_is_shown_by_its_name_and_a_subject_is_forgotten_by_all(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with owning(UP, tmp_path_factory.mktemp("up"), **SETTINGS) as up, Client(f"http://127.0.0.1:{up.port}") as client:

        def command(*words: str) -> tuple[int, str, str]:
            done = lifelong(*words, LIFELONG_STATE_DIR=str(up.folder), **SETTINGS)
            return done.returncode, done.stdout, done.stderr

        def said() -> tuple[str | None, str | None]:
            answer = client.predict(TEXT)
            return answer.label, answer.tasks["urgency"].label

        answer = client.predict(TEXT, key="customer 7")
        client.feedback(answer, "cards")
        client.feedback(answer, "high", task="urgency")
        eventually(lambda: said() == ("cards", "high"))

        shown = [json.loads(command("labels", "list", "--json", *of)[1]) for of in ((), ("--task", "urgency"))]
        assert [each["classes"] for each in shown] == [["cards"], ["high"]]
        code, output, errors = command("forget", "--subject", "customer 7", "--json")
        assert code == 0, errors
        forgotten = json.loads(output)
        assert all(sum(each["numbers"].values()) for each in (forgotten, forgotten["tasks"]["urgency"]))

        code, _, errors = command("status", "--task", "urgncy")
        assert (code, "Did you mean 'urgency'?" in errors) == (78, True)
        code, _, errors = command("up", "--task", "urgency")
        assert (code, "Leave --task out" in errors) == (78, True)
