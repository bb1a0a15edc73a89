"""The project's benchmark: `python bench/run.py`."""
