"""Every name `zactor.util` promises is there, under the module's Ray name too."""

import importlib

import pytest

MODULES = [
    "zactor.util",
    "zactor.util.actor_group",
    "zactor.util.actor_pool",
    "zactor.util.check_serialize",
    "zactor.util.helpers",
    "zactor.util.iteration",
    "zactor.util.joblib",
    "zactor.util.metrics",
    "zactor.util.multiprocessing",
    "zactor.util.queue",
    "zactor.util.scheduling_strategies",
    "zactor.util.serialization",
]


@pytest.mark.parametrize("name", MODULES)
def test_all_names_are_there_sorted_and_documented(name):
    module = importlib.import_module(name)

    assert list(module.__all__) == sorted(module.__all__)
    assert module.__doc__
    for public in module.__all__:
        assert getattr(module, public) is not None


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError):
        importlib.import_module("zactor.util").no_such_name  # noqa: B018
