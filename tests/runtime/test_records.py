"""How records are written. With what is in them of the process: tests/system/test_output.py."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import zactor
from zactor.runtime.insight.records import JsonFormatter, RecordHandler, TextFormatter, set_up


def record(text: str, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("app", logging.INFO, "/x/app.py", 7, text, (), None)
    vars(made).update(more)
    return made


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    found = logging.getLogger()
    level, handlers = found.level, list(found.handlers)
    yield found
    found.setLevel(level)
    found.handlers[:] = handlers


def test_a_json_record_is_one_line_whatever_is_in_it() -> None:
    text = JsonFormatter(["name", "funcName"]).format(record("a\nb", user=object(), job_id="1"))
    assert "\n" not in text
    fields = json.loads(text)
    assert (fields["message"], fields["name"], fields["lineno"]) == ("a\nb", "app", 7)
    assert fields["user"].startswith("<object")
    assert fields["job_id"] == "1"
    assert list(fields).index("job_id") < list(fields).index("timestamp_ns")


def test_a_text_record_has_its_context_behind_its_first_line() -> None:
    try:
        raise ValueError("bad")
    except ValueError:
        made = record("hello", exc_info=sys.exc_info(), job_id="1")
    first, *rest = TextFormatter([]).format(made).splitlines()
    assert "INFO app.py:7 -- hello job_id=1 timestamp_ns=" in first
    assert rest[-1] == "ValueError: bad"


def test_it_is_set_up_once_however_often_it_is_asked_for(root: logging.Logger) -> None:
    wishes = zactor.LoggingConfig(encoding="JSON", log_level="WARNING").wishes()
    for _ in range(3):
        set_up(wishes)
    assert len([each for each in root.handlers if isinstance(each, RecordHandler)]) == 1
    assert root.level == logging.WARNING
    set_up(None)
    assert root.level == logging.WARNING


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"encoding": "XML"}, "Invalid encoding type: XML"),
        ({"log_level": "LOUD"}, "Unknown log level"),
        ({"log_level": None}, "Unknown log level"),
        ({"additional_log_standard_attrs": ["colour"]}, "standard attribute: colour"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        zactor.LoggingConfig(**wrong)


def test_init_refuses_what_is_no_logging_config() -> None:
    with pytest.raises(TypeError, match="LoggingConfig"):
        zactor.init(logging_config={"encoding": "JSON"})
    with pytest.raises(TypeError, match="logging_format"):
        zactor.init(logging_format=7)
    assert not zactor.is_initialized()
