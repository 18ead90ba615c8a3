"""The messages of the benchmark: under its map, both forms are the same event."""

from pydantic import TypeAdapter

from bench.setting_costs import MAPPING, _message
from wire.envelope import from_message
from wire.mapping import EventMap, field_map
from wire.message import Message, Place
from wire.records import Event


def test_a_foreign_message_and_one_of_ours_are_the_same_event() -> None:
    values = {name.rpartition(".")[2]: value for name, value in MAPPING.items()}
    section = TypeAdapter(EventMap).validate_python(values)
    place = Place(topic="t", partition=0, offset=0)
    texts = ("e-1", "where is it", "customer 7")
    ours = from_message(Event, Message(key=None, value=_message(*texts, is_ours=True)), place)
    message = Message(key=None, value=_message(*texts, is_ours=False))
    foreign = from_message(Event, message, place, foreign=field_map(section))
    assert (foreign.id, foreign.text, foreign.key) == (ours.id, ours.text, ours.key) == texts
