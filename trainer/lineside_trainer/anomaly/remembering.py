"""A memory of good patches, on a network that was pre-trained on the factory's own images."""
