"""Studies: recipes in variants and seeds, run as one, and tables of their results."""
