"""From a configuration to a station that is ready to run: the one place where all parts meet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from lineside.inspector import Inspector
from lineside.limits import LimitSettings
from lineside.loading import load
from lineside.outbox import Outbox
from lineside.sources import open_source
from lineside.station.configuration import BundleSettings, MapSettings, StationConfiguration
from lineside.station.loop import ModelCard, Station
from lineside.station.maps import MapKeeper


@contextlib.contextmanager
def open_station(
    configuration: StationConfiguration,
    *,
    progress: Callable[[Station], None] = lambda _: None,
) -> Iterator[Station]:
    """Open bundle, outbox and source; closes them in the end.

    Raises:
        ConfigurationError: the password cannot be read, no key is trusted, the limits loosen the
            sealed ones, or pictures are wanted of a model that gives no map.
        BundleError, KeyFileError, OverrideError, EngineError: see ``lineside.load``.
        StorageError: the outbox is torn, not writable, or in use by another station.
        InputDataError: the source is not there.
    """
    configuration.mqtt.read_password()
    with contextlib.ExitStack() as stack:
        outbox = Outbox(configuration.outbox)
        stack.callback(outbox.close)
        source = open_source(configuration.source, configuration.trigger, memory=outbox)
        stack.callback(source.close)
        inspector = stack.enter_context(_open_inspector(configuration.bundle, configuration.limits))
        yield Station(
            topics=configuration.topics,
            inspector=inspector,
            model=_describe(inspector),
            source=source,
            outbox=outbox,
            mqtt=configuration.mqtt,
            maps=_open_maps(configuration.maps, inspector),
            progress=progress,
        )


def _open_maps(settings: MapSettings, inspector: Inspector) -> MapKeeper | None:
    return None if settings.path is None else MapKeeper(settings, inspector.contract)


def _open_inspector(settings: BundleSettings, limits: LimitSettings) -> Inspector:
    return load(
        settings.path,
        trust=settings.trust,
        engine=settings.engine,
        precision=settings.precision or None,
        threads=settings.threads,
        providers=settings.providers,
        provider_options=settings.provider_options,
        device=settings.device,
        cache_folder=settings.cache_folder,
        limits=limits,
    )


def _describe(inspector: Inspector) -> ModelCard:
    manifest = inspector.bundle.manifest
    return ModelCard(
        product=manifest.identity.product,
        bundle=inspector.bundle.hash,
        version=manifest.identity.version,
        engine=f"{inspector.engine.name}/{inspector.engine.precision}",
        unit=manifest.rule.unit,
        limits=inspector.limits,
    )
