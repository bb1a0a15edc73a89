"""The configuration and what the environment changes of it."""

from __future__ import annotations

import pytest

from zactor.config import Config


def test_defaults_stand_without_an_environment() -> None:
    assert Config.from_environment({}) == Config()


def test_variables_override_by_the_setting_s_type() -> None:
    found = Config.from_environment(
        {
            "ZACTOR_LEASE": "2.5",
            "ZACTOR_LOG_FILES": "3",
            "ZACTOR_DEBUG": "yes",
            "ZACTOR_TMPDIR": "/x",
        }
    )
    assert (found.lease, found.log_files, found.debug, found.base) == (2.5, 3, True, "/x")


@pytest.mark.parametrize("name", ["ZACTOR_LEASE", "ZACTOR_LOG_FILES", "ZACTOR_DEBUG"])
def test_a_value_that_makes_no_sense_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}='soon'"):
        Config.from_environment({name: "soon"})
