"""The joblib backend: each batch of calls is a task on the cluster.

Imports joblib only when it is registered, so that zactor does not need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zactor

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["register_ray", "register_zactor"]


def register_zactor() -> None:
    """Register the backend under the name "zactor".

    Raises:
        ImportError: joblib is not installed.
    """
    _register("zactor")


def register_ray() -> None:
    """Register the backend under the name "ray", for programs written for Ray.

    Raises:
        ImportError: joblib is not installed.
    """
    _register("ray")


def _register(name: str) -> None:
    try:
        from joblib.parallel import register_parallel_backend
    except ImportError as error:
        raise ImportError("the joblib backend needs joblib: pip install joblib") from error
    register_parallel_backend(name, _make_backend)


def _run(batch: Callable[[], Any]) -> Any:
    return batch()


def _make_backend(
    nesting_level: int | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Return a backend; `ray_remote_args` are the options of its tasks."""
    from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

    class Backend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc, unused-ignore]
        """Runs joblib's batches as tasks."""

        supports_retrieve_callback = True
        default_n_jobs = -1

        def effective_n_jobs(self, n_jobs: int | None) -> int:
            if n_jobs == 0:
                raise ValueError("n_jobs == 0 in Parallel has no meaning")
            if n_jobs is not None and n_jobs > 0:
                return n_jobs
            if not zactor.is_initialized():
                zactor.init()
            cpus = int(zactor.cluster_resources().get("CPU", 1))
            return max(1, cpus + 1 + (-1 if n_jobs is None else n_jobs))

        def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
            if not zactor.is_initialized():
                zactor.init()
            self.parallel = parallel
            self._task = zactor.remote(**{"num_cpus": 1, **(ray_remote_args or {})})(_run)
            self._unfinished: set[Any] = set()
            return self.effective_n_jobs(n_jobs)

        def submit(
            self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None
        ) -> Any:
            ref = self._task.remote(func)
            self._unfinished.add(ref)
            future = ref.future()
            future.add_done_callback(lambda _: self._unfinished.discard(ref))
            if callback is not None:
                future.add_done_callback(callback)
            return future

        apply_async = submit

        def retrieve_result_callback(self, out: Any) -> Any:
            return out.result()

        def terminate(self) -> None:
            self._unfinished = set()

        def abort_everything(self, ensure_ready: bool = True) -> None:
            for ref in list(self._unfinished):
                zactor.cancel(ref)
            self.terminate()
            if ensure_ready:
                self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)

    return Backend(nesting_level=nesting_level, **options)
