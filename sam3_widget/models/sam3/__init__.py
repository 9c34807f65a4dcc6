"""SAM 3 on torch and transformers, which load with the module that needs them."""
