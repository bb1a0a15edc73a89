"""`util.metrics`: what they accept; expectations are those of `ray.util.metrics`."""

import importlib
import pickle

from tests.parity.table import Table, error_of

table = Table("2.10 metrics")


def metrics(ray):
    return importlib.import_module(f"{ray.__name__}.util.metrics")


@table.row("A counter grows.", gives=None)
def a_counter(ray):
    counter = metrics(ray).Counter("parity_calls", "Calls.", ("route",))
    counter.inc(1.0, {"route": "a"})
    return counter.inc(2, tags={"route": "a"})


@table.row("A counter's growth is positive.", gives=["ValueError", "ValueError", "TypeError"])
def a_counter_does_not_shrink(ray):
    counter = metrics(ray).Counter("parity_calls_2")
    return [error_of(lambda v=v: counter.inc(v)) for v in (0, -1, "1")]


@table.row("A gauge is set.", gives=None)
def a_gauge(ray):
    gauge = metrics(ray).Gauge("parity_level", tag_keys=("room",))
    gauge.set_default_tags({"room": "a"})
    return gauge.set(5)


@table.row("A gauge takes numbers.", gives="TypeError")
def a_gauge_takes_numbers(ray):
    gauge = metrics(ray).Gauge("parity_level_2")
    return error_of(lambda: gauge.set("high"))


@table.row("A histogram observes.", gives=None)
def a_histogram(ray):
    histogram = metrics(ray).Histogram("parity_latency", boundaries=[0.1, 1.0])
    return histogram.observe(0.5)


@table.row("A histogram needs boundaries above zero.", gives=["ValueError"] * 2)
def boundaries_of_a_histogram(ray):
    kind = metrics(ray).Histogram
    return [
        error_of(lambda b=b: kind("parity_latency_2", boundaries=b)) for b in (None, [0, 1])
    ]


@table.row("An empty name: ValueError.", raises="ValueError")
def an_empty_name(ray):
    metrics(ray).Counter("")


@table.row(
    "A name Prometheus does not take: a warning, and nothing is recorded.", gives=[1, None]
)
def a_bad_name(ray):
    import warnings

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        counter = metrics(ray).Counter("with space")
    return [len(seen), counter.inc()]


@table.row("tag_keys is a tuple of strings.", gives=["TypeError"] * 2)
def tag_keys_are_checked(ray):
    kind = metrics(ray).Counter
    return [error_of(lambda k=k: kind("parity_tags", tag_keys=k)) for k in ("a", (1,))]


@table.row("Tags: unknown and missing keys: ValueError.", gives=["ValueError"] * 2)
def tags_are_checked(ray):
    counter = metrics(ray).Counter("parity_calls_3", tag_keys=("route",))
    return [
        error_of(lambda: counter.inc(1, {"rout": "a"})),
        error_of(lambda: counter.inc(1)),
    ]


@table.row("Tags: values are strings.", gives="TypeError")
def values_of_tags_are_checked(ray):
    counter = metrics(ray).Counter("parity_calls_4", tag_keys=("route",))
    return error_of(lambda: counter.inc(1, {"route": 1}))


@table.row("info tells name, description, keys and default tags.", gives=True)
def info(ray):
    counter = metrics(ray).Counter("parity_calls_5", "Calls.", ("route",))
    counter.set_default_tags({"route": "a"})
    return counter.info == {
        "name": "parity_calls_5",
        "description": "Calls.",
        "tag_keys": ("route",),
        "default_tags": {"route": "a"},
    }


@table.row("A metric is used in a task.", gives=1)
def a_metric_in_a_task(ray):
    counter = metrics(ray).Counter("parity_calls_6")

    @ray.remote
    def f():
        counter.inc()
        return 1

    return ray.get(f.remote())


@table.row("A metric pickles by what it was made of.", gives=True, only="zactor")
def a_metric_pickles(ray):
    histogram = metrics(ray).Histogram("parity_latency_3", "L.", [1.0, 2.0], ("a",))
    return pickle.loads(pickle.dumps(histogram)).info == histogram.info


@table.row(
    "snapshot() reads what this process recorded.", gives=(3.0, ([1, 1, 0], 1.5)), only="zactor"
)
def what_was_recorded(ray):
    module = metrics(ray)
    counter = module.Counter("parity_read", tag_keys=("a",))
    counter.inc(1, {"a": "x"})
    counter.inc(2, {"a": "x"})
    histogram = module.Histogram("parity_read_h", boundaries=[1.0, 2.0])
    histogram.observe(0.5)
    histogram.observe(1.0)
    values = module.snapshot()
    counts, total = values["parity_read_h"][()]
    assert sum(counts) == 2
    return values["parity_read"][("a", "x"),], ([1, 1, 0], total)


test_metrics = table.test()
