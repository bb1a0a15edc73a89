"""Runtime environments: what `runtime_env` may say, made ready for the node that builds it.

    env_vars      variables of the worker processes
    working_dir   a directory: the workers' current directory, and first on their `sys.path`
    py_modules    packages and modules, as paths or imported modules, that workers can import
    preload       modules that are imported before workers are forked

Directories are used where they are, so every node must have them; nothing is copied. A change to a file in
them makes a new environment: workers that start later import what is there then. The environment of a
task or actor adds to that of its job: variables one by one, everything else as a whole.
"""

from __future__ import annotations

import os
import time
import warnings
from typing import Any

from zactor.exceptions import RuntimeEnvSetupError

_KNOWN = {"env_vars", "working_dir", "py_modules", "preload", "excludes", "config"}
_UNSUPPORTED = {
    "pip", "uv", "conda", "container", "image_uri", "nsight", "py_executable",
    "worker_process_setup_hook", "mpi", "java_jars",
}  # fmt: skip
MOST_FILES = 20_000
SEEN_SECONDS = 1.0  # how long a directory is taken to be as it was

_seen: dict[str, tuple[float, str]] = {}


def check_environment(env: Any) -> dict[str, Any]:
    """Return a runtime environment in plain values.

    Raises:
        TypeError: A value is of the wrong type.
        ValueError: A key is not supported.
    """
    if env is None:
        return {}
    if not isinstance(env, dict):
        raise TypeError(f"runtime_env must be a dict, not {type(env)}")
    for name in env:
        if name in _UNSUPPORTED:
            raise ValueError(
                f"runtime_env[{name!r}] is not supported: zactor builds no environments. Install what "
                "is needed on every node, or ship modules with py_modules."
            )
        if name not in _KNOWN:
            # As Ray does: a program may name what only another system knows.
            warnings.warn(
                f"runtime_env has no field {name!r} and ignores it; it has {sorted(_KNOWN)}",
                stacklevel=4,
            )
    found: dict[str, Any] = {}
    if env.get("env_vars"):
        found["env_vars"] = _variables(env["env_vars"])
    if env.get("working_dir"):
        found["working_dir"] = _path(env["working_dir"], "working_dir")
    if env.get("py_modules"):
        if not isinstance(env["py_modules"], list | tuple):
            raise TypeError(
                f"runtime_env['py_modules'] must be a list, not {type(env['py_modules'])}"
            )
        found["py_modules"] = [_module_path(each) for each in env["py_modules"]]
    if env.get("preload"):
        preload = env["preload"]
        if not isinstance(preload, list | tuple) or not all(
            isinstance(each, str) for each in preload
        ):
            raise TypeError(
                f"runtime_env['preload'] must be a list of module names, not {preload!r}"
            )
        found["preload"] = list(preload)
    return found


def _variables(variables: Any) -> dict[str, str]:
    if not isinstance(variables, dict) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in variables.items()
    ):
        raise TypeError(
            f"runtime_env['env_vars'] must be a dict of str to str, not {variables!r}"
        )
    return dict(variables)


def _path(path: Any, what: str) -> str:
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    if not isinstance(path, str):
        raise TypeError(f"runtime_env[{what!r}] must be a path, not {type(path)}")
    if "://" in path:
        raise ValueError(f"runtime_env[{what!r}] must be a local path, not {path!r}")
    return os.path.abspath(os.path.expanduser(path))


def _module_path(module: Any) -> str:
    """Return where a package or module lies: what is added to `sys.path` follows from that."""
    if not isinstance(module, str | os.PathLike):
        places = list(getattr(module, "__path__", ())) or [getattr(module, "__file__", None)]
        if not places[0]:
            raise TypeError(
                f"runtime_env['py_modules'] takes paths and modules, not {module!r}"
            )
        module = places[0]
    return _path(module, "py_modules")


def merged(job: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return a job's environment with that of a task or actor on top."""
    if not own:
        return job
    both = {**job, **own}
    if "env_vars" in job and "env_vars" in own:
        both["env_vars"] = {**job["env_vars"], **own["env_vars"]}
    return both


def for_node(env: dict[str, Any]) -> dict[str, Any]:
    """Return an environment as nodes take it: search paths, and a mark that changes with the files."""
    modules = env.get("py_modules") or ()
    directory = env.get("working_dir")
    if not modules and not directory:
        return env
    marks = [_mark(path) for path in (*modules, *([directory] if directory else ()))]
    made = {**env, "mark": "".join(marks)}
    if modules:
        made["search_path"] = list(dict.fromkeys(_search_path(path) for path in modules))
    return made


def _search_path(path: str) -> str:
    is_archive = os.path.isfile(path) and not path.endswith((".py", ".so"))
    return path if is_archive else os.path.dirname(path)


def _mark(path: str) -> str:
    """Return what is different if a file in a directory is."""
    now = time.monotonic()
    when, mark = _seen.get(path, (0.0, ""))
    if mark and now - when < SEEN_SECONDS:
        return mark
    if not os.path.exists(path):
        raise RuntimeEnvSetupError(f"{path!r} of the runtime environment does not exist")
    import hashlib

    digest = hashlib.blake2b(digest_size=8)
    count = 0
    for top, directories, files in os.walk(path) if os.path.isdir(path) else [(path, [], [""])]:
        directories[:] = sorted(d for d in directories if d not in ("__pycache__", ".git"))
        for name in sorted(files):
            file = os.path.join(top, name) if name else top
            try:
                at = os.stat(file)
            except OSError:
                continue
            digest.update(
                f"{file}\0{at.st_mtime_ns}\0{at.st_size}\n".encode("utf-8", "replace")
            )
            count += 1
            if count == MOST_FILES:
                break
        if count == MOST_FILES:
            break
    mark = digest.hexdigest()
    _seen[path] = (now, mark)
    return mark
