"""One import, and what it costs."""

from __future__ import annotations

from importlib import import_module

from lineside_bench.fresh.telling import Diary, told_to_do


def main() -> None:
    """Import the module that the argument names; of a package's face, one name of it."""
    diary = Diary()
    asked = told_to_do()
    module = import_module(asked["module"])
    if asked["name"]:
        getattr(module, asked["name"])
    diary.mark("import")
    diary.close(lambda: None, 0)


if __name__ == "__main__":
    main()
