"""From a configuration to a station that is ready to run: the one place where all parts meet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from lineside.errors import ConfigurationError
from lineside.health import Health, Notifier, open_health
from lineside.kept import KeepSettings
from lineside.outbox import Outbox
from lineside.resident import resident_mib
from lineside.sources import open_source
from lineside.station.bundling import BundleSettings
from lineside.station.configuration import MapSettings, StationConfiguration
from lineside.station.control import ControlSettings
from lineside.station.destination import open_receiving
from lineside.station.figures import health_sources
from lineside.station.keeping import FrameKeeper
from lineside.station.loaded import load_product
from lineside.station.loop import Station
from lineside.station.maps import MapKeeper
from lineside.station.products import Product, Products
from lineside.station.slotkeeper import SlotKeeper
from lineside.station.slotopening import enter_store
from lineside.station.slotting import Slotting


@contextlib.contextmanager
def open_station(
    configuration: StationConfiguration,
    *,
    progress: Callable[[Station], None] = lambda _: None,
) -> Iterator[Station]:
    """Open bundles, outbox and source; closes them in the end.

    Raises:
        ConfigurationError: the password cannot be read, no key is trusted, the limits loosen the
            sealed ones, pictures are wanted of models that give no map, two bundles judge one
            product, or together they take more memory than they may; a key that may give commands
            cannot be read; ``commands.url`` is none.
        BundleError, KeyFileError, OverrideError, EngineError: see ``lineside.load``.
        RefusedError: a store is empty.
        StorageError: the outbox or a store is torn, not writable, or in use by another station.
        InputDataError: the source is not there.
    """
    configuration.mqtt.read_password()
    with contextlib.ExitStack() as stack:
        outbox = Outbox(configuration.outbox)
        stack.callback(outbox.close)
        source = open_source(configuration.source, configuration.trigger, memory=outbox)
        stack.callback(source.close)
        products, keepers = _open_products(configuration, stack)
        station = Station(
            topics=configuration.topics,
            products=products,
            source=source,
            outbox=outbox,
            mqtt=configuration.mqtt,
            pace=configuration.pace,
            maps=_open_maps(configuration.maps),
            frames=_open_keeper(configuration.keep),
            control=ControlSettings(
                commands=configuration.commands,
                revocations=[key for bundle in configuration.bundles for key in bundle.trust],
                expiry_s=configuration.pace.expiry_s,
            ),
            slotting=Slotting(products, keepers),
            progress=progress,
        )
        stack.callback(station.control.close)
        stored = [bundle for bundle in configuration.bundles if bundle.store is not None]
        station.control.receiving = open_receiving(
            station.slotting,
            list(zip(keepers, stored, strict=True)),
            answer=station.publisher.answer,
            url=configuration.commands.url,
        )
        station.health = stack.enter_context(_open_health(configuration, station))
        yield station


@contextlib.contextmanager
def _open_health(configuration: StationConfiguration, station: Station) -> Iterator[Health]:
    notifier = Notifier.from_environment()
    try:
        with open_health(
            configuration.health,
            health_sources(station, configuration.outbox.path),
            notifier=notifier,
            beating=("inspection", "source"),
            alive=station.vital,
        ) as health:
            yield health
    finally:
        notifier.close()


def _open_products(
    configuration: StationConfiguration, stack: contextlib.ExitStack
) -> tuple[Products, list[SlotKeeper]]:
    products: list[Product] = []
    keepers: list[SlotKeeper] = []
    taken: list[str] = []
    for settings in configuration.bundles:
        before_mib = resident_mib()
        if settings.store is None:
            products.append(_open_file(settings, configuration, stack))
        else:
            keepers.append(stack.enter_context(enter_store(settings, configuration)))
            products.append(keepers[-1].product)
        taken.append(f"{settings.place.name} {resident_mib() - before_mib:.0f}")
    _check_memory(configuration.station.memory_budget_mib, taken)
    for keeper in keepers:
        keeper.stand_behind()
    return Products(products), keepers


def _open_file(
    settings: BundleSettings, configuration: StationConfiguration, stack: contextlib.ExitStack
) -> Product:
    loaded = load_product(settings.place, settings, configuration)
    stack.callback(loaded.close)
    return loaded.product


def _check_memory(budget_mib: int | None, taken: list[str]) -> None:
    now_mib = resident_mib()
    if budget_mib is not None and now_mib > budget_mib:
        raise ConfigurationError(
            f"station.memory_budget_mib: the program takes {now_mib:.0f} MiB with all bundles "
            f"loaded ({', '.join(taken)}), {budget_mib} are allowed; give fewer bundles, smaller "
            "forms or more memory",
            path="station.memory_budget_mib",
        )


def _open_maps(settings: MapSettings) -> MapKeeper | None:
    return None if settings.path is None else MapKeeper(settings)


def _open_keeper(settings: KeepSettings) -> FrameKeeper | None:
    return None if settings.path is None else FrameKeeper(settings)
