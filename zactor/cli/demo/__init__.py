"""`zactor demo`: half a minute that shows what zactor does, on a real cluster of its own.

`actors` holds what runs in workers, `models` the small models that are served, `stages` what is
shown, one after the other, and `screen` how. The numbers are measured as it runs; the command
fails if anything hung or came out wrong.
"""

from zactor.cli.demo.command import demo

__all__ = ["demo"]
