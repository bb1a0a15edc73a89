"""The object store when it is small: what is held can be more than it holds (2.3)."""

from tests.parity.table import Table

table = Table("2.3 Little room")

# ruff: noqa: F821 - `say` is the script's.


@table.script(
    "Values put and held by reference go to disk, and come back as they were, to tasks as well.",
    prints="True\nTrue",
    needs="numpy",
)
def more_references_than_room(ray):
    import numpy as np

    ray.init(num_cpus=1, object_store_memory=80 << 20, include_dashboard=False)

    @ray.remote
    def first(array):
        return int(array[0])

    refs = [ray.put(np.full(10 << 20, number, dtype=np.uint8)) for number in range(16)]
    say(all((ray.get(ref) == number).all() for number, ref in enumerate(refs)))
    say(ray.get([first.remote(ref) for ref in refs]) == list(range(16)))


@table.script(
    "Values got and held can be more than the store holds: what is on disk is read there.",
    prints="True",
    needs="numpy",
)
def more_views_than_room(ray):
    import numpy as np

    ray.init(num_cpus=1, object_store_memory=80 << 20, include_dashboard=False)
    refs = [ray.put(np.full(10 << 20, number, dtype=np.uint8)) for number in range(16)]
    held = [ray.get(ref) for ref in refs]
    say([int(array[-1]) for array in held] == list(range(16)))


@table.script(
    "Values that are dropped make room, whoever put them.", prints="True", needs="numpy"
)
def dropped_values_make_room(ray):
    import numpy as np

    ray.init(num_cpus=1, object_store_memory=80 << 20, include_dashboard=False)

    @ray.remote
    def make(number):
        return np.full(30 << 20, number, dtype=np.uint8)

    right = True
    for number in range(20):
        made, put = make.remote(number), ray.put(np.full(30 << 20, number, dtype=np.uint8))
        right &= ray.get(made)[0] == ray.get(put)[0] == number
    say(bool(right))


test_objects_in_little_room = table.test()
