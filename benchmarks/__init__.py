"""Speed and memory, as ratios of interleaved rounds: see README.md beside this file."""
