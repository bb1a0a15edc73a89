"""Sockets: the only importer of zmq."""
