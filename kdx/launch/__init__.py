"""Processes, devices, precision, memory, and stopping."""
