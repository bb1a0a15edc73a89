"""How messages travel between processes: links, connections, who receives. In every process."""
