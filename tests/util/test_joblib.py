"""The joblib backend."""

import importlib
import os

from tests.parity.table import SUBJECT, Table

table = Table("2.10 joblib")
NAME = "ray" if SUBJECT == "ray" else "zactor"


def parallel(ray, *args, **kwargs):
    import joblib

    getattr(importlib.import_module(f"{ray.__name__}.util.joblib"), f"register_{NAME}")()
    with joblib.parallel_config(backend=NAME, n_jobs=kwargs.pop("n_jobs", 2)):
        return joblib.Parallel(**kwargs)(*args)


@table.row("Parallel gives the results in order.", gives=[0, 1, 4, 9], needs="joblib")
def results_in_order(ray):
    import joblib

    return parallel(ray, (joblib.delayed(pow)(i, 2) for i in range(4)))


@table.row("Calls run in other processes.", gives=True, needs="joblib")
def calls_run_elsewhere(ray):
    import joblib

    return os.getpid() not in parallel(ray, (joblib.delayed(os.getpid)() for _ in range(4)))


@table.row("n_jobs=-1: as many as there are processors.", gives=list(range(20)), needs="joblib")
def all_processors(ray):
    import joblib

    return parallel(ray, (joblib.delayed(int)(i) for i in range(20)), n_jobs=-1)


@table.row("An exception of a call is raised.", raises="ZeroDivisionError", needs="joblib")
def an_exception_is_raised(ray):
    import joblib

    parallel(ray, (joblib.delayed(divmod)(1, i) for i in (1, 0)))


@table.row("register_ray gives the backend Ray's name.", gives=[1, 2], needs="joblib")
def rays_name_of_the_backend(ray):
    import joblib

    importlib.import_module(f"{ray.__name__}.util.joblib").register_ray()
    with joblib.parallel_config(backend="ray", n_jobs=2):
        return joblib.Parallel()(joblib.delayed(abs)(-i) for i in (1, 2))


@table.row("A generator of results.", gives=[0, 1, 2], needs="joblib", only="zactor")
def a_generator_of_results(ray):
    import joblib

    return list(
        parallel(ray, (joblib.delayed(int)(i) for i in range(3)), return_as="generator")
    )


test_joblib = table.test()
