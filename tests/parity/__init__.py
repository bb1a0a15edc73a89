"""The Ray Core behaviours zactor promises, as one table of small programs."""
