"""What one station needs: its file, bundle, frames, outbox and broker."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lineside.bundle import Bundle, TrustedKeys, load_trust, open_bundle
from lineside.doctor.check import Check, State
from lineside.doctor.commands import check_commands
from lineside.doctor.disk import check_disk
from lineside.doctor.permissions import key_files
from lineside.doctor.slots import active_file, check_store
from lineside.doctor.target import check_bundle_target
from lineside.errors import (
    BundleError,
    ConfigurationError,
    InputDataError,
    KeyFileError,
    OverrideError,
    StorageError,
)
from lineside.limits import LimitSettings, settle_limits
from lineside.mqtt.settings import MqttSettings
from lineside.plainfile import is_folder
from lineside.sources import (
    FolderSettings,
    SerialTrigger,
    SourceSettings,
    TriggerSettings,
    VideoSettings,
    probe_camera,
    probe_serial_port,
    probe_video,
)
from lineside.station import (
    BundleSettings,
    MapSettings,
    StationConfiguration,
    read_configuration,
)
from lineside.station.maps import check_map_given

_CONNECT_TIMEOUT_S: Final = 3.0


def examine_station(
    file: Path, *, given_trust: Sequence[Path] = (), machine_trust: Sequence[Path] = ()
) -> list[Check]:
    """Look at what the station's file names; nothing of it is changed.

    Args:
        file: ``station.toml``.
        given_trust: keys or folders of them, which come before the file's, as in `lineside run`.
        machine_trust: the same, which count where the file names none.
    """
    try:
        configuration = read_configuration(file)
    except ConfigurationError as error:
        return [
            Check(
                topic="station",
                state=State.MISSING,
                found=str(error),
                remedy="docs/station.md lists every key",
            )
        ]
    return [
        Check(topic="station", state=State.OK, found=f"{file}: {configuration.topics.state}"),
        *_check_bundles(configuration, given_trust, machine_trust),
        check_source(configuration.source),
        *check_trigger(configuration.trigger),
        check_disk("outbox", configuration.outbox.path.parent, needed=True),
        *_check_kept(configuration),
        *check_commands(
            configuration.commands,
            [*given_trust, *machine_trust, *(p for b in configuration.bundles for p in b.trust)],
        ),
        check_broker(configuration.mqtt),
    ]


def station_trust(file: Path) -> list[Path]:
    """The keys that a station's file trusts, or folders of them; none where it cannot be read."""
    try:
        bundles = read_configuration(file).bundles
    except ConfigurationError:
        return []  # which `examine_station` says
    return list(dict.fromkeys(place for bundle in bundles for place in bundle.trust))


def _check_bundles(
    configuration: StationConfiguration, given_trust: Sequence[Path], machine_trust: Sequence[Path]
) -> list[Check]:
    return [
        check
        for bundle in configuration.bundles
        for check in _check_bundle(configuration, bundle, given_trust, machine_trust)
    ]


def _check_bundle(
    configuration: StationConfiguration,
    settings: BundleSettings,
    given_trust: Sequence[Path],
    machine_trust: Sequence[Path],
) -> list[Check]:
    trust = given_trust or settings.trust
    trust = trust or [key for place in machine_trust for key in key_files(place, ".pub")]
    revoked = [file for place in machine_trust for file in key_files(place, ".revoked")]
    remedy = "check it with lineside verify, and that [bundle] trust names the maker's key"
    slots: list[Check] = []
    try:
        trusted = load_trust([*trust, *revoked])
        path = settings.path
        if settings.store is not None:
            slots, path = check_store(settings.store, trusted), active_file(settings.store)
        if path is None:
            return slots
        with open_bundle(path, trust=trusted) as bundle:
            identity = bundle.manifest.identity
            found = f"{path}: {identity.product} {identity.version}, the seal holds"
            limits = _check_limits(bundle, configuration.limits_of(settings), trusted)
            more = _check_map_output(bundle, configuration.maps)
            more += check_bundle_target(identity.target, str(path))
    except (BundleError, ConfigurationError, KeyFileError, StorageError) as error:
        return [*slots, Check(topic="bundle", state=State.MISSING, found=str(error), remedy=remedy)]
    return [*slots, Check(topic="bundle", state=State.OK, found=found), limits, *more]


