"""Checkpoints: found on this disk, downloaded, and read whole. Nothing here loads torch before it is needed."""
