"""Uploads into a sensor: its offset counts, a whole one is judged at once, a cut one goes on."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from sensor_bundles import Family
from sensor_rig import Host, Sealed
from slot_bundles import SlotBundles
from tiny_bundle import TinyBundle

from lineside.bundle import (
    PrivateKey,
    generate_key_pair,
    load_private_key,
    open_bundle,
    reseal_bundle,
    write_key_pair,
)
from lineside.bundle.layout import HEADER_BYTES, SIGNED_HEADER_BYTES, unpack_header
from lineside.slots import Area, SlotName
from lineside_bridge import custom, requests
from lineside_bridge.chunks import PageSource
from lineside_bridge.custom import (
    Code,
    Command,
    Digest,
    PageCopy,
    PageHashes,
    PageQuery,
    PageWrite,
    SlotQuery,
    SlotReport,
    checksum,
)
from lineside_bridge.errors import SensorRefusedError
from lineside_bridge.framing import Framing
from lineside_bridge.header import Operation
from lineside_bridge.mcuboot import ImageVersion, read_image, wrap_image
from lineside_bridge.pages import hash_pages, plan_copies, read_pages
from lineside_bridge.requests import Uploaded
from lineside_bridge.upload import Upload

CHUNK = 1000


def begin(host: Host, data: bytes, first: bytes) -> Uploaded:
    request = requests.begin_upload(
        first, size_bytes=len(data), sha256=hashlib.sha256(data).digest()
    )
    return custom.decode(host.client.call(request), Uploaded)


def go_on(host: Host, data: bytes, off: int, size: int = CHUNK) -> Uploaded:
    request = requests.go_on_uploading(off, data[off : off + size])
    return custom.decode(host.client.call(request), Uploaded)


def send_until(host: Host, data: bytes, stop: int) -> int:
    off = begin(host, data, data[:CHUNK]).off
    while off < stop:
        off = go_on(host, data, off).off
    return off


def report(host: Host, slot: int) -> SlotReport:
    ask = custom.ask(Operation.READ, Command.SLOT, SlotQuery(slot=slot))
    return custom.decode(host.client.call(ask), SlotReport)


def test_only_the_offset_that_is_expected_moves_it(family: Family) -> None:
    host = family.rig().host()
    data = family.new.data
    assert begin(host, data, data[:CHUNK]).off == CHUNK
    assert go_on(host, data, 5 * CHUNK).off == CHUNK
    assert go_on(host, data, 0).off == CHUNK
    assert go_on(host, data, CHUNK).off == 2 * CHUNK
    assert go_on(host, data, CHUNK).off == 2 * CHUNK
    assert go_on(host, data, CHUNK + 500).off == 2 * CHUNK + 500
    found = report(host, 1)
    assert (found.state, found.incoming, found.incoming_size) == ("empty", 2500, len(data))


def test_begun_again_it_goes_on_and_another_begins_anew(family: Family) -> None:
    host = family.rig().host()
    send_until(host, family.new.data, 6 * CHUNK)
    assert begin(host, family.new.data, family.new.data[:CHUNK]).off == 6 * CHUNK
    assert begin(host, family.beside.data, family.beside.data[:CHUNK]).off == CHUNK


def test_after_a_loss_of_power_it_goes_on_at_a_whole_page(family: Family) -> None:
    rig = family.rig()
    send_until(rig.host(), family.new.data, 9 * CHUNK)
    host = rig.host()
    assert report(host, 1).incoming == 0
    assert go_on(host, family.new.data, 9 * CHUNK).off == 0
    off = begin(host, family.new.data, family.new.data[:CHUNK]).off
    assert 0 < off <= 9 * CHUNK
    assert off % 4096 == 0
    outcome = host.upload(family.new.data)
    assert (outcome.resumed_bytes, outcome.matches) == (off, True)


def test_a_whole_one_is_found_again_after_a_loss_of_power(family: Family) -> None:
    rig = family.rig()
    rig.host().upload(family.new.data)
    host = rig.host()
    assert report(host, 1).incoming == len(family.new.data)
    state = host.find(family.new.hash)
    assert state is not None
    assert not state.pending
    again = begin(host, family.new.data, family.new.data[:CHUNK])
    assert (again.off, again.match) == (len(family.new.data), True)
    host.test(family.new.hash)


def test_the_last_answer_is_given_again(family: Family) -> None:
    host = family.rig().host()
    data = family.new.data
    host.upload(data)
    again = go_on(host, data, len(data) - 100)
    assert (again.off, again.match) == (len(data), True)


def test_nothing_goes_on_where_nothing_was_begun(family: Family) -> None:
    host = family.rig().host()
    assert go_on(host, family.new.data, CHUNK).off == 0


def test_bytes_that_are_not_those_announced_do_not_match_and_are_forgotten(
    family: Family,
) -> None:
    host = family.rig().host()
    data = family.new.data
    off = begin(host, data, b"other bytes").off
    while off < len(data) - CHUNK:
        off = go_on(host, data, off).off
    last = go_on(host, data, off)
    assert (last.off, last.match) == (len(data), False)
    assert go_on(host, data, off) == last
    assert report(host, 1) == SlotReport(slot=1, state="empty")
    assert host.upload(data).matches is True


def make_newer(bundle: bytes, key: PrivateKey) -> bytes:
    """As a later release seals it: this one refuses to."""
    end = HEADER_BYTES + unpack_header(bundle[:HEADER_BYTES], source="").manifest_bytes
    manifest = bundle[HEADER_BYTES:end].replace(b'_runtime":"0.', b'_runtime":"9.')
    signature = key.sign(bundle[:SIGNED_HEADER_BYTES] + manifest)
    return with_signature(bundle, signature)[:HEADER_BYTES] + manifest + bundle[end:]


def with_signature(bundle: bytes, signature: bytes) -> bytes:
    """Another one, and the header's checksum for it."""
    end = HEADER_BYTES - 4
    header = bundle[:SIGNED_HEADER_BYTES] + signature
    header += bundle[len(header) : end]
    return header + zlib.crc32(header).to_bytes(4, "little") + bundle[HEADER_BYTES:]


