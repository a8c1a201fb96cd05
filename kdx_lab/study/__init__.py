"""Studies: recipes in variants and seeds, run as one, and what they say together."""
