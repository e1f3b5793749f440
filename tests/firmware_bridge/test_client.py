"""A client against a stock server over a pseudo-terminal: loss, doubles, delay, silence, noise."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from smp_responder import Faults, Responder, StockServer

from lineside_bridge import custom, requests
from lineside_bridge.client import Client, Patience
from lineside_bridge.errors import SensorGarbledError, SensorRefusedError, SensorSilentError
from lineside_bridge.framing import Framing
from lineside_bridge.header import Operation
from lineside_bridge.link import SerialLink
from lineside_bridge.message import Request

QUICK = Patience(answer_s=0.1, longest_s=0.2, attempts=5)
LONG = "x" * 1500


@pytest.fixture
def stock() -> StockServer:
    return StockServer()


def meet(link: SerialLink, framing: Framing = Framing.CONSOLE, **settings: int) -> Client:
    """One that does not wait as if a whole buffer were to come back."""
    return Client(link, framing, buffer_bytes=64, **settings)


def echo(client: Client, text: str, patience: Patience = QUICK) -> str:
    return str(client.call(requests.echo(text), patience)["r"])


@pytest.mark.parametrize("framing", list(Framing))
def test_asks_and_hears(stock: StockServer, framing: Framing) -> None:
    with Responder(stock.answer, framing=framing) as sensor, SerialLink(sensor.port) as link:
        client = meet(link, framing, first_sequence=254)
        assert [echo(client, text) for text in ("a", "b", LONG)] == ["a", "b", LONG]
        assert client.tally.repeated == 0


@pytest.mark.parametrize("framing", list(Framing))
@pytest.mark.parametrize(
    "faults",
    [
        Faults(lose_requests={0, 2}),
        Faults(lose_answers={0, 1, 3}),
        Faults(double_answers={0, 1, 2}),
        Faults(garble_answers={0, 2}),
        Faults(chatter=b"\x1b[0m<inf> warm\n"),
    ],
    ids=["lost requests", "lost answers", "doubled answers", "garbled answers", "a log between"],
)
def test_every_answer_belongs_to_its_request(
    stock: StockServer, framing: Framing, faults: Faults
) -> None:
    sensor = Responder(stock.answer, framing=framing, faults=faults)
    with sensor, SerialLink(sensor.port) as link:
        client = meet(link, framing)
        said = [echo(client, text) for text in ("a", "b", "c", LONG)]
    assert said == ["a", "b", "c", LONG]


def test_a_late_answer_still_counts_and_its_double_does_not(stock: StockServer) -> None:
    """The first answer comes while the second attempt waits; the second one's comes after."""
    sensor = Responder(stock.answer, faults=Faults(delay_answers_s={0: 0.15}))
    with sensor, SerialLink(sensor.port) as link:
        client = meet(link)
        assert [echo(client, text) for text in ("slow", "b", "c")] == ["slow", "b", "c"]
        assert client.tally.repeated >= 1
        assert client.tally.late >= 1


def test_answers_to_another_client_are_not_taken(stock: StockServer) -> None:
    with Responder(stock.answer) as sensor, SerialLink(sensor.port) as link:
        stranger = meet(link, first_sequence=100)
        for text in "abc":
            stranger.send(requests.echo(text))
        client = meet(link, first_sequence=7)
        assert echo(client, "mine") == "mine"
        assert client.tally.late == 3


def test_silence_ends_in_bounded_time() -> None:
    with Responder(lambda _: None) as sensor, SerialLink(sensor.port) as link:
        client = meet(link)
        began_s = time.monotonic()
        with pytest.raises(SensorSilentError, match="is the sensor powered"):
            echo(client, "a")
        assert time.monotonic() - began_s < 10
        assert sensor.requests == QUICK.attempts


NOISES = {
    "zeros": b"\0" * 64,
    "log": b"*** Booting Zephyr OS ***\r\n",
    "frame begun for ever": b"\x06\x09AAAA\n\x04\x14AAAA\n",
    "headers for ever": b"\x0b\x00\x00\x40\x00\x00\x07\x00\xa1aa",
    "one long line": b"A" * 64,
}


@pytest.mark.parametrize("framing", list(Framing))
@pytest.mark.parametrize("noise", NOISES.values(), ids=list(NOISES))
def test_garbage_for_ever_ends_in_bounded_time(framing: Framing, noise: bytes) -> None:
    quick = Patience(answer_s=0.05, longest_s=0.05, attempts=2)
    with Responder(lambda _: None, noise=noise) as sensor, SerialLink(sensor.port) as link:
        client = meet(link, framing)
        began_s = time.monotonic()
        with pytest.raises(SensorGarbledError, match="another rate or framing"):
            echo(client, "a", quick)
        assert time.monotonic() - began_s < 10


def test_sound_answers_to_nothing_we_asked_end_too(stock: StockServer) -> None:
    def wrong(request: bytes) -> bytes:
        answer = bytearray(stock.answer(request))
        answer[7] = 4  # another command
        return bytes(answer)

    with Responder(wrong) as sensor, SerialLink(sensor.port) as link:
        client = meet(link)
        with pytest.raises(SensorGarbledError):
            echo(client, "a")


@pytest.mark.parametrize("old", [True, False])
def test_both_forms_of_a_no_are_understood(old: bool) -> None:
    stock = StockServer(old_errors=old)
    with Responder(stock.answer) as sensor, SerialLink(sensor.port) as link:
        client = meet(link)
        with pytest.raises(SensorRefusedError, match="image state: the sensor says no") as caught:
            client.call(requests.test_image(bytes(32)), QUICK)
    assert caught.value.code == 3
    assert caught.value.group == (None if old else requests.IMAGE_GROUP)


def test_what_a_server_does_not_know_is_said_in_its_words(stock: StockServer) -> None:
    with Responder(stock.answer) as sensor, SerialLink(sensor.port) as link:
        unknown = Request.make(Operation.READ, 99, 3, {})
        with pytest.raises(SensorRefusedError, match="no; enotsup") as caught:
            meet(link).call(unknown, QUICK)
    assert "group 99 command 3" in str(caught.value)


def test_an_old_server_is_asked_in_its_version(stock: StockServer) -> None:
    def old(request: bytes) -> bytes:
        if request[0] & 0b11000:
            return bytes([request[0] + 1, 0, 0, 5, *request[4:8]]) + b"\xa1brc\x0d"
        return stock.answer(request)

    with Responder(old) as sensor, SerialLink(sensor.port) as link:
        assert echo(meet(link), "a") == "a"


def test_unknown_keys_are_let_be(stock: StockServer) -> None:
    def chatty(request: bytes) -> bytes:
        answer = stock.answer(request)
        body = b"\xbf" + answer[9:] + b"cnew\x82\x01\xf6\xff"  # an indefinite map, as Zephyr has
        return answer[:2] + len(body).to_bytes(2, "big") + answer[4:8] + body

    with Responder(chatty) as sensor, SerialLink(sensor.port) as link:
        client = meet(link)
        body = client.call(requests.read_parameters(), QUICK)
    assert requests.Parameters(buf_size=2048, buf_count=4) == custom.decode(
        body, requests.Parameters
    )


def several(client: Client, texts: str) -> Iterator[str]:
    """All asked at once."""
    waiting = {client.send(requests.echo(text)) for text in texts}
    while waiting and (found := client.take(waiting, time.monotonic() + 5)):
        waiting.discard(found.header.sequence)
        yield found.body["r"]


def test_several_at_a_time(stock: StockServer) -> None:
    with Responder(stock.answer) as sensor, SerialLink(sensor.port) as link:
        assert list(several(meet(link), "abcd")) == list("abcd")
