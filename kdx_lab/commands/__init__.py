"""The verbs of the command `kdx` that belong to the laboratory; none imports torch to be parsed."""
