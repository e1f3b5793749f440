"""``stations.toml``: which stations a rollout goes to, and the broker that they all speak to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lineside.errors import ConfigurationError
from lineside.mqtt import MqttSettings, StationTopics, check_topic_part
from lineside.tomlfile import convert_document, read_toml

_NAME_LEVELS = 3


class StationEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One station.

    Attributes:
        name: ``site/line/name``, as its topics have it.
        tags: words by which some can be picked.
    """

    name: str
    tags: tuple[str, ...] = ()

    @property
    def topics(self) -> StationTopics:
        """Where it speaks; its name was checked."""
        return topics_of(self.name)


class StationsFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        stations: in the order in which they are to come; a name alone stands for one without tags.
        mqtt: the broker, as in a station's own file.
    """

    stations: tuple[str | StationEntry, ...]
    mqtt: MqttSettings = MqttSettings()

    @property
    def entries(self) -> tuple[StationEntry, ...]:
        """All of them as entries."""
        return tuple(
            StationEntry(name=found) if isinstance(found, str) else found for found in self.stations
        )


def topics_of(name: str) -> StationTopics:
    """Take ``site/line/name`` apart.

    Raises:
        ConfigurationError: not three parts, or one that MQTT's topics cannot have.
    """
    parts = name.split("/")
    if len(parts) != _NAME_LEVELS:
        raise ConfigurationError(
            f"{name!r}: is no station; write site/line/name, as its own file has them in [station]",
            path="stations",
        )
    for part in parts:
        check_topic_part(part, path=f"stations: {name}")
    return StationTopics(site=parts[0], line=parts[1], station=parts[2])


def pick(entries: Sequence[StationEntry], tags: Sequence[str]) -> tuple[StationEntry, ...]:
    """Those that have at least one of the tags; without tags all.

    Raises:
        ConfigurationError: a tag that no station has.
    """
    known = {tag for entry in entries for tag in entry.tags}
    if unknown := [tag for tag in tags if tag not in known]:
        there = ", ".join(sorted(known)) or "none"
        raise ConfigurationError(
            f"--tag {unknown[0]}: no station has it; there are: {there}", path="tag"
        )
    return tuple(entry for entry in entries if not tags or set(tags) & set(entry.tags))


def read_stations(path: str | Path) -> StationsFile:
    """Read ``stations.toml``; relative paths inside count from the file's folder.

    Raises:
        ConfigurationError: not readable, not TOML, a key unknown, missing or impossible, a station
            named twice.
    """
    file = Path(path)
    document = read_toml(file)
    try:
        found = _convert(document)
        _check(found)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}", file=file, path=error.path) from error
    return _rebase(found, file.resolve().parent)


def _convert(document: dict[str, Any]) -> StationsFile:
    section = document.get("mqtt")
    if "stations" not in document and isinstance(section, dict) and "stations" in section:
        raise ConfigurationError(
            "mqtt.stations: belongs to no section; write stations = [ … ] above [mqtt]",
            path="mqtt.stations",
        )
    return convert_document(document, StationsFile)


def _check(found: StationsFile) -> None:
    found.mqtt.check()
    if not found.stations:
        raise ConfigurationError("stations: names none", path="stations")
    seen: set[str] = set()
    for entry in found.entries:
        topics_of(entry.name)
        if entry.name in seen:
            raise ConfigurationError(f"stations: {entry.name} stands twice", path="stations")
        seen.add(entry.name)
        if bad := [tag for tag in entry.tags if not tag.strip() or not tag.isprintable()]:
            raise ConfigurationError(f"stations: {entry.name}: tag {bad[0]!r}", path="stations")


def _rebase(found: StationsFile, folder: Path) -> StationsFile:
    mqtt = found.mqtt
    paths = {
        name: folder / path
        for name in ("password_file", "ca_file", "cert_file", "key_file")
        if (path := getattr(mqtt, name)) is not None
    }
    return msgspec.structs.replace(found, mqtt=msgspec.structs.replace(mqtt, **paths))