@pytest.fixture(scope="module")
def refusals(
    tiny_bundle: TinyBundle, tmp_path_factory: pytest.TempPathFactory
) -> dict[Code, bytes]:
    """Uploads that are refused, by why."""
    folder = tmp_path_factory.mktemp("refusals")
    bundles = SlotBundles(tiny=tiny_bundle, folder=folder)
    bundles.seal("1.0.1", target="elsewhere")
    bundles.seal("1.0.3")
    stranger, _ = write_key_pair(folder, "stranger")
    with open_bundle(folder / "1.0.3.lsb", trust=tiny_bundle.public_key_path) as bundle:
        reseal_bundle(bundle, folder / "foreign.lsb", key=load_private_key(stranger))
    thin = bundles.thin(folder / "1.0.3.lsb", "onnxruntime").read_bytes()
    return {
        Code.TARGET: bundles.thin(folder / "1.0.1.lsb", "onnxruntime").read_bytes(),
        Code.RUNTIME: make_newer(thin, tiny_bundle.key()),
        Code.ENGINE: bundles.thin(folder / "1.0.3.lsb", "openvino").read_bytes(),
        Code.STRANGER: (folder / "foreign.lsb").read_bytes(),
        Code.DAMAGED: thin[:-1] + bytes([thin[-1] ^ 1]),
        Code.SIGNATURE: with_signature(thin, bytes(64)),
    }


@pytest.mark.parametrize(
    "code",
    [Code.TARGET, Code.RUNTIME, Code.ENGINE, Code.STRANGER, Code.DAMAGED, Code.SIGNATURE],
)
def test_what_may_not_be_tried_is_refused_when_it_is_whole(
    family: Family, refusals: dict[Code, bytes], code: Code
) -> None:
    rig = family.rig(slot_bytes=1 << 16)
    host = rig.host()
    with pytest.raises(SensorRefusedError) as caught:
        host.upload(refusals[code])
    assert (caught.value.group, caught.value.code) == (custom.GROUP, code)
    with pytest.raises(SensorRefusedError) as caught:
        go_on(host, refusals[code], len(refusals[code]) - 100)
    assert caught.value.code == code
    assert host.states().keys() == {0}
    host.flash(family.new)


