"""The caller's half: calls on their way out, and their results. In drivers and workers."""
