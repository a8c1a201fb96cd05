"""The cost of a network: parameters, operations, memory and speed, in training and at test.

counting.py   parameters and operations of one image, by the paper's rules and by torch's counter
training.py   a training step's operations and memory, counted without running it
rounds.py     images a second, in interleaved rounds
variants.py   a recipe's networks: compact, and as it is trained
table13.py    Table 13 of the ExpandNets paper, as data; paper.py recomputes it
"""

__all__ = []
