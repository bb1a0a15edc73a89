"""What user code raised: `TaskError`, and its duals with the user's own classes.

A dual is made without running any constructor of the user's, so odd ones do no harm. Does not
pickle and does not format tracebacks (`serde.exceptions` does).
"""

from __future__ import annotations

import types
from functools import lru_cache
from typing import Any

from zactor.exceptions.root import Executed, ZactorError


class TaskError(ZactorError):
    """A task or an actor's method raised an exception.

    `get` raises it as an instance of the exception's own class too, so that both `except
    TaskError` and `except TheirError` catch it. `cause` is the exception itself; the text is the
    traceback of the process that ran the call.
    """

    function_name: str = ""
    traceback_str: str = ""
    cause: BaseException | None = None
    proctitle: str = ""
    pid: int = 0
    ip: str = ""
    actor_repr: str = ""
    actor_id: str = ""
    executed: Executed = "yes"

    def __init__(
        self,
        function_name: str = "",
        traceback_str: str = "",
        cause: BaseException | None = None,
        proctitle: str = "",
        pid: int = 0,
        ip: str = "",
        actor_repr: str = "",
        actor_id: str = "",
    ) -> None:
        super().__init__(
            function_name=function_name,
            traceback_str=traceback_str,
            cause=cause,
            proctitle=proctitle or f"zactor::{function_name}",
            pid=pid,
            ip=ip,
            actor_repr=actor_repr,
            actor_id=actor_id,
        )
        self.args = (function_name, traceback_str, cause)

    def __str__(self) -> str:
        ran = f"pid={self.pid}" if self.executed == "yes" else "not run"
        where = f"{self.proctitle}() ({ran}"
        if self.ip:
            where += f", ip={self.ip}"
        if self.actor_id:
            where += f", actor_id={self.actor_id}"
        if self.actor_repr:
            where += f", repr={self.actor_repr}"
        where += ")"
        lines = self.traceback_str.strip("\n").split("\n")
        headed = [where if line.startswith("Traceback (") else line for line in lines]
        return "\n".join(headed if where in headed else [where, *headed])

    def make_dual_exception_instance(self) -> TaskError:
        """Return a new exception that is a TaskError and an instance of the cause's class.

        It has the cause's `args`, attributes, slots and notes; its text is this error's. The
        cause's constructor is not run.

        Raises:
            TypeError: The cause is not an Exception, or its class cannot be combined.
        """
        cause = self.cause
        if not isinstance(cause, Exception):
            raise TypeError(f"no dual can be made of {cause!r}: it is not an Exception")
        dual_class, allocate = _dual_class(type(cause))  # type: ignore[arg-type]
        if isinstance(cause, BaseExceptionGroup):
            dual = allocate(dual_class, cause.message, cause.exceptions)
        else:
            dual = allocate(dual_class)
        # Past user-defined __setattr__ (frozen dataclasses) and properties named `args`.
        BaseException.args.__set__(dual, BaseException.args.__get__(cause))  # type: ignore[attr-defined]
        write_members(dual, read_members(cause))
        state = BaseException.__getattribute__(dual, "__dict__")
        state.update(self.__dict__)
        state.update(BaseException.__getattribute__(cause, "__dict__"))
        if isinstance(cause, ZactorError):
            state["executed"] = self.executed  # this call, whatever became of the other one
        state["cause"] = cause
        state["_zactor_task_error"] = self
        return dual  # type: ignore[no-any-return]

    def as_instanceof_cause(self) -> TaskError:
        """Return what `get` raises: a dual exception, or this one where none can be made."""
        if self.cause is None or isinstance(self, type(self.cause)):
            return self
        try:
            return self.make_dual_exception_instance()
        except Exception:  # noqa: BLE001 - runs the user's metaclass and __init_subclass__
            return self


_INHERITED = frozenset(("__dict__", "__weakref__", *vars(object), *vars(BaseException)))
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement


@lru_cache(maxsize=512)
def _dual_class(cause_class: type[Exception]) -> tuple[Any, Any]:
    """Return the class, and what allocates an instance of it.

    Measured: 60 us to make a class, 1 us to find it again.
    """

    def fill(namespace: dict[str, Any]) -> None:
        namespace["__module__"] = TaskError.__module__
        namespace["__str__"] = lambda self: str(self._zactor_task_error)
        namespace["__reduce_ex__"] = lambda self, _protocol: (
            TaskError.as_instanceof_cause,
            (self._zactor_task_error,),
        )
        # A class of the user's may refuse to be subclassed without keywords.
        namespace["__init_subclass__"] = classmethod(lambda _cls, **_kwargs: None)

    name = f"TaskError({cause_class.__name__})"
    dual = types.new_class(name, (TaskError, cause_class), exec_body=fill)
    return dual, allocator(dual)


def allocator(cls: type[BaseException]) -> Any:
    """Return the `__new__` of the built-in exception that `cls` is built on.

    It makes an instance without running any code of the user's.
    """
    return next(base for base in cls.__mro__ if not base.__flags__ & _HEAP_TYPE).__new__


def read_members(error: BaseException) -> dict[str, Any]:
    """Return what an exception keeps outside of `__dict__` and `args`.

    These are slots, and fields of built-in exceptions such as `errno`.
    """
    values = {}
    for name, (member, is_builtin) in _members(type(error)).items():  # type: ignore[arg-type]
        try:
            value = member.__get__(error)
        except (AttributeError, TypeError):
            continue  # not set
        # None is how the built-in ones show what is not set, and not the same as setting None.
        if value is not None or not is_builtin:
            values[name] = value
    return values


def write_members(error: BaseException, values: dict[str, Any]) -> None:
    """Set what `read_members` returned of another exception, past the user's `__setattr__`."""
    known = _members(type(error))  # type: ignore[arg-type]
    for name, value in values.items():
        if name in known:
            try:
                known[name][0].__set__(error, value)
            except (AttributeError, TypeError):
                continue  # read-only


@lru_cache(maxsize=512)
def _members(cls: type[BaseException]) -> dict[str, tuple[Any, bool]]:
    return {
        name: (member, not base.__flags__ & _HEAP_TYPE)
        for base in reversed(cls.__mro__)
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType | types.GetSetDescriptorType)
        and name not in _INHERITED
    }
