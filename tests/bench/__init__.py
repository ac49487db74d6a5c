"""Benchmarks: our service against Litestar's own channels and Node `ws`, on the same cores in the same run.

`python -m tests.bench --help` says how to run them. Nothing here is collected by pytest.
"""
