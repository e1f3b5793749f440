"""``station.toml``: read, checked to the last key, relative paths made absolute.

Every key with its meaning stands in docs/station.md; a test holds the two together.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec

from lineside.drift import DriftSettings
from lineside.errors import ConfigurationError
from lineside.health.settings import HealthSettings
from lineside.kept.settings import KeepSettings
from lineside.limits import LimitSettings
from lineside.mqtt.settings import MqttSettings
from lineside.mqtt.topics import StationTopics, check_topic_part
from lineside.outbox.settings import OutboxSettings
from lineside.remote.settings import CommandKeySettings, CommandSettings
from lineside.sources import (
    CameraSettings,
    FolderSettings,
    FreeTrigger,
    SourceSettings,
    TriggerSettings,
    check_source,
)
from lineside.station.bundling import (
    BundleSettings,
    check_bundles,
    rebase_bundle,
    rebase_limits,
)
from lineside.station.pace import Pace
from lineside.tomlfile import convert_document, read_toml

# MQTT 3.1.1 asks brokers for 23 bytes of client id and allows more; all known ones take 128.
_CLIENT_ID_LIMIT_BYTES = 128


class StationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[station]``: where it stands; the three parts of its topics.

    Attributes:
        memory_budget_mib: with all bundles loaded the program takes no more; absent: not looked at.
    """

    site: str
    line: str
    name: str
    memory_budget_mib: Annotated[int, msgspec.Meta(ge=1, le=1_048_576)] | None = None


class MapSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[maps]``: pictures of the parts that are not OK.

    Attributes:
        path: the folder, this station's alone; absent: none are written.
        most: so many lie there at most; the oldest are deleted first.
        keep_free_mib: with less free on that disk none is written, so that verdicts have room.
    """

    path: Path | None = None
    most: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000
    keep_free_mib: Annotated[int, msgspec.Meta(ge=0, le=1_048_576)] = 1024


class StationConfiguration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    station: StationSettings
    bundle: BundleSettings | tuple[BundleSettings, ...]
    pace: Pace = Pace()
    limits: LimitSettings = LimitSettings()
    source: SourceSettings
    trigger: TriggerSettings = FreeTrigger()
    outbox: OutboxSettings = OutboxSettings()
    maps: MapSettings = MapSettings()
    drift: DriftSettings = DriftSettings()
    keep: KeepSettings = KeepSettings()
    mqtt: MqttSettings = MqttSettings()
    commands: CommandSettings = CommandSettings()
    health: HealthSettings = HealthSettings()

    @property
    def bundles(self) -> tuple[BundleSettings, ...]:
        """One, or several for several products; the first is in use until a changeover."""
        return (self.bundle,) if isinstance(self.bundle, BundleSettings) else self.bundle

    def limits_of(self, bundle: BundleSettings) -> LimitSettings:
        """What this station changes of the bundle's rule."""
        return self.limits if bundle.limits == LimitSettings() else bundle.limits

    @property
    def topics(self) -> StationTopics:
        """Where this station speaks."""
        station = self.station
        return StationTopics(site=station.site, line=station.line, station=station.name)


def read_configuration(path: str | Path) -> StationConfiguration:
    """Read ``station.toml``; relative paths inside count from the file's folder.

    Raises:
        ConfigurationError: not readable, not TOML, a key unknown, missing or impossible; the
            message says which, the field ``path`` too (``mqtt.url``).
    """
    file = Path(path)
    document = read_toml(file)
    try:
        _refuse_unknown(document, StationConfiguration, "")
        found = convert_document(document, StationConfiguration)
        configuration = _rebase(found, file.resolve().parent)
        _check(configuration)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}", file=file, path=error.path) from error
    return configuration


def _refuse_unknown(table: dict[str, Any], kind: type[msgspec.Struct], path: str) -> None:
    known = {field.name: field.type for field in msgspec.structs.fields(kind)}
    if tag_field := kind.__struct_config__.tag_field:
        known[tag_field] = str
    for key, value in table.items():
        here = f"{path}{key}"
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
            raise ConfigurationError(f"unknown key {here}; {hint}", path=here)
        _refuse_unknown_inside(value, known[key], here)


def _refuse_unknown_inside(value: object, kind: object, path: str) -> None:
    if isinstance(value, dict):
        section = _section_of(kind, value)
        if section is not None:
            _refuse_unknown(value, section, f"{path}.")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_unknown_inside(item, kind, f"{path}[{index}]")


