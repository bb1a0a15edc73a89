"""Serializers of the user's own classes."""

from zactor.serde.pickling import deregister_serializer, register_serializer

__all__ = ["deregister_serializer", "register_serializer"]
