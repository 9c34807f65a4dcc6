"""Sessions as files: saved, kept as they go, gone on from, and replayed on other models."""