def test_a_downgrade_is_refused_when_it_is_whole(family: Family) -> None:
    host = family.rig().host()
    host.flash(family.new)
    with pytest.raises(SensorRefusedError) as caught:
        host.upload(family.old.data)
    assert caught.value.code == Code.DOWNGRADE


def test_nothing_is_uploaded_while_a_bundle_is_pending_or_on_trial(family: Family) -> None:
    host = family.rig().host()
    host.upload(family.new.data)
    host.test(family.new.hash)
    for state in ("pending", "trial"):
        assert report(host, 1).state == state
        with pytest.raises(SensorRefusedError) as caught:
            host.upload(family.later.data)
        assert caught.value.code == Code.STATE
        host.reset()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"off": 0, "len": 0, "sha": bytes(32)}, Code.FULL),
        ({"off": 0, "len": 1 << 20, "sha": bytes(32)}, Code.FULL),
        ({"off": 0, "len": 100}, Code.INVALID),
        ({"off": 0, "len": 100, "sha": b"short"}, Code.INVALID),
        ({"off": 0, "len": 100, "sha": bytes(32), "image": 1}, Code.INVALID),
        ({"off": -1, "data": b""}, Code.INVALID),
        ({"off": "0"}, Code.INVALID),
        ({}, Code.INVALID),
    ],
)
def test_impossible_beginnings_are_refused(
    family: Family, body: dict[str, object], code: Code
) -> None:
    host = family.rig().host()
    ask = requests.Request.make(Operation.WRITE, 1, 1, body)
    with pytest.raises(SensorRefusedError) as caught:
        host.client.call(ask)
    assert (caught.value.group, caught.value.code) == (custom.GROUP, code)


def test_erase_forgets_what_is_coming_and_never_what_is_in_use(family: Family) -> None:
    rig = family.rig()
    host = rig.host()
    send_until(host, family.new.data, 3 * CHUNK)
    host.client.call(requests.erase_slot(1))
    assert report(host, 1).incoming_size == 0
    with pytest.raises(SensorRefusedError) as caught:
        host.client.call(requests.erase_slot(0))
    assert caught.value.code == Code.STATE
    host.flash(family.beside)
    host.client.call(requests.erase_slot(0))
    host.revert()
    assert host.find(family.old.hash) is not None


def test_only_what_lies_there_is_tried_and_only_what_runs_is_confirmed(family: Family) -> None:
    host = family.rig().host()
    with pytest.raises(SensorRefusedError) as caught:
        host.test(family.new.hash)
    assert caught.value.code == Code.NO_SLOT
    host.upload(family.beside.data)
    with pytest.raises(SensorRefusedError) as caught:
        host.confirm(family.beside.hash)
    assert caught.value.code == Code.STATE
    host.test(family.beside.hash)
    host.test(family.beside.hash)
    host.reset()
    host.test(family.beside.hash)
    host.confirm(family.beside.hash)
    host.confirm(family.beside.hash)
    with pytest.raises(SensorRefusedError) as caught:
        host.test(family.old.hash)
    assert caught.value.code == Code.STATE


def test_the_file_may_be_meant_by_its_own_sha256(family: Family) -> None:
    rig = family.rig()
    host = rig.host()
    host.upload(family.new.data)
    host.test(hashlib.sha256(family.new.data).digest())
    host.reset()
    host.confirm()
    assert host.find(family.new.hash) is not None


def wrap(bundle: Sealed) -> bytes:
    """As an MCUboot image, by a key of its own."""
    return wrap_image(
        bundle.data,
        version=ImageVersion.parse("2.0.0"),
        security_counter=1,
        signer=generate_key_pair("boot"),
    )


def test_an_mcuboot_image_is_unwrapped_and_known_by_its_own_hash(family: Family) -> None:
    rig = family.rig(slot_bytes=1 << 16)
    host = rig.host()
    image = wrap(family.new)
    name = read_image(image).digest
    assert host.upload(image).matches is True
    digest = custom.decode(
        host.client.call(custom.ask(Operation.READ, Command.DIGEST, SlotQuery(slot=1))), Digest
    )
    assert digest.sha256 == hashlib.sha256(image).digest()
    assert host.find(name) is not None
    host.test(name)
    host.reset()
    host.confirm(name)
    state = host.find(family.new.hash)
    assert state is not None
    assert (state.active, state.confirmed) == (True, True)
    assert rig.sensor.store.read(SlotName.B, 0, 1 << 20) == family.new.data


