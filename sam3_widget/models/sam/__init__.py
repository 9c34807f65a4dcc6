"""Models of the SAM family on torch and transformers, which load with the module that needs them."""
