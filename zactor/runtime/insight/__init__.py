"""Answers to a user's questions: why, who waits, what ran, what was printed. In every process."""
