"""The processes: brokers, nodes, workers and clients, around the machines of `core`."""
