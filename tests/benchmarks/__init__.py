"""Benchmarks, run by hand: `python -m tests.benchmarks.decode` and so on. Each prints ratios of one run."""
