"""What a run starts from: weights, a teacher, a wider network, an earlier run."""
