"""A whole cluster inside one thread's turn: what `zactor.testing.local` and `local_mode` run on.

    scheduler   strands of user code, one of which runs at a time; which one is next, and what time it is
    patches     what the standard library waits by, made to wait in the world's time
    loop        asyncio's event loop, in the world's time
    world       everything that is there: actors, tasks, names, faults, the record of what ran
    process     what a process offers to `zactor.api`, without sockets
    views       actors as their callers see them
    references  references and the values behind them
    placing     resources, labels, placement groups
    execution   what runs in a process
    actors      the lives of actors and their mailboxes
    tasks       tasks that wait and run
    running     one call, run: arguments in, user code, outcome
    directory   the broker's answers
    faults      crashes and losses on demand
    stuck       why a wait can never end

Nothing here opens a socket, starts a process or reads a clock. The rest of the package does not know
of it: `api` finds its `LocalProcess` where it would find a `Process`.
"""
