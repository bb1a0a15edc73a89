"""This machine's address, as other machines reach it."""

import socket


def get_node_ip_address(address: str = "8.8.8.8:53") -> str:
    """Return the IP address from which this machine reaches `address`. Nothing is sent."""
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, int(port)))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
