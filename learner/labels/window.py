"""A window of items that wait for their counterpart by event id, bounded in bytes; the oldest id is evicted first.

    add(item) --encoded--> the window --of(event id)--> items        export: all items, as one value of a checkpoint

The oldest id is the one that an item was added to longest ago. An item is kept in the encoding that a checkpoint has:
that takes half the memory of the item itself, and a checkpoint of hundreds of thousands of items is written in
milliseconds. The bound counts these bytes, and OVERHEAD for each item's place, so that it is about the memory that the
process takes.

Several items may share an id (sources that both count 1, 2, 3), but at most SAME_ID of them. So a client that gives
every event the same id costs a search no more than that many items, and evicts its own items, not those of other
sources.

Rejected: a bound by number (an id may have a megabyte), and by time (a stalled stream would expire all at once).
"""

import struct
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec

OVERHEAD: Final = 400
"""Bytes of memory that an item takes besides its encoding, measured: its id once more, and its place in the window."""

SAME_ID: Final = 8
"""Number of items of one id that wait at a time. The oldest of the source that has most of them is evicted first."""

_ARRAY_HEADER: Final = struct.Struct(">BI")
_ARRAY_32: Final = 0xDD  # the type of a long array in MessagePack


class Level(NamedTuple):
    """Says how full a window is.

    `fill` is the share of its bytes that are taken; `room` is how many items of the mean size half of it holds.
    """

    fill: float
    room: float


class Levels(NamedTuple):
    """Says how full the windows of the join are."""

    answers: Level
    labels: Level


class Windowed(Protocol):
    """What a window requires of its items."""

    @property
    def event_id(self) -> str: ...
    @property
    def source(self) -> str | None: ...


T = TypeVar("T", bound=Windowed)


class Window(Generic[T]):
    """Holds items by event id, in the order in which an id was added to last. Equal items have equal encodings."""

    def __init__(self, item_type: type[T], max_bytes: int, items: Iterable[T] = ()) -> None:
        self._max_bytes = max_bytes
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(item_type).decode
        self._items = OrderedDict[str, tuple[bytes, ...]]()
        self._num_bytes = 0
        self._num_items = 0
        for item in items:
            self._put(item)

    def of(self, event_id: str) -> list[T]:
        """Returns the items of an event id, oldest first."""
        return [self._decode(data) for data in self._items.get(event_id, ())]

    def add(self, item: T) -> list[T]:
        """Adds `item`; returns the items that were evicted for it. The bounds hold afterwards."""
        self._put(item)
        evicted: list[T] = []
        if len(self._items[item.event_id]) > SAME_ID:
            evicted.append(_most_crowded(self.of(item.event_id)))
            self.remove(evicted[0])
        while self._num_bytes > self._max_bytes:
            evicted += self._pop_oldest()
        return evicted

    def remove(self, item: T) -> None:
        """Removes `item`, which is here."""
        data = self._encode(item)
        left = list(self._items.pop(item.event_id))
        left.remove(data)
        if left:
            self._items[item.event_id] = tuple(left)
        self._count(-1, data)

    def replace(self, old: T, new: T) -> None:
        """Puts `new` into the place of `old`, which is here and has the same id."""
        before = self._encode(old)
        after = self._encode(new)
        same = self._items[old.event_id]
        self._items[old.event_id] = tuple(after if data == before else data for data in same)
        self._count(-1, before)
        self._count(1, after)

    def newest(self, num_items: int) -> list[T]:
        """Returns the last `num_items` items, oldest first."""
        encoded = list(chain.from_iterable(self._items.values()))[-num_items:]
        return [self._decode(data) for data in encoded]

    def export(self) -> msgspec.Raw:
        """Returns the items in their order, as an encoded array."""
        header = _ARRAY_HEADER.pack(_ARRAY_32, self._num_items)
        return msgspec.Raw(header + b"".join(chain.from_iterable(self._items.values())))

    @property
    def level(self) -> Level:
        mean = self._num_bytes / self._num_items if self._num_items else OVERHEAD
        return Level(fill=self._num_bytes / self._max_bytes, room=self._max_bytes / mean / 2)

    def __iter__(self) -> Iterator[T]:
        return (self._decode(data) for data in chain.from_iterable(self._items.values()))

    def __len__(self) -> int:
        return self._num_items

    def _put(self, item: T) -> None:
        data = self._encode(item)
        self._items[item.event_id] = (*self._items.pop(item.event_id, ()), data)
        self._count(1, data)

    def _pop_oldest(self) -> list[T]:
        _, same = self._items.popitem(last=False)
        for data in same:
            self._count(-1, data)
        return [self._decode(data) for data in same]

    def _count(self, num_items: int, data: bytes) -> None:
        self._num_items += num_items
        self._num_bytes += num_items * (OVERHEAD + len(data))


def _most_crowded(items: list[T]) -> T:
    """Returns the oldest item of a source that no other source has more items than."""
    sources = Counter(item.source for item in items)
    most = max(sources.values())
    return next(item for item in items if sources[item.source] == most)
