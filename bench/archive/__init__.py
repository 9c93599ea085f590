"""Archives: memory, and throughput beside two plainer ways. Run with `python -m bench.archive`."""