def _check_map_output(bundle: Bundle, settings: MapSettings) -> list[Check]:
    if settings.path is None:
        return []
    try:
        check_map_given(bundle.manifest.contract)
    except ConfigurationError as error:
        remedy = "take [maps] out, or have a model sealed that gives a map"
        return [Check(topic="maps", state=State.MISSING, found=str(error), remedy=remedy)]
    return []


def _check_kept(configuration: StationConfiguration) -> list[Check]:
    # The station makes these folders and goes on without them; a warning, whatever is wrong.
    places = {"maps": configuration.maps.path, "keep": configuration.keep.path}
    return [
        check_disk(topic, folder, needed=False)
        for topic, folder in places.items()
        if folder is not None
    ]


def _check_limits(bundle: Bundle, settings: LimitSettings, trusted: TrustedKeys) -> Check:
    try:
        limits = settle_limits(bundle, settings, trusted=trusted)
    except (ConfigurationError, OverrideError) as error:
        remedy = "correct [limits], or have an override signed: docs/station.md"
        return Check(topic="limits", state=State.MISSING, found=str(error), remedy=remedy)
    return Check(topic="limits", state=State.OK, found="; ".join(limits.told()) or "as sealed")


def check_source(settings: SourceSettings) -> Check:
    """Is the folder, the video or the camera there, and may this user read it?"""
    if isinstance(settings, FolderSettings):
        return _check_folder(settings.path)
    try:
        if isinstance(settings, VideoSettings):
            found = probe_video(settings)
        else:
            found = probe_camera(settings)
    except (ConfigurationError, InputDataError) as error:
        remedy = "correct [source]; `v4l2-ctl --list-devices` names the cameras at this machine"
        if isinstance(settings, VideoSettings):
            remedy = "correct [source] path, or make the file anew"
        return Check(topic="source", state=State.MISSING, found=str(error), remedy=remedy)
    return Check(topic="source", state=State.OK, found=found)


def check_trigger(settings: TriggerSettings) -> list[Check]:
    """Where a serial port triggers: is it there, and may this user read it?"""
    if not isinstance(settings, SerialTrigger):
        return []
    try:
        probe_serial_port(settings)
    except (ConfigurationError, InputDataError) as error:
        remedy = "correct [trigger] port, or `sudo usermod -aG dialout $USER` and log in again"
        return [Check(topic="trigger", state=State.MISSING, found=str(error), remedy=remedy)]
    return [Check(topic="trigger", state=State.OK, found=f"serial port {settings.port}: opens")]


def _check_folder(folder: Path) -> Check:
    if not is_folder(folder):
        return Check(
            topic="source",
            state=State.MISSING,
            found=f"{folder}: no such folder that this user may enter",
            remedy=f"mkdir -p {folder}, or correct [source] path",
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        return Check(
            topic="source",
            state=State.MISSING,
            found=f"{folder}: this user may not read it",
            remedy=f"chmod u+rx {folder}, or let its owner's group read it",
        )
    return Check(topic="source", state=State.OK, found=str(folder))


def check_broker(settings: MqttSettings) -> Check:
    """Does somebody listen where the broker should be?

    A warning only: verdicts wait in the outbox while the broker is away.
    """
    address = settings.address
    try:
        socket.create_connection((address.host, address.port), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return Check(
            topic="broker",
            state=State.WARNING,
            found=f"{address}: {error.strerror or error}",
            remedy="start it, or correct [mqtt] url; verdicts wait in the outbox meanwhile",
        )
    return Check(topic="broker", state=State.OK, found=f"{address}: listens")
