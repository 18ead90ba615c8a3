"""The state of a join: what it holds is read back."""

import msgspec

from learner.intake.join import JoinState
from tests.learner.intake.joins import answer, label, make_join


def test_what_waits_is_read_back_from_a_checkpoint() -> None:
    join = make_join()
    join.match([answer("a"), label("b", "no")])
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(join.export()), type=JoinState)
    assert [waiting.event_id for waiting in state.answers] == ["a"]
    assert [(waiting.event_id, waiting.label) for waiting in state.labels] == [("b", "no")]


def test_a_state_from_before_erasures_had_a_memory_is_read() -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(make_join().export()))
    del fields["erased"]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=JoinState).erased == []
