"""The machines: pure decisions, fed with messages and the time, that return what to do."""
