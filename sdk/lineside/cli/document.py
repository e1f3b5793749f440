"""The one JSON document that a verb prints with ``--json``."""

from __future__ import annotations


def format_document(content: object) -> str:
    """Indented JSON without a newline at the end.

    Args:
        content: structs, dataclasses, dictionaries, sequences, plain values.
    """
    import msgspec

    from lineside.wholetext import whole_texts

    plain = whole_texts(msgspec.to_builtins(content))
    return msgspec.json.format(msgspec.json.encode(plain), indent=2).decode()
