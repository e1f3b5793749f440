"""The verdict's types in the words of a PLC, from the one schema; the same text at every call."""

from __future__ import annotations

from typing import Final

import msgspec

from lineside.errors import ConfigurationError
from lineside.mqtt.schema import (
    ID_DIGITS,
    JSON_FIELDS,
    MODEL_DIGITS,
    PACKED,
    PACKED_FIELDS,
    PAYLOAD_LIMIT_BYTES,
    VERDICT_VERSION,
    Kind,
    PackedField,
    WireField,
    packed_offsets,
)
from lineside.plc.block import BlockCode
from lineside.plc.limits import LIMITS, Declared, Member, check_limits
from lineside.verdict import REASON_CODES, Evaluation

DIALECTS: Final = ("codesys", "twincat", "scl", "json-schema")
_IEC: Final = {"B": "USINT", "I": "UDINT", "Q": "ULINT", "d": "LREAL"}
_UTF8: Final = "{attribute 'TcEncoding' := 'UTF-8'}"
_HEAD: Final = (
    "// Made by `lineside plc-types --dialect {dialect}`, version {version} of the verdict.\n"
    "// Make it again after an update of Lineside; do not edit.\n"
)


def declare(dialect: str) -> str:
    """The declarations in one dialect of ``DIALECTS``, with a newline at the end.

    Raises:
        ConfigurationError: no such dialect, or a type that its controllers would not take.
    """
    if dialect == "json-schema":
        return _json_schema()
    if dialect not in LIMITS:
        raise ConfigurationError(
            f"no dialect {dialect!r}; there are {', '.join(DIALECTS)}", path="dialect"
        )
    constants, structures = constant_sets(dialect), structures_of(dialect)
    wrong = check_limits([*constants, *structures], LIMITS[dialect])
    if wrong:
        raise ConfigurationError(f"{dialect}: {'; '.join(wrong)}", path="dialect")
    head = _HEAD.format(dialect=dialect, version=VERDICT_VERSION)
    if dialect == "scl":
        return head + "".join([*map(_scl_type, structures), *map(_scl_constants, constants)])
    parts = [*map(_st_enumeration, constants), *(_st_type(found) for found in structures)]
    return head + "".join([*parts, _st_union()])


def constant_sets(dialect: str) -> list[Declared]:
    """Evaluations, the station's codes, the block's codes; ``kind`` is the number."""
    sets = {
        "Evaluation": {one.name: int(one) for one in Evaluation},
        "Reason": {reason.name: code for reason, code in REASON_CODES.items()},
        "Block": {code.name: int(code) for code in BlockCode},
    }
    told = {
        "Evaluation": "what to do with the part",
        "Reason": "why, said by the station",
        "Block": "why, said by FB_LinesideVerdict",
    }
    # SCL has a flag of its own called OK.
    mark = "is_" if dialect == "scl" else ""
    prefix = "Lineside" if dialect == "scl" else "E_Lineside"
    return [
        Declared(
            name=f"{prefix}{name}",
            comment=told[name],
            members=[
                Member(name=f"{mark}{_enumerator(word, mark)}", kind=str(number), comment="")
                for word, number in values.items()
            ],
        )
        for name, values in sets.items()
    ]


def _enumerator(word: str, mark: str) -> str:
    return word if mark else f"e{word.title().replace('_', '')}"


def structures_of(dialect: str) -> list[Declared]:
    """The packed message and the JSON's fields."""
    scl = dialect == "scl"
    prefix = "Lineside" if scl else "ST_Lineside"
    offsets = packed_offsets()
    packed = [_packed_member(field, offsets[field.plc_name], dialect) for field in PACKED_FIELDS]
    parsed = [member for field in JSON_FIELDS for member in _json_members(field, dialect)]
    return [
        Declared(
            name=f"{prefix}VerdictPacked",
            comment=f"verdict/bin: {PACKED.size} bytes, least significant byte first"
            + ("; its numbers are bytes here, because this CPU reads the other way" if scl else ""),
            members=packed,
        ),
        Declared(
            name=f"{prefix}Verdict",
            comment=f"the keys of the JSON of verdict, at most {PAYLOAD_LIMIT_BYTES} bytes there",
            members=parsed,
        ),
    ]


def _packed_member(field: PackedField, offset: int, dialect: str) -> Member:
    comment = f"byte {offset}: {field.meaning}"
    size, is_text = field.size_bytes, field.code.endswith("s")
    if dialect == "scl":
        kind = "USInt" if size == 1 else f"Array[0..{size - 1}] of Byte"
        return Member(name=field.plc_name, kind=kind, comment=comment)
    kind = f"STRING({size - 1})" if is_text else _IEC[field.code]
    return Member(
        name=field.plc_name,
        kind=kind,
        comment=comment,
        string_chars=size - 1 if is_text else 0,
        pragma=_pragma(field.plc_name, dialect),
    )


