"""Where the runs of a study run: on this machine, on a Ray cluster, on Slurm."""
