"""How a job's processes write what they log: text or JSON, with the ids of what runs.

Sets up the root logger with one handler that writes to standard error. Set up again, the handler is
replaced; what the program has set up itself is left alone.

Does not decide anything: `api.log_config` has the user's wishes and checks them.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from zactor.runtime import current as processes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zactor.runtime.offered import Offered

STANDARD = frozenset((*vars(logging.makeLogRecord({})), "asctime", "message", "taskName"))
"""The attributes that Python gives to every record; others are context, ours or the program's."""

TEXT_FORMAT = "%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"


class ContextFilter(logging.Filter):
    """Adds to each record where it was written: job, node, worker, actor, task."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add to a record, and let it pass."""
        process = processes.current()
        if process is not None:
            for name, value in context_of(process).items():
                if value and name not in record.__dict__:
                    setattr(record, name, value)
        return True


def context_of(process: Offered) -> dict[str, Any]:
    """Return the ids and names of what runs in the asking thread or asyncio task."""
    node = process.node.node if process.node is not None else process.post.address.node
    context: dict[str, Any] = {
        "job_id": process.job.hex(),
        "worker_id": process.id.hex(),
        "node_id": node.hex(),
    }
    running = process.running
    if running is None:
        return context
    context["actor_id"] = running.actor_id
    if running.actor_id:
        context["actor_name"] = (running.spec or {}).get("name")
    call = running.current()
    if call is not None:
        function = running.name_of(call)
        name = f"{running.label}.{function}" if running.label else function
        context["task_id"] = call.object_id()[:24].hex()
        context["task_name"] = running.name_given(call) or name
        context["task_func_name"] = name
    return context


class _Formatter(logging.Formatter):
    def __init__(self, more: list[str]) -> None:
        super().__init__(TEXT_FORMAT)
        self.more = more  # standard attributes that are wanted as well

    def context(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = {name: getattr(record, name, None) for name in self.more}
        fields |= {k: v for k, v in vars(record).items() if k not in STANDARD}
        return fields | {"timestamp_ns": int(record.created * 1e9)}


class TextFormatter(_Formatter):
    """A line of text, and behind it `name=value` for each part of the context."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        fields = " ".join(f"{name}={value}" for name, value in self.context(record).items())
        head, separator, rest = super().format(record).partition("\n")
        return f"{head} {fields}{separator}{rest}"


class JsonFormatter(_Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        fields: dict[str, Any] = {
            "asctime": self.formatTime(record),
            "levelname": record.levelname,
            "message": record.getMessage(),
            "filename": record.filename,
            "lineno": record.lineno,
            "process": record.process,
        }
        if record.exc_info:
            fields["exc_text"] = record.exc_text or self.formatException(record.exc_info)
        return json.dumps(fields | self.context(record), default=str)


FORMATTERS = {"TEXT": TextFormatter, "JSON": JsonFormatter}


class RecordHandler(logging.StreamHandler[Any]):
    """The handler that `set_up` installs; known by its class when it is to be replaced."""


def set_up(wishes: Mapping[str, Any] | None) -> None:
    """Set up the root logger of this process; nothing is done without wishes.

    Args:
        wishes: `encoding`, `log_level` and `attributes`, as `LoggingConfig` has checked them.
    """
    if not wishes:
        return
    handler = RecordHandler()
    handler.setLevel(wishes["log_level"])
    handler.setFormatter(FORMATTERS[wishes["encoding"]](list(wishes["attributes"])))
    handler.addFilter(ContextFilter())
    root = logging.getLogger()
    for known in list(root.handlers):
        if isinstance(known, RecordHandler):
            root.removeHandler(known)
    root.addHandler(handler)
    root.setLevel(wishes["log_level"])
