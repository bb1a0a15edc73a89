"""What options accept and refuse, how they merge, and what they demand of a node."""

import dataclasses
import math
import re
from typing import Any

import pytest

from zactor.options import (
    ACTOR_OPTIONS,
    CALL_OPTIONS,
    METHOD_OPTIONS,
    TASK_OPTIONS,
    ActorOptions,
    DoesNotExist,
    Exists,
    In,
    MethodOptions,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
    TaskOptions,
    check_for_generator,
    check_quantity,
)

NODE = "ab" * 12


class Group:
    bundle_specs = ({"CPU": 1},)


# Refused by tasks and actors alike: option, value, error, distinguishing words.
BAD_COMMON = [
    ("no_such", 1, ValueError, "Invalid option keyword no_such"),
    *[
        (name, value, error, words)
        for name in ("num_cpus", "num_gpus", "memory")
        for value, error, words in [
            ("1", TypeError, f"The type of keyword '{name}' must be"),
            ([1], TypeError, "must be"),
            (-1, ValueError, f"The quantity of resource {name} cannot be negative"),
            (-0.5, ValueError, "cannot be negative"),
            (0.00009, ValueError, "cannot go beyond 0.0001"),
            (math.nan, ValueError, "finite"),
            (math.inf, ValueError, "finite"),
        ]
    ],
    ("num_gpus", 1.5, ValueError, "whole numbers"),
    ("object_store_memory", -1, ValueError, "object_store_memory"),
    ("object_store_memory", 1.5, TypeError, "object_store_memory"),
    ("resources", 1, TypeError, "resources"),
    ("resources", [("x", 1)], TypeError, "resources"),
    (
        "resources",
        {"CPU": 1},
        ValueError,
        "Use the 'num_cpus' and 'num_gpus' keyword instead of",
    ),
    (
        "resources",
        {"GPU": 1},
        ValueError,
        "Use the 'num_cpus' and 'num_gpus' keyword instead of",
    ),
    ("resources", {"memory": 1}, ValueError, "memory"),
    ("resources", {"x": "1"}, TypeError, "resource x"),
    ("resources", {"x": None}, TypeError, "resource x"),
    ("resources", {1: 1}, TypeError, "must be strings"),
    ("resources", {"x": -1}, ValueError, "The quantity of resource x cannot be negative"),
    ("resources", {"x": 0.00001}, ValueError, "cannot go beyond 0.0001"),
    ("resources", {"x": math.nan}, ValueError, "finite"),
    ("name", 1, TypeError, "name"),
    ("accelerator_type", 1, TypeError, "accelerator_type"),
    ("runtime_env", 1, TypeError, "runtime_env"),
    ("runtime_env", {"env_vars": 1}, TypeError, "env_vars"),
    ("runtime_env", {"env_vars": {"A": 1}}, TypeError, "env_vars"),
    ("runtime_env", {"env_vars": {1: "A"}}, TypeError, "env_vars"),
    ("scheduling_strategy", 1, TypeError, "scheduling_strategy"),
    ("scheduling_strategy", "NO_SUCH", ValueError, "scheduling_strategy"),
    ("enable_task_events", None, TypeError, "enable_task_events"),
    ("enable_task_events", 1, TypeError, "enable_task_events"),
    ("label_selector", 1, TypeError, "label_selector"),
    ("label_selector", {"k": 1}, TypeError, "label selector"),
    ("label_selector", {1: "v"}, TypeError, "label selector"),
    ("label_selector", {"-k": "v"}, ValueError, "Invalid label key name"),
    ("label_selector", {"k" * 64: "v"}, ValueError, "Invalid label key name"),
    ("label_selector", {"a..b/k": "v"}, ValueError, "Invalid label key prefix"),
    ("label_selector", {"k": "!!v"}, ValueError, "Invalid label selector value"),
    ("label_selector", {"k": "in()"}, ValueError, "Invalid label selector value"),
    ("label_selector", {"k": "in(a"}, ValueError, "Invalid label selector value"),
    ("label_selector", {"k": "v" * 64}, ValueError, "Invalid label selector value"),
    ("fallback_strategy", {}, TypeError, "fallback_strategy"),
    ("fallback_strategy", [1], ValueError, "must be a dictionary"),
    ("fallback_strategy", [{}], ValueError, "Empty dictionary"),
    ("fallback_strategy", [{"x": 1}], ValueError, "Unsupported option found: 'x'"),
    ("fallback_strategy", [{"label_selector": 1}], ValueError, "must be a dictionary"),
    ("fallback_strategy", [{"label_selector": {"k": "!!"}}], ValueError, "Invalid label"),
    ("placement_group", 1, TypeError, "placement_group"),
    ("placement_group_bundle_index", "1", TypeError, "placement_group_bundle_index"),
    ("_labels", 1, TypeError, "_labels"),
]

