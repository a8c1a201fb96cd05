"""The commands of kdx: one file per `kdx <verb>`, found by the table in `main.py`."""
