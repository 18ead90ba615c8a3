"""Runs the Lua of the store's scripts, so that the simulated store runs the very scripts that Redis runs.

    source --tokens--> statements --as Python--> compiled once --> called with KEYS, ARGV and what `redis.call` does

It knows the part of Lua that our scripts use, and refuses the rest. A string is bytes, a table is a `Table`, and a
reply that is missing is false, as in Redis. Only `unpack` gives several values.

Rejected: a model of each script in Python (it would stay as it is while the scripts change).
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from tests.simulation import lua_values
from tests.simulation.lua_values import Table

TOKEN: Final = re.compile(
    r"\s*(?:--[^\n]*\s*)*(?P<token>'[^'\n]*'|\d+(?:\.\d+)?|[A-Za-z_]\w*|\.\.|==|~=|<=|>=|[-+*/%#<>=(){}\[\],.:;])"
)

BINARY: Final = ({"or"}, {"and"}, {"==", "~=", "<", "<=", ">", ">="}, {".."}, {"+", "-"}, {"*", "/", "%"})
"""The binary operators, loosest first."""

ENDS: Final = {"end", "else", "elseif", ""}


class Writer:
    """Writes a script as a Python function `script(KEYS, ARGV, redis_call)`."""

    def __init__(self, source: str) -> None:
        self._tokens = tokenize(source)
        self._at = 0
        self._lines: list[str] = []
        self._num_names = 0

    def python(self) -> str:
        self._lines = ["def script(v_KEYS, v_ARGV, redis_call):", "  pass"]
        self._block(1)
        if self._now:
            raise SyntaxError(f"{self._now!r} ends a block")
        return "\n".join(self._lines)

    @property
    def _now(self) -> str:
        return self._tokens[self._at]

    def _take(self, wanted: str = "") -> str:
        token = self._tokens[self._at]
        if wanted and token != wanted:
            raise SyntaxError(f"{token!r} stands where {wanted!r} is expected")
        self._at += 1
        return token

    def _skip(self, token: str) -> bool:
        if self._now != token:
            return False
        self._at += 1
        return True

    def _write(self, depth: int, line: str) -> None:
        self._lines.append(f"{'  ' * depth}{line}")

    def _block(self, depth: int) -> None:
        self._write(depth, "pass")
        while self._now not in ENDS:
            self._statement(depth)

    def _statement(self, depth: int) -> None:
        if self._skip(";"):
            return
        if self._skip("local"):
            self._local(depth)
        elif self._skip("if"):
            self._branch(depth, "if")
        elif self._skip("for"):
            self._loop(depth)
        elif self._skip("return"):
            value = "None" if self._now in ENDS else self._expression()
            self._write(depth, f"return {value}")
        else:
            self._call_or_assignment(depth)

    def _local(self, depth: int) -> None:
        if self._skip("function"):
            self._function(depth, f"v_{self._take()}")
            return
        names = [f"v_{self._take()}"]
        while self._skip(","):
            names.append(f"v_{self._take()}")
        if self._skip("="):
            self._write(depth, f"{', '.join(names)}, = take({len(names)}, {self._read_list('')})")
        else:
            self._write(depth, f"{' = '.join(names)} = None")

    def _function(self, depth: int, name: str) -> None:
        self._take("(")
        names: list[str] = []
        while not self._skip(")"):
            names.append(f"v_{self._take()}")
            self._skip(",")
        self._write(depth, f"def {name}({', '.join(names)}):")
        self._block(depth + 1)
        self._take("end")

    def _branch(self, depth: int, word: str) -> None:
        self._write(depth, f"{word} is_true({self._expression()}):")
        self._take("then")
        self._block(depth + 1)
        if self._skip("elseif"):
            self._branch(depth, "elif")
            return
        if self._skip("else"):
            self._write(depth, "else:")
            self._block(depth + 1)
        self._take("end")

    def _loop(self, depth: int) -> None:
        names = [f"v_{self._take()}"]
        if self._skip(","):
            names.append(f"v_{self._take()}")
        if self._skip("in"):
            self._write(depth, f"for {', '.join(names)} in {self._expression()}:")
        else:
            self._take("=")
            self._write(depth, f"for {names[0]} in steps({self._read_list('do')}):")
        self._take("do")
        self._block(depth + 1)
        self._take("end")

    def _call_or_assignment(self, depth: int) -> None:
        target = self._operand()
        if self._skip("="):
            self._write(depth, f"{target} = {self._expression()}")
        else:
            self._write(depth, target)

    def _read_list(self, end: str) -> str:
        """Returns expressions that are separated by commas, up to the token `end`, which stays."""
        items: list[str] = []
        while not end or self._now != end:
            is_unpacked = self._now == "unpack"
            items.append(f"{'*' * is_unpacked}{self._expression()}")
            if not self._skip(","):
                break
        return ", ".join(items)

    def _expression(self, level: int = 0) -> str:
        if level == len(BINARY):
            return self._unary()
        left = self._expression(level + 1)
        while self._now in BINARY[level]:
            operator = self._take()
            left = self._combined(operator, left, self._expression(level + 1))
        return left

    def _combined(self, operator: str, left: str, right: str) -> str:
        if operator in ("and", "or"):
            self._num_names += 1
            name = f"t{self._num_names}"
            chosen = (right, name) if operator == "and" else (name, right)
            return f"({chosen[0]} if is_true({name} := {left}) else {chosen[1]})"
        return f"OPERATORS[{operator!r}]({left}, {right})"

    def _unary(self) -> str:
        if self._skip("not"):
            return f"(not is_true({self._unary()}))"
        if self._skip("#"):
            return f"length({self._unary()})"
        if self._skip("-"):
            return f"(-number({self._unary()}))"
        return self._operand()

    def _operand(self) -> str:
        value = self._atom()
        while True:
            if self._skip("["):
                value = f"{value}[{self._expression()}]"
                self._take("]")
            elif self._skip("."):
                value = f"{value}[{self._take().encode()!r}]"
            elif self._skip("("):
                value = f"{value}({self._read_list(')')})"
                self._take(")")
            else:
                return value

    def _atom(self) -> str:
        token = self._take()
        if token == "(":
            value = self._expression()
            self._take(")")
            return f"({value})"
        if token == "{":
            return self._table()
        if token == "function":
            raise SyntaxError("a function without a name")
        if token[0] == "'":
            return repr(token[1:-1].encode())
        if token[0].isdigit():
            return token
        constants = {"nil": "None", "true": "True", "false": "False"}
        if token in constants:
            return constants[token]
        if token in ("redis", "math"):
            self._take(".")
            return {"call": "redis_call", "floor": "floor", "max": "highest"}[self._take()]
        if token in ("unpack", "tonumber", "ipairs"):
            return token
        if not token.isidentifier():
            raise SyntaxError(f"{token!r} stands where a value is expected")
        return f"v_{token}"

    def _table(self) -> str:
        items = self._read_list("}")
        self._take("}")
        return f"Table.of([{items}])"


def tokenize(source: str) -> list[str]:
    """Returns the tokens of a source, and an empty one at its end. Raises SyntaxError."""
    tokens: list[str] = []
    at = 0
    source = source.rstrip()
    while at < len(source):
        found = TOKEN.match(source, at)
        if found is None:
            raise SyntaxError(f"{source[at : at + 20]!r} is no Lua that is known here")
        tokens.append(found["token"])
        at = found.end()
    return [*tokens, ""]


@cache
def compiled(source: str) -> Callable[[Table, Table, Callable[..., Any]], Any]:
    """Returns a script as a function of KEYS, ARGV and `redis.call`. Raises SyntaxError."""
    names = dict(vars(lua_values))
    exec(compile(Writer(source).python(), "script", "exec"), names)
    script: Callable[[Table, Table, Callable[..., Any]], Any] = names["script"]
    return script
