"""`ray.runtime_env`: runtime environments as objects. A plain dict serves as well."""

from __future__ import annotations

from typing import Any

from zactor.api.environments import check_environment

__all__ = ["RuntimeEnv", "RuntimeEnvConfig"]


class RuntimeEnv(dict[str, Any]):
    """A runtime environment: a dict whose fields are checked when it is made.

    Raises:
        TypeError: A value is of the wrong type.
        ValueError: A field is one that zactor does not support, like `pip`.
    """

    def __init__(self, *, _validate: bool = True, **fields: Any) -> None:
        super().__init__({name: value for name, value in fields.items() if value is not None})
        if _validate:
            check_environment(self)

    def env_vars(self) -> dict[str, str]:
        """Return the variables of the worker processes."""
        return dict(self.get("env_vars") or {})

    def working_dir(self) -> str | None:
        """Return the directory the workers run in."""
        return self.get("working_dir")

    def py_modules(self) -> list[Any]:
        """Return the packages and modules that workers can import."""
        return list(self.get("py_modules") or ())

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict."""
        return dict(self)


class RuntimeEnvConfig(dict[str, Any]):
    """What `runtime_env["config"]` may be; of no effect, since nothing is built."""

    def __init__(self, setup_timeout_seconds: int = 600, eager_install: bool = True) -> None:  # noqa: FBT001, FBT002
        super().__init__(
            setup_timeout_seconds=setup_timeout_seconds, eager_install=eager_install
        )
