"""The node: starts workers, sees them die, owns the machine's store. In the node's process."""
