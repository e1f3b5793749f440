"""Messages: what comes is one, or is refused; every structure goes through."""

from __future__ import annotations

from pathlib import Path

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from smp import error, header, image_management, os_management

from lineside_bridge import custom, requests
from lineside_bridge.body import decode_body, encode_body
from lineside_bridge.errors import MalformedError, SensorFullError, SensorRefusedError
from lineside_bridge.header import HEADER_BYTES, Header, Operation, Version, unpack_header
from lineside_bridge.message import (
    Failure,
    Request,
    decode_message,
    encode_answer,
    encode_refusal,
    find_failure,
)
from lineside_bridge.refusal import refuse, tell_failure

DOCUMENT = Path(__file__).parents[2] / "docs" / "smp.md"
HEADERS = st.builds(
    Header,
    operation=st.sampled_from(Operation),
    version=st.sampled_from(Version),
    group=st.integers(0, 0xFFFF),
    command=st.integers(0, 255),
    sequence=st.integers(0, 255),
)


@given(head=HEADERS)
def test_a_header_is_that_of_the_library(head: Header) -> None:
    request = Request.make(head.operation, head.group, head.command, {})
    ours = request.message(head.sequence, head.version)
    if head.group not in header.Header._MAP_GROUP_ID_TO_COMMAND_ID_ENUM:
        theirs = header.Header.loads(ours[:HEADER_BYTES])
        assert (theirs.op, theirs.version, theirs.length) == (head.operation, head.version, 1)
        assert (theirs.group_id, theirs.command_id) == (head.group, head.command)
        assert theirs.sequence == head.sequence
    assert unpack_header(ours).answers == head.answers


@given(data=st.binary(max_size=64))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        found = decode_message(data)
    except MalformedError:
        return
    assert found.header.length == len(data) - HEADER_BYTES


@given(data=st.binary(max_size=80), tag=st.integers(0, 300))
def test_no_body_does_more_than_be_refused(data: bytes, tag: int) -> None:
    """Tags make dates, patterns, fractions and loops of bytes."""
    tagged = b"\xa1aa" + cbor2.dumps(cbor2.CBORTag(tag, 0))[:-1] + data
    for body in (data, b"\xa1aa" + data, tagged):
        for whole in (True, False):
            try:
                decode_body(body, whole=whole)
            except MalformedError:
                continue


def test_a_body_that_nests_for_ever_is_refused() -> None:
    with pytest.raises(MalformedError):
        decode_body(b"\xa1aa" + b"\x81" * 5000 + b"\x01")


def test_what_lies_behind_a_body_counts_where_nothing_guards_it() -> None:
    body = encode_body({"a": 1})
    assert decode_body(body + b"\0") == {"a": 1}
    with pytest.raises(MalformedError, match="a map of 4 bytes in a body of 5"):
        decode_body(body + b"\0", whole=True)
    assert decode_body(b"") == {}
    assert decode_body(b"\xa2\x01\x02aa\x03") == {"a": 3}


@given(head=HEADERS, code=st.integers(1, 40), group=st.none() | st.integers(0, 99))
def test_a_no_comes_back_as_it_was_said(head: Header, code: int, group: int | None) -> None:
    said = Failure(group=group, code=code)
    answer = decode_message(encode_refusal(head, said))
    found = find_failure(answer.body)
    assert found is not None
    assert found.code == code
    if head.version is Version.V2:
        assert found.group == group
    assert answer.header.operation.is_reply
    assert answer.header.answers == head.answers


def test_the_library_reads_our_answers() -> None:
    asked = unpack_header(requests.read_parameters().message(7))
    answer = encode_answer(asked, {"buf_size": 2048, "buf_count": 4})
    assert os_management.MCUMgrParametersReadResponse.loads(answer).buf_size == 2048

    asked = unpack_header(requests.test_image(bytes(32)).message(7))
    refusal = encode_refusal(asked, Failure(group=requests.IMAGE_GROUP, code=3, words="no"))
    theirs = image_management.ImageManagementErrorV2.loads(refusal)
    assert theirs.err.rc is image_management.IMG_MGMT_ERR.NO_IMAGE


@pytest.mark.parametrize(
    "body", [{}, {"rc": 0}, {"rc": True}, {"err": {}}, {"err": {"rc": 0}}, {"err": 3}, {"rc": "1"}]
)
def test_what_is_no_no(body: dict[str, object]) -> None:
    assert find_failure(body) is None


def test_reasons_are_told_in_words() -> None:
    assert tell_failure(Failure(group=None, code=8)) == "enotsup (error 8)"
    assert tell_failure(Failure(group=None, code=8, words="not me")) == "not me; enotsup (error 8)"
    told = tell_failure(Failure(group=custom.GROUP, code=custom.Code.DOWNGRADE))
    assert "security counter is below" in told
    assert tell_failure(Failure(group=1234, code=5)) == "error 5 of group 1234"
    assert type(refuse("p", Failure(group=None, code=error.MGMT_ERR.EINVAL))) is SensorRefusedError
    assert isinstance(refuse("p", Failure(group=custom.GROUP, code=4)), SensorFullError)


STRUCTURES = [
    found
    for found in vars(custom).values()
    if isinstance(found, type) and issubclass(found, msgspec.Struct) and found is not msgspec.Struct
]
EXAMPLES = [
    custom.Device(serial="1", hardware="cpu", capacity=5, keys=(b"k" * 16,), counters={"00": 1}),
    custom.SlotQuery(slot=1),
    custom.SlotReport(slot=0, state="empty"),
    custom.Digest(size=1, sha256=bytes(32)),
    custom.PageQuery(slot=0, first=2, count=3),
    custom.PageHashes(first=0, total=1, hashes=bytes(16)),
    custom.PageWrite(off=1, data=b"x", crc=2),
    custom.PageCopy(off=1, slot=0, source=2, len=3, crc=4),
    custom.Offset(off=7),
    custom.SelfTestReport(state="failed", hash=bytes(32), words="output value"),
    custom.Health(ok=False, words="hot", wear=3, temperature_c=71.5),
    custom.LinkOffer(framings=("cobs",), bauds=(9600,), baud=9600),
    custom.LinkChange(framing="cobs"),
    custom.LogQuery(first=2),
    custom.LogLines(first=2, lines=("a", "b")),
    custom.Revert(reason="host"),
    custom.Reverted(slot=-1),
    custom.Done(),
]


def test_every_structure_is_tried() -> None:
    assert {type(example) for example in EXAMPLES} == set(STRUCTURES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_every_structure_goes_through_with_unknown_keys(example: msgspec.Struct) -> None:
    body = decode_body(encode_body({**custom.encode(example), "of tomorrow": [1]}))
    assert custom.decode(body, type(example)) == example


def test_a_field_that_cannot_be_is_refused() -> None:
    with pytest.raises(MalformedError, match=r"SlotQuery.*\$\.slot"):
        custom.decode({"slot": 2}, custom.SlotQuery)
    with pytest.raises(MalformedError, match="Offset"):
        custom.decode({}, custom.Offset)


def test_the_document_has_every_command_and_every_number() -> None:
    text = DOCUMENT.read_text("utf-8")
    section = text.split("## Group 76", 1)[1]
    assert set(custom.CODE_WORDS) == set(custom.Code)
    for command in custom.Command:
        assert f"| {command.value} `{command.name}`, " in section
    for code in custom.Code:
        assert f"| {code.value} | " in section
    for structure in STRUCTURES:
        for field in msgspec.structs.fields(structure):
            assert f"`{field.encode_name}`" in section, (structure, field.encode_name)
