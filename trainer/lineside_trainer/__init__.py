"""Bring a trained model from images to a candidate."""
