"""The one JSON document that a verb prints with ``--json``."""

from __future__ import annotations


def format_document(content: object) -> str:
    """Indented JSON without a newline at the end.

    Args:
        content: structs, dataclasses, dictionaries, sequences, plain values.
    """
    import msgspec

    plain = _without_surrogates(msgspec.to_builtins(content))
    return msgspec.json.format(msgspec.json.encode(plain), indent=2).decode()


def _without_surrogates(content: object) -> object:
    # Linux hands on a file's name that is not UTF-8 as surrogates, which no JSON holds; they become
    # escapes such as \\udcff, as they do in tables.
    if isinstance(content, str):
        return content.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(content, dict):
        return {_without_surrogates(key): _without_surrogates(content[key]) for key in content}
    if isinstance(content, (list, tuple)):
        return [_without_surrogates(item) for item in content]
    return content
