"""Where bundles from afar go: into a store, proved on this device before they count."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lineside.bundle import Trust
from lineside.installing import DEFAULT_TERMS, InstallTerms, check_room, finish_install
from lineside.mqtt.desk import Reply
from lineside.remote.receiving import BundleReceiving
from lineside.remote.reception import Destination, installed_words
from lineside.slots import Store
from lineside.station.bundling import BundleSettings
from lineside.station.slotkeeper import SlotKeeper
from lineside.station.slotopening import install_terms
from lineside.station.slotting import Slotting


def open_receiving(
    slotting: Slotting,
    stores: Sequence[tuple[SlotKeeper, BundleSettings]],
    *,
    answer: Callable[[Reply], None],
    url: str,
) -> BundleReceiving | None:
    """What takes bundles for the stores of a station; ``None``: it has none.

    Args:
        slotting: knows the store of a product.
        stores: each with its settings.
        answer: publishes an answer; from any thread. What is refused is told to people here, too.
        url: where bundles may be downloaded from; ``""``: nowhere.

    Raises:
        ConfigurationError: no such URL.
    """

    def find(product: str) -> Destination:
        store = slotting.store_of(product)
        settings = next(found for keeper, found in stores if keeper.store is store)
        return destination_of(
            store, trust=settings.trust, engine=settings.engine, terms=install_terms(settings)
        )

    def tell(reply: Reply) -> None:
        if is_refused(reply):
            slotting.tell(f"install {reply.command_id} was refused: {reply.answer.detail}")
        answer(reply)

    return BundleReceiving(find, answer=tell, url=url) if stores else None


def is_refused(reply: Reply) -> bool:
    """Whether an installation has ended without a bundle; not one that is to wait for another."""
    ended = reply.cmd == "install" and not reply.answer.ok
    return ended and not reply.answer.detail.startswith("busy")


def destination_of(
    store: Store, *, trust: Trust, engine: str = "auto", terms: InstallTerms = DEFAULT_TERMS
) -> Destination:
    """One store, with what proves a bundle in it.

    Args:
        store: over a folder.
        trust: whose seal counts there.
        engine: ``auto`` or one engine's name: what must pass the golden self-test.
        terms: the rest.
    """

    def prove() -> str:
        done = finish_install(store, trust=trust, engine=engine, terms=terms)
        words = installed_words(done.state, done.slot, done.card.hash)
        return f"already {words}" if done.already else words

    return Destination(
        store=store, check_room=lambda size_bytes: check_room(store, size_bytes), prove=prove
    )
