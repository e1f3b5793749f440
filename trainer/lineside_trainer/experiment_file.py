"""`experiment.toml`: read, checked, laid over one another, written, compared."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import msgspec

from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import (
    AUTOENCODER_DEFAULTS,
    DEFAULT_AUTOENCODER,
    FROM_NOISE_DEFAULTS,
    METHOD_DEFAULTS,
    Experiment,
    Setting,
    Table,
)


def read_experiment(
    path: Path | None, overrides: Table, inherit: Callable[[Experiment], Table] | None = None
) -> Experiment:
    """Read a file, lay the command line's settings over it, check all of it.

    Args:
        path: TOML, or None for the defaults; folders in it are relative to it.
        overrides: nested as the file is; a value here wins.
        inherit: settings that the runs named in `train` hand on; a value anywhere else wins.

    Raises:
        ExperimentError: unreadable, not TOML, an unknown key, a value that cannot be.
    """
    source = str(path) if path else "command line"
    below = _with_folders_beside(path, _read_toml(path)) if path else {}
    told = merge_tables(below, overrides)
    experiment = convert_experiment(told, source=source)
    train = experiment.train
    if inherit and (experiment.pretrain.init or train.init or train.teacher.run or train.slim.run):
        experiment = convert_experiment(merge_tables(inherit(experiment), told), source=source)
    return experiment


def convert_experiment(table: Table, *, source: str) -> Experiment:
    """Check a table of settings; defaults of a section hold where it names only some keys.

    Raises:
        ExperimentError: with the path of what is wrong.
    """
    try:
        below = merge_tables(plain_table(Experiment()), _method_defaults(table))
        below = merge_tables(below, _start_defaults(table))
        below = merge_tables(below, _anomaly_defaults(table))
        experiment = msgspec.convert(merge_tables(below, table), Experiment)
    except msgspec.ValidationError as error:
        raise ExperimentError(f"{source}: {_with_path(str(error))}") from error
    # TOML and floats know inf and nan; bounds let some through, and no setting means anything then.
    for path, value in _flat(plain_table(experiment), "").items():
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise ExperimentError(f"{source}: {path}: {value} is not finite; give a number")
    return experiment


def _method_defaults(table: Table) -> Table:
    told = table.get("pretrain")
    method = told.get("method") if isinstance(told, Mapping) else None
    return METHOD_DEFAULTS.get(method, {}) if isinstance(method, str) else {}


def _start_defaults(table: Table) -> Table:
    """From noise every layer learns at the full rate: there is nothing to hold on to."""
    return {} if _starts_from_something(table) else FROM_NOISE_DEFAULTS


def _anomaly_defaults(table: Table) -> Table:
    """From noise good parts are learnt by an autoencoder, each as its paper has it."""
    if _told(table, ("train", "task")) != "anomaly":
        return {}
    arch = _told(table, ("model", "arch"))
    if not arch and not _starts_from_something(table):
        arch = DEFAULT_AUTOENCODER
    if not isinstance(arch, str):
        return {}
    return merge_tables({"model": {"arch": arch}}, AUTOENCODER_DEFAULTS.get(arch, {}))


def _starts_from_something(table: Table) -> bool:
    starts = (("train", "init"), ("train", "slim", "run"), ("model", "weights"))
    return any(_told(table, keys) for keys in (*starts, ("model", "download")))


def _told(table: Table, keys: Sequence[str]) -> object:
    found: object = table
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def encode_experiment(experiment: Experiment) -> str:
    """The experiment as TOML that `read_experiment` reads back unchanged."""
    return "".join(_lines(plain_table(experiment), ""))


def first_difference(saved: Experiment, asked: Experiment) -> str:
    """Path of the first setting that differs, "" where none does."""
    ours, theirs = _flat(plain_table(saved), ""), _flat(plain_table(asked), "")
    for path in [*ours, *theirs]:
        if ours.get(path) != theirs.get(path):
            return path
    return ""


def differences(experiments: Sequence[Experiment]) -> dict[str, tuple[Setting | None, ...]]:
    """Settings that are not the same in all, by path: one value each, None where unset."""
    flat = [_flat(plain_table(experiment), "") for experiment in experiments]
    paths = dict.fromkeys(path for settings in flat for path in settings)
    values = {path: tuple(settings.get(path) for settings in flat) for path in paths}
    return {path: found for path, found in values.items() if any(v != found[0] for v in found)}


def _read_toml(path: Path) -> Table:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExperimentError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: not TOML: {error}") from error


_FOLDERS: Final = (
    ("data", "folder"),
    ("model", "weights"),
    ("pretrain", "init"),
    ("train", "init"),
    ("train", "teacher", "run"),
    ("train", "slim", "run"),
    ("train", "anomaly", "run"),
)


def _with_folders_beside(path: Path, table: Table) -> Table:
    for keys in _FOLDERS:
        found = _told(table, keys)
        if isinstance(found, str) and found:
            beside: Setting | Table = str((path.parent / found).resolve())
            for key in reversed(keys):
                beside = {key: beside}
            table = merge_tables(table, cast(Table, beside))
    return table


def merge_tables(below: Table, above: Table) -> Table:
    """Both tables' settings; where both have one, that of `above`."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        result[key] = merge_tables(old, value) if both else value  # type: ignore[arg-type]
    return result


def plain_table(settings: msgspec.Struct) -> Table:
    """An experiment, or a section of one, as TOML would give it; unset settings are left out."""
    table: Table = msgspec.to_builtins(settings)
    return _without_none(table)


def _without_none(table: Table) -> Table:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
        if value is not None
    }


def _flat(table: Table, prefix: str) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = list(value) if isinstance(value, tuple) else value
    return found


def _lines(table: Table, path: str) -> list[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    lines = [f"[{path}]\n"] if path and plain else []
    lines += [f"{key} = {_literal(value)}\n" for key, value in plain.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _lines(value, f"{path}.{key}" if path else key)
    return lines


def _literal(value: object) -> str:
    # JSON's strings, numbers, booleans and arrays are TOML's too, but for one character that TOML
    # wants escaped (toml.io, v1.0.0, "String").
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")


def _with_path(message: str) -> str:
    """msgspec says what, then where (`$.train.fit`); people look for where first."""
    text, _, place = message.partition(" - at ")
    where = place.strip("`").removeprefix("$").strip(".")
    unknown = re.fullmatch(r"Object contains unknown field `(.+)`", text)
    if unknown:
        where = f"{where}.{unknown[1]}".strip(".")
        text = "unknown setting"
    return f"{where}: {text}" if where else text
