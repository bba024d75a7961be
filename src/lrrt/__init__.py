"""How reliable is the learning-rate finder? Study and library of the learning rate range test."""

__version__ = "0.1.0"
