"""LoggingConfig: how a job's processes write what they log."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from zactor.runtime.insight.records import FORMATTERS, STANDARD


@dataclass
class LoggingConfig:
    """How the `logging` module is set up in a job's driver, workers and actors.

    The root logger gets a handler that writes to standard error; what workers write there is shown
    at the driver's terminal, as all that they print. Each record has the ids of where it was written:
    `job_id worker_id node_id`, and in workers `actor_id actor_name task_id task_name task_func_name`.

    Args:
        encoding: "TEXT" or "JSON", one object a line.
        log_level: The root logger's level: its name, or a number.
        additional_log_standard_attrs: Attributes of log records to show as well.

    Raises:
        ValueError: The encoding, the level or an attribute is unknown.
    """

    encoding: str = "TEXT"
    log_level: str | int = "INFO"
    additional_log_standard_attrs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.encoding not in FORMATTERS:
            raise ValueError(
                f"Invalid encoding type: {self.encoding}. "
                f"Valid encoding types are: {list(FORMATTERS)}"
            )
        try:
            logging.Handler().setLevel(self.log_level)
        except (TypeError, ValueError):
            raise ValueError(
                f"Unknown log level: {self.log_level!r}. It is a number, or one of "
                "DEBUG, INFO, WARNING, ERROR and CRITICAL"
            ) from None
        for name in self.additional_log_standard_attrs:
            if name not in STANDARD:
                raise ValueError(
                    f"Unknown python logging standard attribute: {name}. "
                    f"The valid attributes are: {', '.join(sorted(STANDARD))}"
                )

    def wishes(self) -> dict[str, Any]:
        """Return it as it travels to workers."""
        return {
            "encoding": self.encoding,
            "log_level": self.log_level,
            "attributes": list(self.additional_log_standard_attrs),
        }


def set_up_own_logger(level: Any, form: str | None) -> None:
    """Set level and format of the `zactor` logger, which says what a program should know of it."""
    log = logging.getLogger("zactor")
    if level is not None:
        log.setLevel(level)
    if form is not None:
        for known in list(log.handlers):
            if isinstance(known, OwnHandler):
                log.removeHandler(known)
        handler = OwnHandler()
        handler.setFormatter(logging.Formatter(form))
        log.addHandler(handler)
        log.propagate = False


class OwnHandler(logging.StreamHandler[Any]):
    """The handler of the `zactor` logger, made by `init(logging_format=)`."""
