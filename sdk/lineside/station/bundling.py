"""Sections ``[bundle]`` and ``[[bundle]]`` of ``station.toml``: what judges."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from lineside.errors import ConfigurationError
from lineside.limits import LimitSettings
from lineside.station.regions import RegionSettings
from lineside.station.trial import TrialSettings


class BundleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[bundle]``: what judges, who may have signed it, what computes.

    Attributes:
        path: the bundle, ``.lsb``; absent with ``store``.
        store: a store of slots, whose confirmed bundle, or the one on trial, judges; absent with
            ``path``.
        trust: public keys or folders of them; empty: ``--trust`` or the machine's trust folders.
        engine: ``auto`` takes the faster one that passes the golden self-test.
        precision: only this one, e.g. ``int8``; empty takes any that was sealed.
        threads: computing threads; absent: measured.
        providers: ONNX Runtime's execution providers in order; each must come up.
        provider_options: options by provider.
        device: OpenVINO's device.
        cache_folder: where engines keep compiled models; must belong to the station alone.
        regions: where on the frame to inspect; empty: the frame as a whole.
        limits: as section ``[limits]``, for a station with several bundles.
        trial: how a bundle of the store is tried.
    """

    path: Path | None = None
    store: Path | None = None
    trust: tuple[Path, ...] = ()
    engine: Literal["auto", "openvino", "onnxruntime"] = "auto"
    precision: str = ""
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    providers: tuple[str, ...] = ()
    provider_options: dict[str, dict[str, str]] = {}
    device: str = "CPU"
    cache_folder: Path | None = None
    regions: tuple[RegionSettings, ...] = ()
    limits: LimitSettings = LimitSettings()
    trial: TrialSettings = TrialSettings()

    @property
    def place(self) -> Path:
        """The file or the store."""
        place = self.store or self.path
        assert place is not None, "checked when the file was read"
        return place


def check_bundles(bundles: Sequence[BundleSettings], limits: LimitSettings) -> None:
    """Hold the rules between keys.

    Args:
        bundles: all sections.
        limits: section ``[limits]`` of the station.

    Raises:
        ConfigurationError: none; without path and store, or with both; a trial without a store; two
            on one store; limits of which bundle; two regions of one name.
    """
    if not bundles:
        raise ConfigurationError("bundle: names none", path="bundle")
    several = len(bundles) > 1 or bundles[0].limits != LimitSettings()
    if several and limits != LimitSettings():
        raise ConfigurationError(
            "limits: of which bundle? Write [bundle.limits] below the bundle that they are for",
            path="limits",
        )
    for bundle in bundles:
        _check_place(bundle)
        _check_regions(bundle)
    stores = [os.path.realpath(bundle.store) for bundle in bundles if bundle.store is not None]
    twice = sorted({store for store in stores if stores.count(store) > 1})
    if twice:
        raise ConfigurationError(
            f"bundle.store: two bundles have {twice[0]}; a store holds one product's",
            path="bundle.store",
        )


def rebase_bundle(bundle: BundleSettings, folder: Path) -> BundleSettings:
    """With relative paths counted from a folder."""
    return msgspec.structs.replace(
        bundle,
        path=None if bundle.path is None else folder / bundle.path,
        store=None if bundle.store is None else folder / bundle.store,
        trust=tuple(folder / key for key in bundle.trust),
        cache_folder=None if bundle.cache_folder is None else folder / bundle.cache_folder,
        limits=rebase_limits(bundle.limits, folder),
    )


def rebase_limits(limits: LimitSettings, folder: Path) -> LimitSettings:
    """Likewise."""
    override = None if limits.override is None else folder / limits.override
    return msgspec.structs.replace(limits, override=override)


def _check_place(bundle: BundleSettings) -> None:
    if bundle.path is None and bundle.store is None:
        raise ConfigurationError(
            "bundle.path: is missing; name the bundle, or a store of slots as bundle.store",
            path="bundle.path",
        )
    if bundle.path is not None and bundle.store is not None:
        raise ConfigurationError(
            "bundle.store: bundle.path is there as well; give one of them: a store holds the "
            "bundle itself",
            path="bundle.store",
        )
    if bundle.store is None and bundle.trial != TrialSettings():
        raise ConfigurationError(
            "bundle.trial: bundles are tried in a store; name one as bundle.store, or take it out",
            path="bundle.trial",
        )


def _check_regions(bundle: BundleSettings) -> None:
    names = [region.name for region in bundle.regions]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(
            f"bundle.regions: two are called {twice[0]!r}", path="bundle.regions"
        )
