"""`init` and `shutdown`, and programs as a user runs them: in `__main__` (2.1)."""

from tests.parity.table import Table

table = Table("2.1 Process-level API")

# ruff: noqa: F821 - `say`, `sys`, `os` and `time` are the script's.


@table.script("is_initialized before, between and after.", prints="False True False")
def initialized_between_init_and_shutdown(ray):
    before = ray.is_initialized()
    ray.init(num_cpus=1, include_dashboard=False)
    between = ray.is_initialized()
    ray.shutdown()
    say(before, between, ray.is_initialized())


@table.script("Auto-init on the first .remote().", prints="3 True")
def the_first_call_initializes(ray):
    @ray.remote
    def f():
        return 3

    value = ray.get(f.remote())
    say(value, ray.is_initialized())


@table.script("Auto-init on the first put.", prints="[1]")
def the_first_put_initializes(ray):
    say(ray.get(ray.put([1])))


@table.script(
    "Second init: RuntimeError unless ignore_reinit_error; shutdown twice is fine; init again.",
    prints="RuntimeError\nTrue\nagain 2.0",
)
def a_second_init(ray):
    ray.init(num_cpus=1, include_dashboard=False)
    try:
        ray.init(num_cpus=1)
    except RuntimeError as error:
        say(type(error).__name__)
    ray.init(ignore_reinit_error=True)
    say(ray.is_initialized())
    ray.shutdown()
    ray.shutdown()
    ray.init(num_cpus=2, include_dashboard=False)
    say("again", ray.cluster_resources()["CPU"])


@table.script("Unknown keyword of init: RuntimeError.", prints="RuntimeError")
def an_unknown_keyword_of_init(ray):
    try:
        ray.init(no_such_keyword=1)
    except RuntimeError as error:
        say(type(error).__name__)


@table.script('address="auto": ConnectionError if there is none.', prints="ConnectionError")
def no_cluster_to_join(ray):
    os.environ.pop("RAY_ADDRESS", None)
    os.environ["RAY_TMPDIR"] = os.environ["ZACTOR_TMPDIR"] = os.path.dirname(__file__)
    try:
        ray.init(address="auto", _temp_dir=os.path.dirname(__file__))
    except ConnectionError as error:
        say(type(error).__name__)


@table.script(
    "RayContext: a context manager, dict-like, with address_info.", prints="True True\nFalse"
)
def the_context_of_init(ray):
    with ray.init(num_cpus=1, include_dashboard=False) as context:
        say(ray.is_initialized(), bool(context.address_info["node_id"] == context["node_id"]))
    say(ray.is_initialized())


@table.script(
    "Classes and functions of __main__.", prints="Point(x=2, y=3)\nOwn caught\n[1, 2]\nhelped 5"
)
def names_of_main(ray):
    import dataclasses

    @dataclasses.dataclass
    class Point:
        x: int
        y: int

    class Own(Exception):
        pass

    def helper(x):
        return f"helped {x}"

    LIMIT = 5

    @ray.remote
    def move(p):
        return Point(p.x + 1, p.y + 1)

    @ray.remote
    def bad():
        raise Own("x")

    @ray.remote
    class Counter:
        def __init__(self):
            self.value = 0

        def more(self):
            self.value += 1
            return self.value

        def help(self):
            return helper(LIMIT)

    ray.init(num_cpus=2, include_dashboard=False)
    say(ray.get(move.remote(Point(1, 2))))
    try:
        ray.get(bad.remote())
    except Own:
        say("Own caught")
    counter = Counter.remote()
    say(ray.get([counter.more.remote(), counter.more.remote()]))
    say(ray.get(counter.help.remote()))


@table.script("A module beside the script is importable in workers.", prints="beside")
def a_module_beside_the_script(ray):
    from pathlib import Path

    Path(__file__).with_name("neighbour.py").write_text("def f():\n    return 'beside'\n")
    sys.path.insert(0, os.path.dirname(__file__))
    import neighbour  # type: ignore[import-not-found]

    @ray.remote
    def f():
        return neighbour.f()

    ray.init(num_cpus=1, include_dashboard=False)
    say(ray.get(f.remote()))


