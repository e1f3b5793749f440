"""Programs that start in processes of their own: `python -m lineside_bench.fresh.NAME`.

Each takes a JSON document as its one argument, and prints another as its last line. They import
what they are asked to measure and nothing besides, so this package's own rooms stay out of them.
"""
