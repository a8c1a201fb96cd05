"""The teacher's memo: its outputs, remembered per view of a sample.

memos/<fingerprint>/memo.json             what they depend on, and what is held
                    logits.rows, .checks  the rows of an output and their checksums
                    feature.<path>.rows   a feature that a loss reads
"""