BAD_RETRIES = [
    (name, value, error, words)
    for name in ("max_retries", "max_restarts", "max_task_retries")
    for value, error, words in [
        (-2, ValueError, f"The keyword '{name}' only accepts"),
        ("1", TypeError, f"'{name}'"),
        (1.0, TypeError, f"'{name}'"),
    ]
]

BAD_RETURNS = [
    ("num_returns", -1, ValueError, "num_returns must be >= 0"),
    ("num_returns", "many", TypeError, "num_returns"),
    ("num_returns", 1.5, TypeError, "num_returns"),
    ("retry_exceptions", 1, TypeError, "retry_exceptions"),
    ("retry_exceptions", [1], ValueError, "either a boolean or a list of exceptions"),
    (
        "retry_exceptions",
        ["ValueError"],
        ValueError,
        "either a boolean or a list of exceptions",
    ),
    ("retry_exceptions", [int], ValueError, "either a boolean or a list of exceptions"),
    ("retry_exceptions", [BaseException], ValueError, "either a boolean or a list of"),
    ("_generator_backpressure_num_objects", 0, ValueError, "not allowed"),
    ("_generator_backpressure_num_objects", -2, ValueError, "not allowed"),
    ("_num_objects_per_yield", 0, ValueError, "_num_objects_per_yield"),
    ("timeout", 0, ValueError, "timeout"),
    ("timeout", -1.0, ValueError, "timeout"),
    ("timeout", math.nan, ValueError, "timeout"),
    ("timeout", math.inf, ValueError, "timeout"),
    ("timeout", "1", TypeError, "timeout"),
]

BAD_TASK = [
    *BAD_COMMON,
    *BAD_RETURNS,
    *[row for row in BAD_RETRIES if row[0] == "max_retries"],
    ("object_store_memory", 1, ValueError, "not implemented for tasks"),
    ("max_calls", -1, ValueError, "The keyword 'max_calls' only accepts"),
    ("max_calls", 1.5, TypeError, "max_calls"),
    ("retry_exceptions", None, TypeError, "retry_exceptions"),
    *[
        (name, value, ValueError, f"Invalid option keyword {name} for remote functions")
        for name, value in [
            ("max_restarts", 1), ("max_concurrency", 1), ("lifetime", "detached"),
            ("max_task_retries", 1), ("max_pending_calls", 1), ("namespace", "x"),
            ("get_if_exists", True), ("isolation", "shared"), ("on_full", "wait"),
            ("concurrency_groups", {}),
        ]
    ],
]  # fmt: skip

