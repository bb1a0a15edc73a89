"""What users touch: `init`, `remote`, handles, references, `get`, `put`, `wait` and the context."""
