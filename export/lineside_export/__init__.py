"""Turn a candidate into a signed bundle."""
