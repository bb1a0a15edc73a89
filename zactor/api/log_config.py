"""LoggingConfig: how workers write what they log."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

ENCODINGS = ("TEXT", "JSON")


@dataclass
class LoggingConfig:
    """How the `logging` module is set up in a job's processes.

    Args:
        encoding: "TEXT" or "JSON", one object a line.
        log_level: The root logger's level.
        additional_log_standard_attrs: Attributes of log records to show as well.

    Raises:
        ValueError: The encoding or an attribute is unknown.
    """

    encoding: str = "TEXT"
    log_level: str = "INFO"
    additional_log_standard_attrs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ValueError(
                f"Invalid encoding type: {self.encoding}. Valid encoding types are: {ENCODINGS}"
            )
        known = vars(logging.makeLogRecord({}))
        for name in self.additional_log_standard_attrs:
            if name not in known:
                raise ValueError(f"Unknown python logging standard attribute: {name}")
