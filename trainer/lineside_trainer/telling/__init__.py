"""What people read of runs: reports, comparisons, doubted labels, and where a network looked."""
