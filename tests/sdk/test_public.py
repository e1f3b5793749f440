"""The public face: names, reason codes, exit codes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from types import FunctionType, ModuleType

import pytest

import lineside
from lineside import errors
from lineside.verdict import REASON_CODES, Evaluation, Reason

# Released to PLCs: a change here breaks programs in the field.
RELEASED_CODES = {
    "within_limit": 0,
    "beyond_limit": 1,
    "between_limits": 2,
    "score_not_finite": 3,
    "frame_missing": 10,
    "frame_decode": 11,
    "frame_size": 12,
    "frame_channels": 13,
    "frame_depth": 14,
    "frame_frozen": 15,
    "frame_black": 16,
    "part_missing": 17,
    "product_unknown": 18,
    "engine": 20,
    "deadline": 21,
    "overload": 22,
    "paused": 23,
    "disk": 30,
}


def all_modules() -> list[ModuleType]:
    names = [found.name for found in pkgutil.walk_packages(lineside.__path__, "lineside.")]
    return [lineside, *map(importlib.import_module, names)]


def test_every_public_name_resolves_to_what_its_home_defines() -> None:
    assert sorted(lineside.__all__) == sorted(lineside._HOMES)
    for name, home in lineside._HOMES.items():
        assert getattr(lineside, name) is getattr(importlib.import_module(home), name)


def test_no_module_stands_in_the_way_of_a_public_name() -> None:
    modules = {found.name for found in pkgutil.iter_modules(lineside.__path__)}
    assert modules.isdisjoint(lineside.__all__)


def test_load_is_a_function_in_whatever_order_things_are_imported() -> None:
    program = "import lineside.loading, lineside.choose, lineside; print(callable(lineside.load))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = lineside.lod  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", all_modules(), ids=lambda module: module.__name__)
def test_all_lists_names_that_exist_once(module: ModuleType) -> None:
    names = getattr(module, "__all__", [])
    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize(
    "module",
    [module for module in all_modules() if hasattr(module, "__path__") and module is not lineside],
    ids=lambda module: module.__name__,
)
def test_a_package_hands_out_only_what_it_lists(module: ModuleType) -> None:
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and isinstance(value, (type, FunctionType))
    }
    assert public <= set(getattr(module, "__all__", ()))


def test_every_reason_has_its_released_code() -> None:
    assert {reason.value: reason.code for reason in Reason} == RELEASED_CODES
    assert set(REASON_CODES) == set(Reason)
    assert len(set(REASON_CODES.values())) == len(REASON_CODES)


def test_evaluations_are_opc_numbers() -> None:
    assert {evaluation.name: int(evaluation) for evaluation in Evaluation} == {
        "UNDEFINED": 0,
        "OK": 1,
        "NOT_OK": 2,
        "NOT_DECIDABLE": 3,
    }


def test_every_error_has_one_root_and_a_documented_exit_code() -> None:
    found = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if kind.__module__ == errors.__name__
    ]
    assert len(found) > 10
    for kind in found:
        assert issubclass(kind, errors.LinesideError)
        assert kind.__name__.endswith("Error")
        assert kind.exit_code in {1, 3, 4, 5, 6, 7, 8, 9}
        assert kind.__doc__
