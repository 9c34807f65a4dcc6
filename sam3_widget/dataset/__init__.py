"""A folder of images that a person labels: what was decided, what lies on the disk, and what is opened ahead."""
