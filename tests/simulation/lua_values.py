"""The values of Lua, and what its operators and functions do with them: for the scripts that `lua` compiles."""

from collections.abc import Callable, Sequence
from typing import Any, Final


class Table(dict[Any, Any]):
    """A Lua table. A key that is missing is nil."""

    def __missing__(self, key: Any) -> None:
        return None

    @classmethod
    def of(cls, items: Sequence[Any]) -> "Table":
        return cls(zip(range(1, len(items) + 1), items, strict=True))

    def items_in_order(self) -> list[Any]:
        """Returns the items from 1 to the first that is nil."""
        found: list[Any] = []
        while (item := self[len(found) + 1]) is not None:
            found.append(item)
        return found


def is_true(value: Any) -> bool:
    return value is not None and value is not False


def tonumber(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if not isinstance(value, bytes):
        return None
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        return None


def number(value: Any) -> Any:
    found = tonumber(value)
    if found is None:
        raise TypeError(f"{value!r} is no number")
    return found


def text(value: Any) -> bytes:
    """Returns a string, or a number as Lua writes it."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, float) and not value.is_integer():
        return b"%.17g" % value
    return b"%d" % value


def is_equal(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return left is right
    return bool(left == right)


def take(num: int, *values: Any) -> tuple[Any, ...]:
    """Returns so many values; nil stands for those that are missing."""
    return (*values, *(None,) * num)[:num]


def unpack(table: Table, first: int = 1, last: int | None = None) -> list[Any]:
    return [table[index] for index in range(first, (length(table) if last is None else last) + 1)]


def length(value: Any) -> int:
    return len(value) if isinstance(value, bytes) else len(value.items_in_order())


def steps(first: Any, last: Any, step: int = 1) -> range:
    return range(number(first), number(last) + 1, step)


def ipairs(table: Table) -> Any:
    return enumerate(table.items_in_order(), start=1)


def floor(value: Any) -> int:
    return int(number(value) // 1)


def highest(*values: Any) -> Any:
    return max(map(number, values))


OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": is_equal,
    "~=": lambda left, right: not is_equal(left, right),
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "..": lambda left, right: text(left) + text(right),
    "+": lambda left, right: number(left) + number(right),
    "-": lambda left, right: number(left) - number(right),
    "*": lambda left, right: number(left) * number(right),
    "/": lambda left, right: number(left) / number(right),
    "%": lambda left, right: number(left) % number(right),
}
