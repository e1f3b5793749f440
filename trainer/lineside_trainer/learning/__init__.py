"""How learning is carried out: one step, the loop, several processes, and what survives a stop."""
