"""Tests of `zactor.util`, which stands on the public API alone."""