@table.script(
    "Each job gets an anonymous namespace unless init(namespace=).", prints="True\nmine"
)
def namespaces_of_jobs(ray):
    ray.init(num_cpus=1, include_dashboard=False)
    say(len(ray.get_runtime_context().namespace) >= 32)
    ray.shutdown()
    ray.init(num_cpus=1, include_dashboard=False, namespace="mine")
    say(ray.get_runtime_context().namespace)


@table.script("Workers end with the driver's shutdown.", prints="True")
def workers_end_with_shutdown(ray):
    @ray.remote
    class A:
        def pid(self):
            return os.getpid()

    ray.init(num_cpus=2, include_dashboard=False)
    a = A.remote()
    pid = ray.get(a.pid.remote())
    ray.shutdown()
    end = time.monotonic() + 20
    while os.path.exists(f"/proc/{pid}/stat") and time.monotonic() < end:
        if open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.05)
    say(time.monotonic() < end)


@table.script("init(runtime_env=) reaches every task and actor.", prints="['x', 'x']")
def the_runtime_env_of_a_job(ray):
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"OF_THE_JOB": "x"}})

    @ray.remote
    def f():
        return os.environ.get("OF_THE_JOB")

    @ray.remote
    class A:
        def m(self):
            return os.environ.get("OF_THE_JOB")

    say(ray.get([f.remote(), A.remote().m.remote()]))


@table.script(
    "A handle of an ended session is refused; kill says ActorHandleNotFoundError.",
    prints="refused\nActorHandleNotFoundError",
)
def a_handle_of_an_ended_session(ray):
    @ray.remote
    class A:
        def m(self):
            return 1

    ray.init(num_cpus=1, include_dashboard=False)
    a = A.remote()
    ray.get(a.m.remote())
    ray.shutdown()
    ray.init(num_cpus=1, include_dashboard=False)
    try:
        ray.get(a.m.remote(), timeout=10)
    except Exception:
        say("refused")
    try:
        ray.kill(a)
    except ray.exceptions.ActorHandleNotFoundError as error:
        say(type(error).__name__)