def test_a_damaged_or_foreign_image_is_refused(family: Family) -> None:
    host = family.rig(slot_bytes=1 << 16).host()
    image = wrap(family.new)
    for data in (image[:-1], image + b"?", image[:5000] + b"?" + image[5001:], image[:32]):
        with pytest.raises(SensorRefusedError) as caught:
            host.upload(data)
        assert caught.value.code == Code.DAMAGED
    assert host.states().keys() == {0}


def test_page_hashes_and_digest_are_of_what_lies_there_now(family: Family) -> None:
    rig = family.rig(buffer_bytes=256)
    host = rig.host()
    assert read_pages(host.client, 0, 256) == hash_pages(family.old.data)
    ask = custom.ask(Operation.READ, Command.PAGES, PageQuery(slot=0, first=99, count=9))
    found = custom.decode(host.client.call(ask), PageHashes)
    assert (found.total, found.hashes) == (len(hash_pages(family.old.data)), b"")
    ask = custom.ask(Operation.READ, Command.DIGEST, SlotQuery(slot=0))
    found_digest = custom.decode(host.client.call(ask), Digest)
    assert found_digest.sha256 == hashlib.sha256(family.old.data).digest()
    rig.flash.damage(Area.SLOT_A, 100, b"rot")
    assert custom.decode(host.client.call(ask), Digest) != found_digest
    with pytest.raises(SensorRefusedError, match="nothing lies in that slot"):
        host.client.call(custom.ask(Operation.READ, Command.DIGEST, SlotQuery(slot=1)))


@pytest.mark.parametrize("framing", list(Framing))
def test_only_changed_pages_are_sent(family: Family, framing: Framing) -> None:
    rig = family.rig()
    host = rig.host(framing)
    plan = plan_copies(family.new.data, hash_pages(family.old.data))
    outcome = Upload(host.client, host.peer, PageSource(family.new.data, plan, 0)).run()
    assert outcome.sent_bytes < len(family.new.data) / 2
    host.test(family.new.hash)
    host.reset()
    host.confirm()
    store = rig.sensor.store
    assert store.read(SlotName.B, 0, len(family.new.data)) == family.new.data


def test_pages_are_held_against_their_checksum(family: Family) -> None:
    host = family.rig().host()
    data = family.new.data
    send_until(host, data, CHUNK)
    page = data[CHUNK : 2 * CHUNK]
    right = checksum(CHUNK, page)
    for write in (
        PageWrite(off=CHUNK, data=page, crc=right ^ 1),
        PageWrite(off=CHUNK + 1, data=page, crc=right),
        PageWrite(off=CHUNK, data=page[:-1] + b"?", crc=right),
    ):
        with pytest.raises(SensorRefusedError) as caught:
            host.client.call(custom.ask(Operation.WRITE, Command.WRITE, write))
        assert caught.value.code == Code.CHECKSUM
    copy = PageCopy(off=CHUNK, slot=0, source=0, len=CHUNK, crc=0)
    with pytest.raises(SensorRefusedError) as caught:
        host.client.call(custom.ask(Operation.WRITE, Command.COPY, copy))
    assert caught.value.code == Code.CHECKSUM
    copy = PageCopy(off=CHUNK, slot=1, source=0, len=CHUNK, crc=0)
    with pytest.raises(SensorRefusedError) as caught:
        host.client.call(custom.ask(Operation.WRITE, Command.COPY, copy))
    assert caught.value.code == Code.STATE
    assert go_on(host, data, CHUNK).off == 2 * CHUNK


def test_a_flash_that_fails_is_told_and_the_upload_goes_on_afterwards(family: Family) -> None:
    rig = family.rig()
    host = rig.host()
    send_until(host, family.new.data, 5 * CHUNK)
    rig.flash.fail_at(rig.flash.operations)
    with pytest.raises(SensorRefusedError) as caught:
        go_on(host, family.new.data, 5 * CHUNK)
    assert caught.value.code == Code.STORAGE
    host.flash(family.new)
