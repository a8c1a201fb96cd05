"""kdx: train a compact convolutional network to its best, from one recipe."""

__version__ = "0.1.0"
__all__ = ["__version__"]
