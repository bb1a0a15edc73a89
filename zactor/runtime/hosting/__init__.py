"""The callee's half: actors and tasks, run. In workers."""
