"""Makes docs/plc/*.scl of docs/plc/*.st: `python tests/plugins/scl_translation.py` writes them.

The blocks keep to what both languages have; what is left are names: SCL marks a block's own
variables with #, other blocks and types with quotes, and counts a text's characters from 1.
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "plc"
_HEAD = "{ S7_Optimized_Access := 'TRUE' }\nVERSION : 0.1"
_BLOCK = re.compile(r"\b(?:FB?_Lineside\w+)\b")
_DECLARED = re.compile(r"^    (\w+) : ", re.MULTILINE)


def scl_of(text: str) -> str:
    """One function or function block in SCL."""
    # The comments above a block go into it: an external source begins with its block.
    above, head, rest = re.split(r"^(FUNCTION.*)$", text, maxsplit=1, flags=re.MULTILINE)
    sections, body = re.split(r"(?<=END_VAR)\n\n", rest, maxsplit=1)
    names = set(_DECLARED.findall(sections))
    own = _BLOCK.findall(head)[0]
    head = _BLOCK.sub(r'"\g<0>"', head)
    sections = re.sub(r"STRING\((\d+)\)", r"STRING[\1]", sections)
    if head.startswith("FUNCTION "):
        # A function's texts take any length.
        sections = re.sub(r"STRING\[\d+\]", "STRING", sections)
    sections = re.sub(r": (FB_Lineside\w+)", r': "\1"', sections)
    lines = [_line(line, names, own) for line in body.splitlines()]
    return "\n".join([head, _HEAD, above + sections.lstrip("\n"), "BEGIN", *lines, ""])


def _line(line: str, names: set[str], own: str) -> str:
    code, mark, comment = line.partition("//")
    # 'text' | name of an argument | name
    parts = re.split(r"('[^']*')", code)
    code = "".join(part if part.startswith("'") else _code(part, names, own) for part in parts)
    code = re.sub(r"\b(END_(?:IF|FOR|WHILE|CASE))\b", r"\1;", code)
    return (code + mark + comment).rstrip()


def _code(code: str, names: set[str], own: str) -> str:
    def renamed(found: re.Match[str]) -> str:
        name = found[0]
        if name == own:
            return f"#{name}"
        if _BLOCK.fullmatch(name):
            return f'"{name}"'
        is_argument = re.search(r"[(,]\s*$", code[: found.start()]) and re.match(
            r"\s*:=", code[found.end() :]
        )
        is_member = code[: found.start()].endswith(".")
        return f"#{name}" if name in names and not is_argument and not is_member else name

    code = re.sub(r"\b[A-Za-z_]\w*\b", renamed, code)
    return re.sub(
        r"BYTE_TO_USINT\(#sText\[#nAt\]\)",
        "BYTE_TO_USINT(CHAR_TO_BYTE(#sText[#nAt + 1]))",
        code,
    )


def translations() -> dict[Path, str]:
    """File to text, of every block."""
    return {
        source.with_suffix(".scl"): scl_of(source.read_text("utf-8"))
        for source in sorted(FOLDER.glob("F*_*.st"))
    }


if __name__ == "__main__":
    for file, text in translations().items():
        file.write_text(text, "utf-8")
