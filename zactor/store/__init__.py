"""Shared memory, and what is spilled from it to disk."""
