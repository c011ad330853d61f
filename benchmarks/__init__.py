"""Benchmarks of greenroom's promises: `python -m benchmarks NAME [--json]`."""