BAD_ACTOR = [
    *BAD_COMMON,
    *[row for row in BAD_RETRIES if row[0] != "max_retries"],
    ("name", "", ValueError, "empty string"),
    ("namespace", "", ValueError, '"" is not a valid namespace'),
    ("namespace", 1, TypeError, "namespace"),
    ("lifetime", "forever", ValueError, "'detached', 'non_detached' and 'None'"),
    ("lifetime", 1, TypeError, "lifetime"),
    ("max_concurrency", 0, ValueError, "max_concurrency"),
    ("max_concurrency", -1, ValueError, "max_concurrency"),
    ("max_concurrency", "2", TypeError, "max_concurrency"),
    ("max_pending_calls", 0, ValueError, "max_pending_calls"),
    ("max_pending_calls", -2, ValueError, "max_pending_calls"),
    ("max_pending_calls", "1", TypeError, "max_pending_calls"),
    ("get_if_exists", 1, TypeError, "get_if_exists"),
    ("get_if_exists", None, TypeError, "get_if_exists"),
    ("get_if_exists", True, ValueError, "must be specified to use `get_if_exists`"),
    ("allow_out_of_order_execution", 1, TypeError, "allow_out_of_order_execution"),
    ("concurrency_groups", 1, TypeError, "concurrency_groups"),
    ("concurrency_groups", [], TypeError, "concurrency_groups"),
    ("concurrency_groups", {"io": 0}, ValueError, "'io'"),
    ("concurrency_groups", {"io": 1.5}, TypeError, "'io'"),
    ("concurrency_groups", {1: 1}, TypeError, "concurrency_groups"),
    ("isolation", "thread", ValueError, "isolation"),
    ("isolation", 1, TypeError, "isolation"),
    ("on_full", "drop", ValueError, "on_full"),
    ("on_full", True, TypeError, "on_full"),
    ("enable_tensor_transport", 1, TypeError, "enable_tensor_transport"),
    ("_actor_generator_backpressure_num_objects", 0, ValueError, "_actor_generator"),
    *[
        (name, value, ValueError, f"Invalid option keyword {name} for actors")
        for name, value in [
            ("num_returns", 1), ("max_calls", 1), ("max_retries", 1), ("retry_exceptions", True),
            ("timeout", 1), ("concurrency_group", "io"), ("durable", True),
        ]
    ],
]  # fmt: skip

BAD_METHOD = [
    *BAD_RETURNS,
    *[row for row in BAD_RETRIES if row[0] == "max_task_retries"],
    ("no_such", 1, ValueError, "Invalid option keyword no_such"),
    ("num_cpus", 1, ValueError, "Invalid option keyword num_cpus"),
    ("name", "x", ValueError, "Invalid option keyword name"),
    ("concurrency_group", 1, TypeError, "concurrency_group"),
    ("enable_task_events", 1, TypeError, "enable_task_events"),
    ("tensor_transport", 1, TypeError, "tensor_transport"),
    ("on_full", "drop", ValueError, "on_full"),
]

BAD = [
    (record, *row)
    for record, rows in [
        (TaskOptions, BAD_TASK), (ActorOptions, BAD_ACTOR), (MethodOptions, BAD_METHOD)
    ]
    for row in rows
]  # fmt: skip


@pytest.mark.parametrize(("record", "name", "value", "error", "words"), BAD)
def test_a_bad_option_is_refused(record, name, value, error, words):  # O1
    with pytest.raises(error, match=re.escape(words)) as caught:
        record.of({name: value})
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("record", "name", "value", "error", "words"),
    [
        row
        for row in BAD
        if row[1] not in ("no_such", "num_cpus", "name") or row[0] is TaskOptions
    ],
)
def test_options_refuse_what_the_decorator_refuses(record, name, value, error, words):  # O1
    if name in record._decorator_only:
        error, words = ValueError, f"Setting '{name}' is not supported in '.options()'"
    with pytest.raises(error, match=re.escape(words)):
        record().merged(**{name: value})


