"""The data sets: one module each, and the readers of their file formats."""
