"""Networks, their weights, and what is done to them."""