@table.script("Output of a worker reaches the driver.", prints="True")
def output_of_a_worker(ray):
    import subprocess

    program = (
        "import time\n"
        f"import {ray.__name__} as ray\n"
        "ray.init(num_cpus=1, include_dashboard=False)\n"
        "@ray.remote\n"
        "def f():\n"
        "    print('a line of a worker')\n"
        "ray.get(f.remote())\n"
        "time.sleep(2)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    say("a line of a worker" in done.stdout + done.stderr)


@table.script(
    "Output is shown with who printed it: the function, the actor's class, or its repr.",
    prints="(reckon pid=N) in a task\n(Plain pid=N) in an actor\n(Bird#7 pid=N) with a repr",
)
def output_with_its_origin(ray):
    import re
    import subprocess

    program = (
        "import time\n"
        f"import {ray.__name__} as ray\n"
        "ray.init(num_cpus=1, include_dashboard=False)\n"
        "@ray.remote\n"
        "def reckon():\n"
        "    print('in a task')\n"
        "@ray.remote(num_cpus=0)\n"
        "class Plain:\n"
        "    def say(self, text):\n"
        "        print(text)\n"
        "class Bird:\n"
        "    def __repr__(self):\n"
        "        return 'Bird#7'\n"
        "    def say(self, text):\n"
        "        print(text)\n"
        "ray.get(reckon.remote())\n"
        "plain = Plain.remote()\n"
        "ray.get(plain.say.remote('in an actor'))\n"
        "bird = ray.remote(num_cpus=0)(Bird).remote()\n"
        "ray.get(bird.say.remote('with a repr'))\n"
        "time.sleep(2)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    for line in done.stdout.splitlines():
        plain = re.sub(r"\x1b\[\d*m", "", line)
        if " pid=" in plain:
            say(re.sub(r"pid=\d+", "pid=N", plain))


@table.script(
    "What fails and nobody asks for is shown all the same; what was asked for is not shown again.",
    prints="1 of a task\n1 of a constructor\n0 of what was asked for",
)
def errors_that_nobody_asks_for(ray):
    import subprocess

    program = (
        "import time\n"
        f"import {ray.__name__} as ray\n"
        "ray.init(num_cpus=1, include_dashboard=False)\n"
        "@ray.remote(max_retries=0)\n"
        "def fail(text):\n"
        "    raise ValueError(text)\n"
        "@ray.remote(num_cpus=0)\n"
        "class Bird:\n"
        "    def __init__(self):\n"
        "        raise ValueError('no bird')\n"
        "fail.remote('nobody' + ' asks')\n"
        "bird = Bird.remote()\n"
        "try:\n"
        "    ray.get(fail.remote('asked' + ' for'))\n"
        "except ValueError:\n"
        "    pass\n"
        "time.sleep(5)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    said = done.stderr
    say(said.count("ValueError: nobody asks"), "of a task")
    say(said.count("Exception raised in creation task"), "of a constructor")
    say(said.count("ValueError: asked for"), "of what was asked for")


@table.script(
    "runtime_env working_dir: files of it are at hand, modules importable.", prints="content 7"
)
def a_working_directory(ray):
    from pathlib import Path

    there = Path(__file__).parent / "working"
    there.mkdir()
    (there / "data.txt").write_text("content")
    (there / "module_of_it.py").write_text("SEVEN = 7\n")
    ray.init(num_cpus=1, include_dashboard=False, runtime_env={"working_dir": str(there)})

    @ray.remote
    def f():
        import module_of_it  # type: ignore[import-not-found]

        return open("data.txt").read(), module_of_it.SEVEN

    say(*ray.get(f.remote()))


@table.script("runtime_env py_modules: a package is importable in workers.", prints="packed")
def python_modules(ray):
    from pathlib import Path

    there = Path(__file__).parent / "elsewhere" / "packed_module"
    there.mkdir(parents=True)
    (there / "__init__.py").write_text("NAME = 'packed'\n")
    ray.init(num_cpus=1, include_dashboard=False, runtime_env={"py_modules": [str(there)]})

    @ray.remote
    def f():
        import packed_module  # type: ignore[import-not-found]

        return packed_module.NAME

    say(ray.get(f.remote()))


@table.script(
    "num_gpus: a task and an actor see in CUDA_VISIBLE_DEVICES the GPUs they were given.",
    prints="True True 2 [0, 1]",
)
def visible_gpus(ray):
    ray.init(num_cpus=2, num_gpus=2, include_dashboard=False)

    @ray.remote
    class A:
        def seen(self):
            return os.environ["CUDA_VISIBLE_DEVICES"], ray.get_gpu_ids()

    @ray.remote(num_gpus=1)
    def f():
        return os.environ["CUDA_VISIBLE_DEVICES"], ray.get_gpu_ids()

    def agree(seen, ids):
        return seen == ",".join(map(str, ids))

    one = ray.get(f.remote())
    both = A.options(num_gpus=2).remote()
    seen, ids = ray.get(both.seen.remote())
    say(agree(*one), agree(seen, ids), len(ids), sorted(map(int, ids)))


@table.script("A task with GPUs runs in a process of its own.", prints="True")
def gpus_have_a_process_of_their_own(ray):
    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False)

    @ray.remote
    def plain():
        return os.getpid()

    @ray.remote(num_gpus=1)
    def train():
        return os.getpid()

    say(ray.get(plain.remote()) != ray.get(train.remote()))


@table.script(
    "ray.runtime_env.RuntimeEnv is a dict that is checked.", prints="True 1 TypeError"
)
def runtime_environments_as_objects(ray):
    env = ray.runtime_env.RuntimeEnv(env_vars={"NUMBER": "1"})
    ray.init(num_cpus=1, include_dashboard=False, runtime_env=env)

    @ray.remote
    def f():
        return os.environ["NUMBER"]

    try:
        ray.runtime_env.RuntimeEnv(env_vars={"NUMBER": 1})
    except TypeError as error:
        kind = type(error).__name__
    say(isinstance(env, dict), ray.get(f.remote()), kind)


test_process = table.test()
