"""The same prompts on thousands of images, resumable, on this machine or on a Ray cluster."""
