"""Benchmarks: ``make bench``, or ``python -m tests.bench NAME`` for one of them."""
