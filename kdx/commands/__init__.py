"""The commands of kdx, one file each."""