def _section_of(kind: object, table: dict[str, Any]) -> type[msgspec.Struct] | None:
    """Which section a table is; of several kinds the one that its tag names."""
    sections = list(dict.fromkeys(sections_in(kind)))
    if len(sections) == 1:
        return sections[0]
    for section in sections:
        config = section.__struct_config__
        if config.tag_field and table.get(config.tag_field) == config.tag:
            return section
    return None


def sections_in(kind: object) -> Iterator[type[msgspec.Struct]]:
    """The kinds of section that a key may hold: one, one of several, or a list of them."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for inner in get_args(kind):
        yield from sections_in(inner)


def _check(configuration: StationConfiguration) -> None:
    station, mqtt = configuration.station, configuration.mqtt
    for key in ("site", "line", "name"):
        check_topic_part(getattr(station, key), path=f"station.{key}")
    mqtt.check()
    if not mqtt.client_id.isprintable():
        raise ConfigurationError("mqtt.client_id: control characters", path="mqtt.client_id")
    if len(mqtt.client_id.encode("utf-8")) > _CLIENT_ID_LIMIT_BYTES:
        raise ConfigurationError(
            f"mqtt.client_id: longer than {_CLIENT_ID_LIMIT_BYTES} bytes", path="mqtt.client_id"
        )
    _check_source(configuration)
    check_bundles(configuration.bundles, configuration.limits)
    _check_maps(configuration)
    _check_keep(configuration)


def _check_source(configuration: StationConfiguration) -> None:
    pace = configuration.pace
    left_ms = None if pace.deadline_ms is None else pace.deadline_ms - pace.lead_ms
    check_source(configuration.source, configuration.trigger, left_ms)
    can_wait = isinstance(configuration.trigger, FreeTrigger) and not isinstance(
        configuration.source, CameraSettings
    )
    if pace.policy == "block" and pace.deadline_ms is not None and not can_wait:
        raise ConfigurationError(
            'pace.policy: with "block" parts wait in the source, where pace.deadline_ms does not '
            "see them; take newest or oldest",
            path="pace.policy",
        )


def _check_maps(configuration: StationConfiguration) -> None:
    maps = configuration.maps
    if maps.path is None:
        if maps != MapSettings():
            raise ConfigurationError(
                "maps.path: is missing; name a folder, or take [maps] out", path="maps.path"
            )
    elif _is_source(configuration, maps.path):
        raise ConfigurationError(
            "maps.path: is source.path, so the station would inspect its own pictures; name "
            "another folder",
            path="maps.path",
        )


def _check_keep(configuration: StationConfiguration) -> None:
    keep = configuration.keep
    if keep.path is None:
        if keep != KeepSettings():
            raise ConfigurationError(
                "keep.path: is missing; name a folder, or take [keep] out", path="keep.path"
            )
        return
    if _is_source(configuration, keep.path):
        raise ConfigurationError(
            "keep.path: is source.path, so the station would inspect what it kept; name another "
            "folder",
            path="keep.path",
        )


def _is_source(configuration: StationConfiguration, folder: Path) -> bool:
    source = configuration.source
    if not isinstance(source, FolderSettings):
        return False
    return os.path.realpath(folder) == os.path.realpath(source.path)


def _rebase(configuration: StationConfiguration, folder: Path) -> StationConfiguration:
    mqtt, maps, replace = configuration.mqtt, configuration.maps, msgspec.structs.replace
    commands = configuration.commands
    return replace(
        configuration,
        bundle=tuple(rebase_bundle(bundle, folder) for bundle in configuration.bundles),
        limits=rebase_limits(configuration.limits, folder),
        source=_rebase_source(configuration.source, folder),
        outbox=replace(configuration.outbox, path=folder / configuration.outbox.path),
        maps=replace(maps, path=_under(folder, maps.path)),
        keep=replace(configuration.keep, path=_under(folder, configuration.keep.path)),
        mqtt=replace(
            mqtt,
            password_file=_under(folder, mqtt.password_file),
            ca_file=_under(folder, mqtt.ca_file),
            cert_file=_under(folder, mqtt.cert_file),
            key_file=_under(folder, mqtt.key_file),
        ),
        commands=replace(commands, keys=tuple(_rebase_key(one, folder) for one in commands.keys)),
    )


def _rebase_key(key: CommandKeySettings, folder: Path) -> CommandKeySettings:
    return msgspec.structs.replace(key, path=folder / key.path)


def _rebase_source(source: SourceSettings, folder: Path) -> SourceSettings:
    replace = msgspec.structs.replace
    if isinstance(source, CameraSettings):
        return replace(source, password_file=_under(folder, source.password_file))
    return replace(source, path=folder / source.path)


def _under(folder: Path, path: Path | None) -> Path | None:
    return None if path is None else folder / path
