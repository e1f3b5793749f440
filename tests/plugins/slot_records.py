"""Any record that a store can come to, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from lineside.slots import Incoming, Record, Reverted, Slot, SlotCard, SlotName, SlotState

KEYS = tuple(bytes([number] * 16) for number in range(10))
_BESIDE = (SlotState.EMPTY, SlotState.PENDING, SlotState.TRIAL, SlotState.REVERT)
# Few draws each: a busy machine calls a slow strategy unhealthy.
_HASHES = st.integers(0, 2**64 - 1).map(lambda number: number.to_bytes(8, "big") * 4)
_REASONS = st.sampled_from(["self_test", "x", "a reason with 24 letters"])


def cards() -> st.SearchStrategy[SlotCard]:
    """Of any bundle."""
    return st.builds(
        SlotCard,
        hash=_HASHES.map(bytes.hex),
        size_bytes=st.integers(1, 2**40),
        key_id=st.sampled_from(KEYS),
        security_counter=st.integers(0, 9) | st.just(2**32 - 1),
    )


def incomings() -> st.SearchStrategy[Incoming]:
    """Of any file."""
    return st.builds(Incoming, sha256=_HASHES, size_bytes=st.integers(1, 2**40))


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Of any state; counters as confirms leave them, at most eight."""
    kind = draw(st.sampled_from(["blank", *_BESIDE]))
    free = Slot(incoming=draw(st.none() | incomings()))
    slots = [Slot(), free]
    if kind != "blank":
        slots[0] = Slot(state=SlotState.CONFIRMED, card=draw(cards()))
        if kind != SlotState.EMPTY:
            slots[1] = Slot(state=SlotState(kind), card=draw(cards()))
    if draw(st.booleans()):
        slots.reverse()
    counters = draw(
        st.dictionaries(st.sampled_from(KEYS), st.integers(1, 9) | st.just(2**32 - 1), max_size=8)
    )
    for slot in slots:
        if slot.state in (SlotState.CONFIRMED, SlotState.REVERT) and slot.card is not None:
            _raise(counters, slot.card)
    return Record(
        sequence=draw(st.integers(1, 2**64 - 1)),
        slots=dict(zip(SlotName, slots, strict=True)),
        starts=draw(st.integers(0, 2**32 - 1)),
        counters=counters,
        reverted=draw(
            st.none() | st.builds(Reverted, hash=_HASHES.map(bytes.hex), reason=_REASONS)
        ),
    )


def _raise(counters: dict[bytes, int], card: SlotCard) -> None:
    """As its confirm did; another key makes room where nine would be kept."""
    if card.security_counter == 0:
        return
    if card.key_id not in counters and len(counters) == 8:
        del counters[min(counters)]
    counters[card.key_id] = max(card.security_counter, counters.get(card.key_id, 0))