GOOD_COMMON: dict[str, list[Any]] = {
    "num_cpus": [None, 0, 1, 0.5, 0.0001, 3.7, True],
    "num_gpus": [None, 0, 0.25, 1, 2, 2.0],
    "memory": [None, 0, 1, 1e9],
    "resources": [None, {}, {"x": 1}, {"x": 0.0001, "y": 2.5}],
    "accelerator_type": [None, "A100"],
    "label_selector": [
        None, {}, {"k": "v"}, {"a.b/k": "!v"}, {"k": "in(a,b)"}, {"k": "!in(a, b)"}, {"k": ""},
    ],
    "fallback_strategy": [None, [], [{"label_selector": {"k": "v"}}]],
    "runtime_env": [None, {}, {"env_vars": {"A": "b"}}, {"no_such_field": 1}],
    "scheduling_strategy": [
        None, "DEFAULT", "SPREAD", PlacementGroupSchedulingStrategy(Group()),
        NodeAffinitySchedulingStrategy(NODE, soft=True),
        NodeLabelSchedulingStrategy({"k": Exists()}),
    ],
    "enable_task_events": [True, False],
    "placement_group": [None, "default", Group()],
    "placement_group_bundle_index": [-1],
    "placement_group_capture_child_tasks": [None, True],
    "_labels": [None, {"a": "b"}],
}  # fmt: skip

GOOD_RETURNS: dict[str, list[Any]] = {
    "num_returns": [None, 0, 1, 3, "streaming", "dynamic"],
    "retry_exceptions": [False, True, [], [ValueError], (ValueError, KeyError)],
    "timeout": [None, 1, 0.5],
    "_generator_backpressure_num_objects": [None, -1, 1],
    "_num_objects_per_yield": [None, 1],
}

