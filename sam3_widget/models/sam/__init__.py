"""SAM, SAM-HQ, SAM 2 and EdgeTAM, and what SAM 3 shares with them; torch and transformers load with a module."""
