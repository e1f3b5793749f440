"""What a run is and what it leaves: its folder, results, predictions, log and origin."""
