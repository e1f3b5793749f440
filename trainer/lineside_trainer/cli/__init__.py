"""The trainer's verbs: one file a verb."""
