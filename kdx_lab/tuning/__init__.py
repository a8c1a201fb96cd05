"""The search for values of an arm, such as its learning rate, on validation images."""
