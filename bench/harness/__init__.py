"""What the benchmarks share: models, workloads, servers under test, the load client, statistics and reports."""