def _json_members(field: WireField, dialect: str) -> list[Member]:
    scl, name = dialect == "scl", field.plc_name
    if field.kind is Kind.TEXT:
        length = field.most_bytes
        kind = f"String[{length}]" if scl else f"STRING({length})"
        pragma = _pragma(name, dialect)
        comment = f"{field.key}: {field.meaning}"
        return [Member(name=name, kind=kind, comment=comment, string_chars=length, pragma=pragma)]
    if field.kind is Kind.FLOAT:
        flag = Member(name=f"x{name[1:]}", kind="BOOL", comment=f"{field.key} is not null")
        return [flag, Member(name=name, kind="LREAL", comment=f"{field.key}: {field.meaning}")]
    kind = "USINT" if field.high < 2**8 else "ULINT"
    return [Member(name=name, kind=kind, comment=f"{field.key}: {field.meaning}")]


def _pragma(name: str, dialect: str) -> str:
    return _UTF8 if dialect == "twincat" and name == "sUnit" else ""


def _st_enumeration(declared: Declared) -> str:
    values = ",\n".join(f"    {one.name} := {one.kind}" for one in declared.members)
    return (
        f"\n// {declared.comment}\n{{attribute 'qualified_only'}}\n"
        f"TYPE {declared.name} :\n(\n{values}\n) USINT;\nEND_TYPE\n"
    )


def _st_type(declared: Declared) -> str:
    # The layout is the same for every pack_mode; it is said all the same, so that nobody wonders.
    lines = "".join(
        (f"    {one.pragma}\n" if one.pragma else "")
        + f"    {one.name} : {one.kind}; // {one.comment}\n"
        for one in declared.members
    )
    return (
        f"\n// {declared.comment}\n{{attribute 'pack_mode' := '1'}}\n"
        f"TYPE {declared.name} :\nSTRUCT\n{lines}END_STRUCT\nEND_TYPE\n"
    )


def _st_union() -> str:
    return (
        "\n// A payload of verdict/bin as bytes and as numbers\n"
        "TYPE U_LinesideVerdictPacked :\nUNION\n"
        f"    aBytes : ARRAY[0..{PACKED.size - 1}] OF BYTE;\n"
        "    stVerdict : ST_LinesideVerdictPacked;\nEND_UNION\nEND_TYPE\n"
    )


def _scl_type(declared: Declared) -> str:
    lines = "".join(
        f"      {one.name} : {one.kind};   // {one.comment}\n" for one in declared.members
    )
    return (
        f'\n// {declared.comment}\nTYPE "{declared.name}"\nVERSION : 0.1\n'
        f"   STRUCT\n{lines}   END_STRUCT;\n\nEND_TYPE\n"
    )


def _scl_constants(declared: Declared) -> str:
    # A source file cannot declare constants for a whole program; a block that nobody writes can.
    lines = "".join(f"      {one.name} : USInt := {one.kind};\n" for one in declared.members)
    return (
        f'\n// {declared.comment}\nDATA_BLOCK "{declared.name}"\n'
        "{ S7_Optimized_Access := 'TRUE' }\nVERSION : 0.1\nNON_RETAIN\n"
        f"   STRUCT\n{lines}   END_STRUCT;\n\nBEGIN\n\nEND_DATA_BLOCK\n"
    )


def _json_schema() -> str:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Verdict of Lineside",
        "description": f"One message a part, at most {PAYLOAD_LIMIT_BYTES} bytes, keys in this "
        "order; a newer station may add keys at the end",
        "type": "object",
        "properties": {field.key: _json_property(field) for field in JSON_FIELDS},
        "required": [field.key for field in JSON_FIELDS],
        "additionalProperties": True,
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def _json_property(field: WireField) -> dict[str, object]:
    told: dict[str, object] = {"description": field.meaning}
    if field.kind is Kind.INTEGER:
        return {**told, "type": "integer", "minimum": field.low, "maximum": field.high}
    if field.kind is Kind.FLOAT:
        return {**told, "type": ["number", "null"]}
    patterns = {
        "id": f"^[0-9a-f]{{{ID_DIGITS}}}$",
        "model": f"^([0-9a-f]{{{MODEL_DIGITS}}})?$",
        "part": "^[ !#-\\[\\]-~]*$",
    }
    more = {"pattern": patterns[field.key]} if field.key in patterns else {}
    return {**told, "type": "string", "maxLength": field.most_bytes, **more}
