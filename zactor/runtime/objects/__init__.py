"""Values and who holds references to them; the store as a process sees it. In drivers and workers."""
