"""Benchmarks: every number of the README, beside a peer or the raw engine in the same run.

Each module prints one JSON document as its last line; ``python -m bench`` keeps it in ``bench/results/``.
"""
