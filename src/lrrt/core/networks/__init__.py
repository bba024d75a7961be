"""Networks, one module each: ``nodes(model, channels, classes)`` and ``validate(model)``."""
