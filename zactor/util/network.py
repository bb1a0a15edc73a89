"""This machine's address, as other machines reach it."""

from zactor.runtime.machine import ip_address


def get_node_ip_address(address: str = "8.8.8.8:53") -> str:
    """Return the IP address from which this machine reaches `address`. Nothing is sent."""
    return ip_address(address.rpartition(":")[0] or address)