GOOD: dict[Any, dict[str, list[Any]]] = {
    TaskOptions: GOOD_COMMON | GOOD_RETURNS | {
        "max_calls": [None, 0, 1], "max_retries": [None, -1, 0, 9], "name": [None, "", "x"],
        "object_store_memory": [None],
    },
    ActorOptions: GOOD_COMMON | {
        "name": [None, "x"], "namespace": [None, "x"], "object_store_memory": [None, 10],
        "lifetime": [None, "detached", "non_detached"], "max_restarts": [None, -1, 0, 2],
        "max_task_retries": [None, -1, 0, 2], "max_concurrency": [None, 1, 8],
        "max_pending_calls": [None, -1, 1], "concurrency_groups": [None, {}, {"io": 2}],
        "allow_out_of_order_execution": [None, True, False], "get_if_exists": [False],
        "isolation": [None, "process", "shared"], "on_full": [None, "raise", "wait"],
        "enable_tensor_transport": [None, False],
        "_actor_generator_backpressure_num_objects": [None, -1, 4],
    },
    MethodOptions: GOOD_RETURNS | {
        "max_task_retries": [None, -1, 0, 2], "concurrency_group": [None, "io"],
        "enable_task_events": [None, True], "tensor_transport": [None, "nccl"],
        "on_full": [None, "raise", "wait"],
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("record", "name", "value"),
    [
        (r, name, v)
        for r, table in GOOD.items()
        for name, values in table.items()
        for v in values
    ],
)
def test_a_good_option_is_taken(record, name, value):
    made = record.of({name: value})
    if not name.startswith(("_", "placement_group", "label_selector")):
        expected = tuple(value) if isinstance(value, list) and name[0] == "r" else value
        assert getattr(made, name) == expected
        assert name in made.given


@pytest.mark.parametrize(
    ("record", "table"),
    [
        (TaskOptions, TASK_OPTIONS),
        (ActorOptions, ACTOR_OPTIONS),
        (MethodOptions, METHOD_OPTIONS),
    ],
)
def test_the_tables_and_these_tests_agree(record, table):
    assert set(GOOD[record]) == set(table)


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TaskOptions.of(num_cpus=1).num_cpus = 2


def test_merging_changes_what_is_named_and_nothing_else():  # O2
    first = TaskOptions.of(num_cpus=2, max_retries=5, num_returns=2)
    second = first.merged(num_returns=3, name="x")
    assert (first.num_returns, first.name) == (2, None)
    assert second == dataclasses.replace(
        first, num_returns=3, name="x", given=first.given | {"num_returns", "name"}
    )


def test_an_option_can_be_set_back_to_none():
    assert TaskOptions.of(num_cpus=2).merged(num_cpus=None).demand() == {"CPU": 1}


@pytest.mark.parametrize(
    ("options", "place", "run"),
    [
        ({}, {"CPU": 1}, {}),
        ({"memory": 5.5}, {"CPU": 1, "memory": 5}, {"memory": 5}),
        ({"num_cpus": 0}, {"CPU": 0}, {"CPU": 0}),
        ({"num_cpus": 2}, {"CPU": 2}, {"CPU": 2}),
        ({"num_gpus": 1}, {"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 1}),
        ({"resources": {"x": 2}}, {"CPU": 1, "x": 2}, {"CPU": 1, "x": 2}),
        ({"num_cpus": 0, "resources": {"x": 2}}, {"CPU": 0, "x": 2}, {"CPU": 0, "x": 2}),
        (
            {"accelerator_type": "T4"},
            {"CPU": 1, "accelerator_type:T4": 0.001},
            {"CPU": 1, "accelerator_type:T4": 0.001},
        ),
    ],
)
def test_actors_need_one_cpu_to_be_placed_and_hold_all_or_nothing(options, place, run):
    record = ActorOptions.of(options)
    assert record.demand() == place
    assert record.running_demand() == run


@pytest.mark.parametrize(
    ("options", "demand"),
    [
        ({}, {"CPU": 1}),
        ({"num_cpus": 0}, {"CPU": 0}),
        ({"num_gpus": 0.5}, {"CPU": 1, "GPU": 0.5}),
        ({"memory": 7, "resources": {"x": 1}}, {"CPU": 1, "memory": 7, "x": 1}),
    ],
)
def test_tasks_hold_one_cpu_unless_told_otherwise(options, demand):
    assert TaskOptions.of(options).demand() == demand


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({}, 0),
        ({"num_gpus": 1}, 1),
        ({"num_gpus": 1, "max_calls": 0}, 0),
        ({"max_calls": 3}, 3),
    ],
)
def test_gpu_tasks_take_a_new_worker_each_time(options, calls):
    assert TaskOptions.of(options).calls_per_worker() == calls


def test_retries_have_a_default_that_can_be_configured():
    assert TaskOptions().retries() == 3
    assert TaskOptions().retries(7) == 7
    assert TaskOptions.of(max_retries=0).retries(7) == 0


@pytest.mark.parametrize(
    ("options", "is_async", "concurrency", "unordered"),
    [
        ({}, False, 1, False),
        ({}, True, 1000, True),
        ({"max_concurrency": 4}, False, 4, True),
        ({"max_concurrency": 4}, True, 4, True),
        ({"max_concurrency": 1}, False, 1, False),
        ({"allow_out_of_order_execution": True}, False, 1, True),
        ({"allow_out_of_order_execution": False}, False, 1, False),
    ],
)
def test_concurrency_follows_from_the_class(options, is_async, concurrency, unordered):
    resolved = ActorOptions.of(options).resolved(is_async=is_async)
    assert resolved.max_concurrency == concurrency
    assert resolved.allow_out_of_order_execution is unordered


def test_resolving_leaves_no_none_where_there_is_a_default():
    nones = dict.fromkeys(
        ["max_restarts", "max_task_retries", "max_pending_calls", "isolation"]
    )
    resolved = ActorOptions.of(nones).resolved(is_async=False)
    assert (resolved.max_restarts, resolved.max_task_retries) == (0, 0)
    assert (resolved.max_pending_calls, resolved.concurrency_groups) == (-1, {})
    assert (resolved.isolation, resolved.on_full) == ("process", "raise")


@pytest.mark.parametrize(
    ("options", "is_async", "words"),
    [
        ({"allow_out_of_order_execution": False}, True, "async actors"),
        (
            {"allow_out_of_order_execution": False, "max_concurrency": 2},
            False,
            "multi-threaded",
        ),
        ({"isolation": "shared", "num_gpus": 1}, False, "shared"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(options, is_async, words):
    with pytest.raises(ValueError, match=words):
        ActorOptions.of(options).resolved(is_async=is_async)


def test_get_if_exists_needs_a_name_wherever_it_comes_from():
    assert ActorOptions.of(name="x").merged(get_if_exists=True).get_if_exists
    with pytest.raises(ValueError, match="get_if_exists"):
        ActorOptions.of(name="x", get_if_exists=True).merged(name=None)


def test_only_detached_actors_are_detached():
    lifetimes = [None, "non_detached", "detached"]
    assert [ActorOptions.of(lifetime=x).is_detached() for x in lifetimes] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("of_class", "of_actor", "of_method", "of_call", "retries"),
    [
        ({}, {}, {}, {}, 0),
        ({"max_task_retries": 1}, {}, {}, {}, 1),
        ({"max_task_retries": 1}, {"max_task_retries": 2}, {}, {}, 2),
        ({"max_task_retries": 1}, {"max_task_retries": 2}, {"max_task_retries": 3}, {}, 3),
        ({"max_task_retries": 1}, {}, {"max_task_retries": 3}, {"max_task_retries": 4}, 4),
        ({"max_task_retries": 1}, {"max_task_retries": 0}, {}, {}, 0),
        ({"max_task_retries": 1}, {}, {"max_task_retries": 0}, {}, 0),
        ({}, {"max_task_retries": -1}, {"max_task_retries": 3}, {"max_task_retries": 0}, 0),
    ],
)
def test_retries_come_from_call_method_actor_class_in_this_order(
    of_class, of_actor, of_method, of_call, retries
):
    actor = ActorOptions.of(of_class).merged(**of_actor)
    call = MethodOptions.of(of_method).merged(**of_call)
    assert call.under(actor).max_task_retries == retries


def test_a_call_inherits_what_to_do_when_the_queue_is_full():
    actor = ActorOptions.of(on_full="wait")
    assert MethodOptions().under(actor).on_full == "wait"
    assert MethodOptions.of(on_full="raise").under(actor).on_full == "raise"
    assert MethodOptions().under(ActorOptions()).on_full == "raise"
    assert MethodOptions().under(ActorOptions()).retry_exceptions is False


def test_a_call_can_be_named():
    assert set(CALL_OPTIONS) == {*METHOD_OPTIONS, "name"}
    assert MethodOptions.of(num_returns=2).merged(name="x", num_returns=3).name == "x"


@pytest.mark.parametrize("name", ["no_such", "num_cpus"])
def test_an_unknown_option_of_a_call_is_a_type_error(name):
    with pytest.raises(TypeError, match=f"Invalid option keyword {name}"):
        MethodOptions().merged(**{name: 1})


@pytest.mark.parametrize("record", [TaskOptions, MethodOptions])
def test_objects_per_yield_is_for_the_decorator(record):
    assert record.of(_num_objects_per_yield=2).merged(_num_objects_per_yield=2)
    with pytest.raises(ValueError, match="cannot be overridden"):
        record().merged(_num_objects_per_yield=2)


def test_the_old_way_to_name_a_placement_group_still_works():
    group = Group()
    record = TaskOptions.of(
        placement_group=group, placement_group_bundle_index=2,
        placement_group_capture_child_tasks=True,
    )  # fmt: skip
    strategy = record.placement_group()
    assert strategy.placement_group is group
    assert strategy.placement_group_bundle_index == 2
    assert strategy.placement_group_capture_child_tasks is True
    assert record.strategy() is None
    with pytest.raises(ValueError, match="placement_group option is deprecated"):
        TaskOptions.of(placement_group=group, scheduling_strategy="SPREAD")


def test_label_selectors_lose_their_spaces():
    selector = {"a": "in(x, y)", "b": "!z"}
    assert TaskOptions.of(label_selector=selector).label_selector == {"a": "in(x,y)", "b": "!z"}
    assert selector["a"] == "in(x, y)"


# -- generators ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, 2])
@pytest.mark.parametrize("is_generator", [True, False])
def test_any_function_may_return_a_number_of_values(value, is_generator):
    check_for_generator(value, is_generator=is_generator)


def test_only_generators_stream():
    check_for_generator("streaming", is_generator=True)
    with pytest.raises(ValueError, match="can only be used with generator functions"):
        check_for_generator("streaming", is_generator=False)


def test_dynamic_is_deprecated():
    with pytest.warns(DeprecationWarning, match="dynamic"):
        check_for_generator("dynamic", is_generator=True)
    with (
        pytest.warns(DeprecationWarning),
        pytest.raises(ValueError, match="generator functions"),
    ):
        check_for_generator("dynamic", is_generator=False)


def test_quantities_are_checked_alone():
    assert check_quantity("x", 1.5) is None
    assert "negative" in (check_quantity("x", -1) or "")


WRONG_KIND: Any = ["k"]
WRONG_VALUE: Any = 1
WRONG_KEY: Any = {1: Exists()}
WRONG_MATCH: Any = {"k": "v"}

# -- strategies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NodeAffinitySchedulingStrategy("xyz", soft=False), "Invalid node_id 'xyz'"),
        (lambda: NodeAffinitySchedulingStrategy("", soft=False), "Invalid node_id ''"),
        (lambda: NodeAffinitySchedulingStrategy("abc", soft=False), "Invalid node_id 'abc'"),
        (
            lambda: NodeAffinitySchedulingStrategy(NODE, False, _spill_on_unavailable=True),
            "_spill_on_unavailable",
        ),
        (
            lambda: NodeAffinitySchedulingStrategy(NODE, True, _fail_on_unavailable=True),
            "_fail_on_unavailable",
        ),
        (lambda: NodeLabelSchedulingStrategy({}), "cannot both be empty"),
        (lambda: NodeLabelSchedulingStrategy(None, soft={}), "cannot both be empty"),
        (lambda: NodeLabelSchedulingStrategy(WRONG_KIND), "must be a map"),
        (lambda: NodeLabelSchedulingStrategy(WRONG_KEY), "must be of type str"),
        (lambda: NodeLabelSchedulingStrategy(WRONG_MATCH), "or `DoesNotExist`"),
        (lambda: In(), "non-empty tuple"),
        (lambda: NotIn("a", WRONG_VALUE), "position 1 for the NotIn operator must be str"),
    ],
)
def test_a_bad_strategy_is_refused(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


@pytest.mark.parametrize(
    ("strategy", "wire"),
    [
        (None, None),
        ("DEFAULT", "DEFAULT"),
        ("SPREAD", "SPREAD"),
        (PlacementGroupSchedulingStrategy(Group()), None),
        (
            NodeAffinitySchedulingStrategy(NODE, soft=True),
            {"kind": "node", "node": bytes.fromhex(NODE), "soft": True},
        ),
        (
            NodeAffinitySchedulingStrategy(bytes.fromhex(NODE), soft=False),
            {"kind": "node", "node": bytes.fromhex(NODE), "soft": False},
        ),
        (
            NodeLabelSchedulingStrategy(
                {"a": In("x", "y"), "b": Exists()}, soft={"c": NotIn("z"), "d": DoesNotExist()}
            ),
            {
                "kind": "labels",
                "hard": {"a": ["in", ["x", "y"]], "b": ["exists", []]},
                "soft": {"c": ["not_in", ["z"]], "d": ["does_not_exist", []]},
            },
        ),
    ],
)
def test_strategies_become_what_the_broker_reads(strategy, wire):
    assert TaskOptions.of(scheduling_strategy=strategy).strategy() == wire
