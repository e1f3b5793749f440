"""The server: whatever bytes come, it answers what is asked, in the framing it is asked in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_bundles import Family
from sensor_rig import FACTS

from lineside_bridge import custom, requests
from lineside_bridge.body import Body
from lineside_bridge.custom import Code, Command, LinkChange, LinkOffer, LogLines, LogQuery
from lineside_bridge.framing import Framing, encode_frame, new_decoder, resync_bytes
from lineside_bridge.header import Operation, Version
from lineside_bridge.message import Failure, Request, decode_message, find_failure
from lineside_bridge.sensor import Line, Logbook, Server, make_server
from lineside_bridge.sensor.server import Reply

ECHO = requests.echo("hello")
FRAMINGS = list(Framing)


@pytest.fixture
def server(family: Family) -> Server:
    return family.rig().start()


def read(replies: list[Reply], framing: Framing) -> list[Body]:
    decoder = new_decoder(framing)
    found = [message for reply in replies for message in decoder.feed(reply.frame)]
    return [decode_message(message).body for message in found]


def ask(server: Server, request: Request, framing: Framing = Framing.CONSOLE) -> Body:
    (body,) = read(server.feed(encode_frame(framing, request.message(7))), framing)
    return body


def settle(server: Server, times: int = 1) -> list[Reply]:
    return [reply for _ in range(times) for reply in server.quiet()]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_answer_has_its_requests_framing_group_command_and_sequence(
    server: Server, framing: Framing
) -> None:
    (reply,) = server.feed(encode_frame(framing, ECHO.message(200)))
    (message,) = new_decoder(framing).feed(reply.frame)
    header = decode_message(message).header
    assert header.operation is Operation.WRITE_REPLY
    assert header.answers == (0, 0, 200)
    assert decode_message(message).body == {"r": "hello"}


def test_parameters_info_and_bootloader_are_told(server: Server) -> None:
    assert ask(server, requests.read_parameters()) == {"buf_size": 2048, "buf_count": 4}
    assert ask(server, requests.read_bootloader()) == {"bootloader": "Lineside"}
    assert ask(server, requests.read_info()) == {"output": "cpu"}
    info = Request.make(Operation.READ, 0, 7, {"format": "a"})
    assert str(ask(server, info)["output"]).split()[:2] == ["Lineside", FACTS.serial]
    info = Request.make(Operation.READ, 0, 7, {"format": "sis" + "i" * 1900})
    assert ask(server, info) == {"output": "Lineside cpu"}
    slots = ask(server, Request.make(Operation.READ, 1, 6, {}))["images"]
    assert [slot["slot"] for slot in slots[0]["slots"]] == [0, 1]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Request.make(Operation.READ, 9, 0, {}), Failure(group=None, code=8)),
        (Request.make(Operation.READ, 0, 99, {}), Failure(group=None, code=8)),
        (Request.make(Operation.WRITE, 1, 6, {}), Failure(group=None, code=8)),
        (Request.make(Operation.READ, custom.GROUP, 77, {}), Failure(group=None, code=8)),
        (Request.make(Operation.WRITE, 0, 0, {"d": 5}), Failure(group=76, code=Code.INVALID)),
        (Request.make(Operation.READ, 0, 7, {"format": "?"}), Failure(group=76, code=2)),
        (Request.make(Operation.READ, 0, 8, {"query": "?"}), Failure(group=76, code=2)),
        (Request.make(Operation.READ, 76, Command.SLOT, {"slot": 2}), Failure(group=76, code=2)),
        (Request.make(Operation.WRITE, 1, 0, {"hash": b"x"}), Failure(group=76, code=3)),
    ],
)
def test_what_cannot_be_done_is_refused_in_numbers(
    server: Server, request_: Request, expected: Failure
) -> None:
    assert find_failure(ask(server, request_)) == expected


def test_a_client_of_the_first_version_is_refused_in_its_own_numbers(server: Server) -> None:
    request = Request.make(Operation.WRITE, 1, 0, {"hash": b"x"})
    frame = encode_frame(Framing.CONSOLE, request.message(1, Version.V1))
    (body,) = read(server.feed(frame), Framing.CONSOLE)
    failure = find_failure(body)
    assert failure is not None
    assert (failure.group, failure.code) == (None, 3)
    assert "no slot holds" in failure.words


def test_its_own_answers_that_a_line_echoes_are_not_answered(server: Server) -> None:
    (reply,) = server.feed(encode_frame(Framing.CONSOLE, ECHO.message(1)))
    assert server.feed(reply.frame) == []


def test_a_reset_waits_until_its_answer_has_left(family: Family) -> None:
    rig = family.rig()
    server = rig.start()
    before = rig.sensor.store
    (reply,) = server.feed(encode_frame(Framing.CONSOLE, requests.reset().message(1)))
    assert rig.sensor.store is before
    reply.then()
    assert rig.sensor.store is not before


@pytest.mark.parametrize("framing", FRAMINGS)
@settings(max_examples=60)
@given(data=st.data())
def test_garbage_never_stalls_it(family: Family, framing: Framing, data: st.DataObject) -> None:
    server = family.rig().start()
    frame = encode_frame(framing, ECHO.message(3))
    garbage = data.draw(
        st.one_of(
            st.binary(max_size=300),
            st.binary(max_size=40).map(lambda noise: noise + frame[: len(frame) // 2]),
            st.integers(0, len(frame) - 1).map(lambda cut: frame[cut:]),
        )
    )
    # Chance may make a request of it; none of those that do something, for lack of a body.
    server.feed(garbage)
    settle(server)
    server.feed(resync_bytes(framing))
    answers = server.feed(frame) + settle(server)
    bodies = read(answers, framing)
    if {"r": "hello"} not in bodies:
        settle(server, 25)
        bodies = read(server.feed(frame), framing)
    assert {"r": "hello"} in bodies


@pytest.mark.parametrize("before", FRAMINGS)
@pytest.mark.parametrize("after", FRAMINGS)
def test_another_client_is_understood_at_its_first_request(
    server: Server, before: Framing, after: Framing
) -> None:
    assert ask(server, ECHO, before) == {"r": "hello"}
    settle(server)
    replies = server.feed(resync_bytes(after) + encode_frame(after, ECHO.message(9)))
    assert read(replies + settle(server), after) == [{"r": "hello"}]


def test_what_a_long_silence_brings_to_light_is_answered(server: Server) -> None:
    """The rest of a raw message is waited for; what lies behind its beginning is found then."""
    assert ask(server, ECHO, Framing.RAW) == {"r": "hello"}
    settle(server, 9)
    frame = encode_frame(Framing.RAW, ECHO.message(5))
    assert server.feed(Request.make(Operation.WRITE, 0, 0, {"d": "x" * 99}).message(4)[:20]) == []
    assert server.feed(frame) == []
    assert read(settle(server), Framing.RAW) == [{"r": "hello"}]


@pytest.mark.parametrize("after", FRAMINGS)
@pytest.mark.parametrize("quiets", [8, 9, 10, 40])
def test_another_client_is_understood_after_a_long_silence_while_an_ordered_framing_holds(
    family: Family, after: Framing, quiets: int
) -> None:
    line = Line()
    rig = family.rig()
    rig.start()
    server = make_server(rig.sensor, line=line)
    change = LinkChange(framing="cobs", hold_ms=60_000)
    request = custom.ask(Operation.WRITE, Command.LINK, change)
    (reply,) = server.feed(encode_frame(Framing.CONSOLE, request.message(1)))
    reply.then()
    assert ask(server, ECHO, Framing.COBS) == {"r": "hello"}
    assert settle(server, quiets) == []
    replies = server.feed(resync_bytes(after) + encode_frame(after, ECHO.message(9)))
    assert read(replies + settle(server), after) == [{"r": "hello"}]
    assert ask(server, ECHO, after) == {"r": "hello"}


def test_frames_that_lie_in_something_else_are_not_obeyed(server: Server) -> None:
    assert ask(server, ECHO, Framing.RAW) == {"r": "hello"}
    inside = encode_frame(Framing.CONSOLE, requests.reset().message(1))
    cut = Request.make(Operation.WRITE, 1, 1, {"off": 1, "data": inside * 3}).message(2)
    assert server.feed(cut[5:]) + settle(server, 9) == []
    assert server.feed(cut[5:] + inside) + settle(server) == []


def test_the_framing_that_a_client_orders_counts_from_then_on_and_for_a_while(
    family: Family,
) -> None:
    line = Line(115_200, (9_600, 115_200))
    rig = family.rig()
    rig.start()
    server = make_server(rig.sensor, line=line)
    offer = custom.decode(ask(server, custom.ask(Operation.READ, Command.LINK)), LinkOffer)
    assert offer == LinkOffer(
        framings=("raw", "cobs", "console"), bauds=(9_600, 115_200), baud=115_200
    )
    change = LinkChange(framing="cobs", baud=9_600, hold_ms=1_000)
    request = custom.ask(Operation.WRITE, Command.LINK, change)
    (reply,) = server.feed(encode_frame(Framing.CONSOLE, request.message(1)))
    assert line.baud == 115_200
    reply.then()
    assert (line.baud, line.framing) == (9_600, Framing.COBS)
    assert server.feed(encode_frame(Framing.RAW, ECHO.message(2))) == []
    assert server.feed(b"\0") == []
    assert ask(server, ECHO, Framing.COBS) == {"r": "hello"}
    line.hear(5.0)
    line.settle(5.9)
    assert line.framing is Framing.COBS
    line.settle(6.0)
    assert (line.baud, line.framing) == (115_200, None)
    assert ask(server, ECHO, Framing.CONSOLE) == {"r": "hello"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (LinkChange(baud=300), Code.BAUD),
        (LinkChange(framing="morse"), Code.INVALID),
    ],
)
def test_a_line_that_was_not_offered_is_refused(
    server: Server, change: LinkChange, code: Code
) -> None:
    failure = find_failure(ask(server, custom.ask(Operation.WRITE, Command.LINK, change)))
    assert failure == Failure(group=76, code=code)


def test_a_rate_nobody_is_heard_at_is_left_also_before_a_first_message() -> None:
    line = Line(115_200, (115_200, 921_600))
    line.settle(1.0)
    line.change(baud=921_600, framing=None, hold_ms=2_000)
    line.settle(10.0)
    assert line.baud == 921_600
    line.settle(12.0)
    assert line.baud == 115_200


def test_the_log_is_told_in_stretches_and_without_signs_that_a_terminal_obeys(
    family: Family,
) -> None:
    rig = family.rig(buffer_bytes=256)
    server = rig.start()
    for number in range(300):
        rig.sensor.log.write(f"line {number} \x1b[31m")
    first, lines = 0, []
    while True:
        found = ask_for_log(server, first)
        if not found.lines:
            break
        lines += found.lines
        first = found.first + len(found.lines)
    assert len(lines) == 256
    assert lines[-1] == "line 299  [31m"


def test_a_line_of_long_letters_does_not_end_the_log(family: Family) -> None:
    rig = family.rig(buffer_bytes=256)
    server = rig.start()
    rig.sensor.log.write("\u672c" * 160)
    rig.sensor.log.write("behind it")
    lines: tuple[str, ...] = ()
    while found := ask_for_log(server, len(lines)).lines:
        lines += found
    assert "".join(lines).endswith("\u672c" * 160 + "behind it")


def ask_for_log(server: Server, first: int) -> LogLines:
    request = custom.ask(Operation.READ, Command.LOG, LogQuery(first=first))
    return custom.decode(ask(server, request), LogLines)


def test_every_answer_fits_the_buffer_it_was_told_of(family: Family) -> None:
    for framing in FRAMINGS:
        rig = family.rig(buffer_bytes=512)
        server = rig.start()
        for _ in range(300):
            rig.sensor.log.write("x" * 160)
        host = rig.host(framing)
        host.flash(family.new)
        everything = [
            custom.ask(Operation.READ, Command.LOG, LogQuery()),
            custom.ask(Operation.READ, Command.DEVICE),
            custom.ask(Operation.READ, Command.PAGES, custom.PageQuery(slot=0, first=0, count=99)),
            requests.read_states(),
        ]
        for request in everything:
            (reply,) = server.feed(encode_frame(framing, request.message(1)))
            (message,) = new_decoder(framing).feed(reply.frame)
            assert len(message) <= 512


def test_long_words_go_out_whole_in_lines_that_fit_the_smallest_buffer() -> None:
    log, words = Logbook(), "Prüfling ● " * 60
    log.write(words)
    log.write("after it")
    first, told = 0, []
    while (found := log.read(first, 164))[1]:
        told += found[1]
        first = found[0] + len(found[1])
    assert told[-1] == "after it"
    assert "".join(told[:-1]) == words
