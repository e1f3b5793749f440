"""From a bundle's file to an inspector that is proved on this device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from lineside.bundle import Bundle, load_trust, open_bundle
from lineside.choose import choose_engine
from lineside.engines import ENGINE_NAMES, EngineSettings
from lineside.engines.cache import default_cache_folder, private_folder
from lineside.errors import ConfigurationError
from lineside.inspector import Inspector
from lineside.limits import Limits, LimitSettings, settle_limits
from lineside.several import add_several

_MOST_REGIONS: Final = 4096


def load(
    path: str | Path,
    *,
    trust: str | Path | Sequence[str | Path],
    engine: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    providers: Sequence[str] = (),
    provider_options: Mapping[str, Mapping[str, str]] | None = None,
    device: str = "CPU",
    cache_folder: str | Path | None = None,
    limits: LimitSettings | None = None,
    regions: int = 1,
) -> Inspector:
    """Verify a bundle, prove an engine on its golden samples, and take the fastest that passes.

    The choice (engine, precision, number of threads) is measured once and remembered in the cache
    folder; the golden self-test is run at every load. `Inspector.choice` tells what was compared.

    Args:
        path: the bundle, ``.lsb``.
        trust: the maker's public key (``.pub``), a folder of them, or several.
        engine: ``auto``, ``openvino`` or ``onnxruntime``.
        precision: only this one, e.g. ``int8``; None takes any that was sealed.
        threads: computing threads; None measures a few numbers.
        providers: ONNX Runtime's execution providers, e.g. ``("TensorRT", "CUDA", "CPU")``; each
            must come up.
        provider_options: options by provider.
        device: OpenVINO's device.
        cache_folder: keeps compiled models and the choice; it must belong to this user alone.
            None keeps the choice only, in ``LINESIDE_CACHE`` or the user's cache folder.
        limits: tighter limits than the sealed ones, or a signed override; None: the sealed ones.
            The golden self-test goes by the sealed ones whatever stands here: it proves the engine.
        regions: so many frames come to `Inspector.inspect_batch` at once. With more than one a
            second form of the model is compiled for several at once, if it passes the self-test
            too and is measured to be faster here; `Choice.several` tells. It takes memory of its
            own (docs/devices.md).

    Returns:
        Close it, or use it in a ``with`` statement.

    Raises:
        BundleError: the bundle is refused.
        KeyFileError: a trusted key cannot be read.
        ProviderError: a provider or device that was asked for did not come up.
        SelfTestError: no engine passes here.
        ConfigurationError: an unknown engine, an impossible number of threads or regions, or
            limits that loosen the sealed ones.
        OverrideError: the override is refused.
        StorageError: the cache folder cannot be used.
    """
    if engine not in ("auto", *ENGINE_NAMES):
        raise ConfigurationError(
            f"engine {engine!r}: there are auto, {', '.join(ENGINE_NAMES)}", path="engine"
        )
    if not 1 <= regions <= _MOST_REGIONS:
        raise ConfigurationError(
            f"regions = {regions}: give a number from 1 to {_MOST_REGIONS}", path="regions"
        )
    kept = None if cache_folder is None else private_folder(Path(cache_folder))
    settings = EngineSettings(
        threads=threads,
        providers=tuple(providers),
        provider_options=provider_options or {},
        device=device,
        cache_folder=kept,
    )
    trusted = load_trust(trust)
    bundle = open_bundle(path, trust=trusted)
    try:
        settled = settle_limits(bundle, limits or LimitSettings(), trusted=trusted)
        folder = kept or default_cache_folder()
        return _prove(bundle, settings, engine, precision, folder, settled, regions)
    except BaseException:
        bundle.close()
        raise


def _prove(
    bundle: Bundle,
    settings: EngineSettings,
    engine: str,
    precision: str | None,
    folder: Path,
    limits: Limits,
    regions: int,
) -> Inspector:
    opened, choice = choose_engine(
        bundle, settings, engine=engine, precision=precision, folder=folder
    )
    if regions > 1:
        try:
            opened, several = add_several(bundle, opened, settings, frames=regions, folder=folder)
        except BaseException:
            opened.close()
            raise
        choice = msgspec.structs.replace(choice, several=several)
    return Inspector(bundle, opened, choice=choice, limits=limits)
