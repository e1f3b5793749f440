"""Text that JSON can hold: not the surrogates as which Linux hands on names that are not UTF-8."""

from __future__ import annotations


def whole_text(text: str) -> str:
    """The same text; surrogates become escapes such as ``\\udcff``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def whole_texts(content: object) -> object:
    """The same for all text in dictionaries and lists."""
    if isinstance(content, str):
        return whole_text(content)
    if isinstance(content, dict):
        return {whole_texts(key): whole_texts(content[key]) for key in content}
    if isinstance(content, (list, tuple)):
        return [whole_texts(item) for item in content]
    return content
