"""The directory: which actors exist, what they are called, where they live, who watches them.

Does not place, start or end actors (`core.lifecycle` does); it enters what was decided, keeps
the indexes, and tells watchers.

ActorSpec: the keys of `spec` in `CreateActor`
----------------------------------------------
Everything is a plain value. Only `id`, `job`, `owner` and `class_key` must be there; the right-hand
column is what an absent key means.

    id                  bytes 12   actor id, made by the client: creating it twice is the same as once
    job                 bytes 4    the job it belongs to
    owner               bytes 12   process id of the creator's process; the actor dies with it unless detached
    owner_caller        bytes 16   caller id of the creator (driver session, or one life of an actor);  b""
                                   the actor also dies when that life ends, unless detached
    name                str        ""   no name
    namespace           str        ""   the job's namespace
    lifetime            str        ""   "" | "detached"
    get_if_exists       bool       False
    class_key           bytes      key of the pickled class, see `Define`
    class_name          str        ""   for errors, logs and `list actors`
    methods             any        None opaque here; comes back in the entry, so that a handle can be made of it
    args                dict       {}   opaque: {"payload": bytes, "frames": [bytes], "slots": list}; dropped at death
    placing             {str: num} {}   what a node must have in all to be chosen ({"CPU": 1} by default).
                                   Compared with what the node (or bundle) has in total; held by nobody.
    running             {str: num} {}   what the actor holds from `StartActor` to the end of that life
    strategy            see below  None
    group               dict       None {"id": group id, "bundle": int (-1: any), "capture": bool}
    label_selector      {str: str} {}   all must hold: "v", "!v", "in(a,b)", "!in(a,b)"
    max_restarts        int        0    -1: without limit
    max_task_retries    int        0    for callers; the broker does not look at it
    max_concurrency     int        1    for the worker
    concurrency_groups  {str: int} {}   for the worker
    is_async            bool       False for the worker
    isolation           str        "process"  | "shared": the node may put it beside others in one worker
    max_pending_calls   int        -1   for callers
    env                 dict       {}   runtime_env; workers of unequal env are never shared
    options             dict       {}   anything else, opaque; comes back in the entry

`placing` uses "CPU", "GPU", "memory", or a custom name; numbers are multiples of 0.0001.

`strategy` (of actors, and of the shape in `Demand`):

    None | "DEFAULT"                                    near the caller until half full, then the emptiest
    "SPREAD"                                            round robin over the nodes that fit
    {"kind": "node", "node": node id, "soft": bool}     that node; soft: else any
    {"kind": "labels", "hard": L, "soft": L}            L = {label: [op, [values]]},
                                                        op "in" | "not_in" | "exists" | "does_not_exist"

`spec` in `StartActor` is the same dict with `namespace` filled in, and besides:

    epoch     int            restarts  int (crashes so far; > 0: this life is a reconstruction)
    gpu_ids   [int]          the GPUs of the node that this life may see
    assigned  {str: float}   the resources it holds
    network   bool           bind tcp at once: somebody on another machine asks for it

The entry: what `CreateActor`, `WatchActor`, `FindActor` answer and `ActorChanged` carries
-----------------------------------------------------------------------------------------
    id job owner owner_caller name namespace lifetime class_key class_name methods max_restarts
    max_task_retries max_concurrency concurrency_groups is_async isolation max_pending_calls group
    label_selector options env      as in the spec
    resources       {str: float}   the spec's `running`
    state           str            PENDING STARTING ALIVE RESTARTING DEAD
    cause           dict | None    why it is DEAD, or why the last life ended (RESTARTING and after)
    ending          dict | None    set while a kill or release is under way: the cause it will die of. New
                                   calls need not be sent; the name is free already
    life epoch      int            0 until first started. `life` is new at every start
    restarts        int            how often it was started again after a crash
    node            bytes          b"" while it has none
    address         list | None    Address of its worker, from `ActorUp` on (calls queue there)
    pid             int            0 while it has no worker
    repr_name       str            its repr, once ALIVE
    pending_reason  str            why it is not placed yet, when that takes long; else ""
    revision        int            of this entry; later is greater

`cause` is `{"kind": str, "text": str, ...}`:

    exit signal killed oom node     the worker's death, as in `WorkerDied` (with "code"); "killed" also: `kill`
    constructor                     `__init__` raised; "error" is the wire error with the pickled exception
    environment                     the runtime_env cannot be built; "error"
    exited                          it ended itself (exit_actor)
    released                        the last handle is gone
    owner                           its owner died; "owner" is the process id
    job                             its job ended
    group                           its placement group was removed
    unschedulable                   no node can ever take it; "error"
    spawn                           no worker could be started, on any node, again and again; "error"

Invariants
    D1  A name in a namespace is held by at most one actor, one that is neither DEAD nor ending.
    D2  An actor leaves DEAD never, and is forgotten only from there, oldest first, above a bound.
    D3  `revision` of an entry rises at each change; `life` and `epoch` never fall.
    D4  The indexes by node, process, owner and job hold exactly the actors that are not DEAD.
"""
