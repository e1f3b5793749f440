"""Runs the function blocks of docs/plc: a small compiler of Structured Text, and SCL, to Python.

Stricter than a PLC: two types in one operation, a number beyond its type, an index beyond its
array and a text beyond its length are errors here; AND and OR evaluate both sides, as there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RANGES = {
    "BYTE": (0, 2**8 - 1),
    "USINT": (0, 2**8 - 1),
    "INT": (-(2**15), 2**15 - 1),
    "ULINT": (0, 2**64 - 1),
}
_TOKEN = re.compile(
    r"(?P<skip>\s+|//[^\n]*|\(\*.*?\*\)|\{[^}]*\})"
    r"|(?P<number>\d+\.\d+|\d+(?!\.\d))"
    r"|(?P<text>'[^']*')"
    r"|\#?(?P<name>\"?[A-Za-z_]\w*\"?)"
    r"|(?P<sign>:=|<>|<=|>=|\.\.|[-+*/=<>()\[\];:,.])",
    re.DOTALL,
)
_LEVELS = ({"OR"}, {"AND"}, {"=", "<>", "<", "<=", ">", ">="}, {"+", "-"}, {"*", "/", "MOD"})
_SIGNS = {"=": "==", "<>": "!=", "OR": "|", "AND": "&"}


class StructuredTextError(Exception):
    """The text is not what a PLC would take, or did what none may do."""


def fit(value: Any, kind: str) -> Any:
    """The value, if its type holds it."""
    if kind in RANGES:
        low, high = RANGES[kind]
        if not isinstance(value, int) or not low <= value <= high:
            raise StructuredTextError(f"{value!r} is no {kind}")
    elif kind.startswith("STRING") and len(value) > int(kind[6:]):
        raise StructuredTextError(f"{value!r} is longer than {kind}")
    return value


def index(cells: Any, at: int, base: int) -> int:
    """The index, if the array or the text has it."""
    if not base <= at < base + len(cells):
        raise StructuredTextError(f"index {at} beyond {len(cells)}")
    return at - base


def divide(left: Any, right: Any) -> Any:
    """IEC division: of whole numbers towards zero, here never negative."""
    return left // right if isinstance(left, int) else left / right


class Program:
    """All units of a folder, compiled.

    Args:
        files: one FUNCTION or FUNCTION_BLOCK each.
        text_base: index of a text's first character: 0 in CODESYS and TwinCAT, 1 in SCL.
    """

    def __init__(self, files: Iterable[Path], *, text_base: int = 0) -> None:
        self.scope: dict[str, Any] = {"fit": fit, "index": index, "divide": divide}
        units = [_Unit(file.read_text("utf-8"), text_base) for file in files]
        self.returns = {unit.name: unit.returns for unit in units}
        self.outputs = {unit.name: unit.kinds for unit in units}
        for unit in units:
            source = unit.compile(self)
            exec(compile(source, unit.name, "exec"), self.scope)

    def block(self, name: str) -> Any:
        """A new instance; call it with its inputs, read its outputs as attributes."""
        return self.scope[name]()


class _Unit:
    def __init__(self, text: str, text_base: int) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._base = text_base
        self.kinds: dict[str, str] = {}
        self.given: dict[str, str] = {}
        self.starts: dict[str, str] = {}
        self.is_block = self._take() == "FUNCTION_BLOCK"
        self.name = self._take()
        self.returns = self._kind() if self._accept(":") else ""
        while self._peek().startswith("VAR"):
            self._section(self._take())
        self._program: Program | None = None

    def compile(self, program: Program) -> str:
        self._program = program
        if not self.is_block:
            self.kinds[self.name] = self.returns
            self.starts[self.name] = _zero(self.returns)
        body = self._statements({f"END_{'FUNCTION_BLOCK' if self.is_block else 'FUNCTION'}"}, 2)
        starts = "".join(
            f"        self.{name} = {start}\n"
            for name, start in self.starts.items()
            if self.given.get(name) != "VAR_IN_OUT"
        )
        given = "".join(
            f"        if {name!r} in given: self.{name} = fit(given.pop({name!r}), {kind!r})\n"
            for name, kind in self.kinds.items()
            if self.given.get(name) in ("VAR_INPUT", "VAR_IN_OUT")
        )
        result = "" if self.is_block else f"        return self.{self.name}\n"
        text = (
            f"class _{self.name}:\n    def __init__(self):\n        pass\n{starts}"
            f"    def __call__(self, **given):\n{given}"
            f"        assert not given, given\n{body}{result}"
        )
        if self.is_block:
            return text + f"{self.name} = _{self.name}\n"
        return text + f"def {self.name}(**given): return _{self.name}()(**given)\n"

    def _section(self, section: str) -> None:
        while not self._accept("END_VAR"):
            name = self._take()
            self._expect(":")
            kind = self._kind()
            self.kinds[name] = kind
            self.given[name] = section
            self.starts[name] = self._take() if self._accept(":=") else _zero(kind)
            self._expect(";")

    def _kind(self) -> str:
        kind = self._take()
        if kind == "ARRAY":
            self._expect("[")
            low, _, high = self._take(), self._expect(".."), self._take()
            assert low == "0"
            self._expect("]")
            self._expect("OF")
            return f"ARRAY {int(high) + 1} {self._take()}"
        if kind == "STRING":
            if self._peek() not in "([":
                return "STRING254"
            self._take()
            size = self._take()
            self._take()
            return f"STRING{size}"
        return kind

    def _statements(self, ends: set[str], depth: int) -> str:
        lines = "    " * depth + "pass\n"
        while self._peek() not in ends and not self._peek().isdigit():
            lines += self._statement(depth)
        return lines

    def _statement(self, depth: int) -> str:
        pad = "    " * depth
        word = self._peek()
        for opening, parse in (
            ("IF", self._if),
            ("CASE", self._case),
            ("FOR", self._for),
            ("WHILE", self._while),
        ):
            if word == opening:
                self._take()
                text = parse(depth)
                self._accept(";")
                return text
        target, kind = self._reference()
        if self._accept(":="):
            value, given = self._expression()
            self._expect(";")
            self._same(kind, given)
            return f"{pad}{target} = fit({value}, {kind!r})\n"
        self._expect("(")
        call = self._arguments(kind)
        self._expect(";")
        return f"{pad}{target}({call})\n"

    def _if(self, depth: int) -> str:
        pad, text, word = "    " * depth, "", "if"
        while True:
            text += f"{pad}{word} {self._truth()}:\n"
            self._expect("THEN")
            text += self._statements({"ELSIF", "ELSE", "END_IF"}, depth + 1)
            ending = self._take()
            if ending == "END_IF":
                return text
            if ending == "ELSE":
                text += f"{pad}else:\n" + self._statements({"END_IF"}, depth + 1)
                self._expect("END_IF")
                return text
            word = "elif"

    def _case(self, depth: int) -> str:
        pad, word, text = "    " * depth, "if", ""
        value, _ = self._expression()
        self._expect("OF")
        while not self._accept("END_CASE"):
            labels = [self._take()]
            while self._accept(","):
                labels.append(self._take())
            self._expect(":")
            text += f"{pad}{word} {value} in ({', '.join(labels)},):\n"
            text += self._statements({"END_CASE"}, depth + 1)
            word = "elif"
        return text

    def _for(self, depth: int) -> str:
        pad = "    " * depth
        name, kind = self._reference()
        self._expect(":=")
        first, _ = self._expression()
        self._expect("TO")
        last, _ = self._expression()
        down = self._accept("BY") and self._expect("-") == "-" and self._expect("1") == "1"
        self._expect("DO")
        body = self._statements({"END_FOR"}, depth + 1)
        self._expect("END_FOR")
        step = f"range({first}, {last} - 1, -1)" if down else f"range({first}, {last} + 1)"
        return f"{pad}for {name} in {step}:\n{pad}    fit({name}, {kind!r})\n{body}"

    def _while(self, depth: int) -> str:
        head = f"{'    ' * depth}while {self._truth()}:\n"
        self._expect("DO")
        body = self._statements({"END_WHILE"}, depth + 1)
        self._expect("END_WHILE")
        return head + body

    def _truth(self) -> str:
        text, kind = self._expression()
        self._same("BOOL", kind)
        return text

    def _expression(self, level: int = 0) -> tuple[str, str]:
        if level == len(_LEVELS):
            return self._unary()
        left, kind = self._expression(level + 1)
        while self._peek() in _LEVELS[level]:
            sign = self._take()
            right, other = self._expression(level + 1)
            kind = self._same(kind, other)
            left, kind = self._join(left, sign, right, kind, level)
        return left, kind

    def _join(self, left: str, sign: str, right: str, kind: str, level: int) -> tuple[str, str]:
        if level < 2:
            self._same("BOOL", kind)
        if sign == "/":
            return f"divide({left}, {right})", kind
        text = f"(({left}) {_SIGNS.get(sign, '%' if sign == 'MOD' else sign)} ({right}))"
        if level <= 2:
            return text, "BOOL"
        return (f"fit({text}, {kind!r})" if kind in RANGES else text), kind

    def _unary(self) -> tuple[str, str]:
        if self._accept("NOT"):
            text, kind = self._unary()
            self._same("BOOL", kind)
            return f"(not {text})", "BOOL"
        if self._accept("("):
            text, kind = self._expression()
            self._expect(")")
            return f"({text})", kind
        word = self._peek()
        if word[0].isdigit():
            return self._take(), "LREAL" if "." in word else "whole"
        if word.startswith("'"):
            return repr(self._take()[1:-1]), "text"
        if word in ("TRUE", "FALSE"):
            return self._take().title(), "BOOL"
        return self._named()

    def _named(self) -> tuple[str, str]:
        word = self._peek()
        conversion = re.fullmatch("([A-Z]+)_TO_([A-Z]+)", word)
        if conversion or word == "LEN":
            self._take()
            self._expect("(")
            text, kind = self._expression()
            self._expect(")")
            if conversion is None:
                assert kind.startswith("STRING")
                return f"len({text})", "INT"
            if kind != "CHAR" or conversion[1] != "CHAR":
                self._same(conversion[1], kind)
            target = conversion[2]
            return (f"float({text})" if target == "LREAL" else f"fit({text}, {target!r})"), target
        assert self._program is not None
        if word in self._program.returns and word not in self.kinds:
            self._take()
            self._expect("(")
            return f"{word}({self._arguments(word)})", self._program.returns[word]
        return self._reference()

    def _reference(self) -> tuple[str, str]:
        name = self._take()
        kind = self.kinds.get(name, "")
        if not kind:
            raise StructuredTextError(f"{self.name}: {name} is not declared")
        text = f"self.{name}"
        while True:
            if self._accept("."):
                assert self._program is not None
                member = self._take()
                text, kind = f"{text}.{member}", self._program.outputs[kind][member]
            elif self._accept("["):
                at, at_kind = self._expression()
                self._same("INT", at_kind)
                self._expect("]")
                is_text = kind.startswith("STRING")
                at = f"index({text}, {at}, {self._base if is_text else 0})"
                character = "CHAR" if self._base else "BYTE"
                text = f"ord({text}[{at}])" if is_text else f"{text}[{at}]"
                kind = character if is_text else kind.split()[2]
            else:
                return text, kind

    def _arguments(self, unit: str) -> str:
        assert self._program is not None
        kinds, found = self._program.outputs[unit], []
        while not self._accept(")"):
            name = self._take()
            self._expect(":=")
            value, kind = self._expression()
            self._same(kinds[name], kind)
            found.append(f"{name}={value}")
            self._accept(",")
        return ", ".join(found)

    def _same(self, one: str, other: str) -> str:
        """Two types that may meet: equal, or a literal beside what it fits."""
        for kind, given in ((one, other), (other, one)):
            is_text = kind.startswith("STRING") and (given == "text" or given.startswith("STRING"))
            if kind == given or is_text or (given == "whole" and kind in RANGES):
                return kind
        raise StructuredTextError(f"{self.name}: {one} meets {other} before token {self._at}")

    def _peek(self) -> str:
        return self._tokens[self._at]

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _accept(self, word: str) -> bool:
        if self._peek() == word:
            self._at += 1
            return True
        return False

    def _expect(self, word: str) -> str:
        if not self._accept(word):
            around = " ".join(self._tokens[max(self._at - 6, 0) : self._at + 4])
            raise StructuredTextError(f"{self.name}: {word} is missing in: {around}")
        return word


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    text = re.sub(r"^(VERSION : .*|BEGIN)$", "", text, flags=re.MULTILINE)
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise StructuredTextError(f"cannot read {text[at : at + 20]!r}")
        at = token.end()
        if token.lastgroup != "skip":
            found.append(token[token.lastgroup or 0].strip('"'))
    return [*found, ""]


def _zero(kind: str) -> str:
    if kind.startswith("ARRAY"):
        return f"[0] * {kind.split()[1]}"
    if kind.startswith("STRING"):
        return "''"
    plain = {"BOOL": "False", "LREAL": "0.0", **dict.fromkeys(RANGES, "0")}
    return plain.get(kind, f"{kind}()")
