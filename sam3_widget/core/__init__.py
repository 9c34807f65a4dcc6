"""The document: prompts, masks, commands and history in plain Python and numpy."""
