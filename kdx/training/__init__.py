"""Training: a recipe's job, its stages, its state."""
