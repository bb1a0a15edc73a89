"""The processes, around the machines of `core`. What stands here decides nothing.

| room | what it is for | runs in |
|---|---|---|
| `links` | how messages travel: links, connections, who receives | every process |
| `calls` | the caller's half: calls on their way out, and their results | drivers and workers |
| `hosting` | the callee's half: actors and tasks, run | workers |
| `objects` | values, who holds references to them, the store as a process sees it | drivers and workers |
| `nodes` | starting workers, seeing them die, the machine's store | the node |
| `insight` | why, who waits for whom, what ran, what was logged | every process |
| `inprocess` | all of it in one process, with virtual time, for tests | the test's process |

Beside them one module for each kind of process (`driver`, `worker`, `broker`, `cluster`), what
drivers and workers have in common (`process`; `offered` is what `api` may ask of it), and how
processes find each other (`session`, `joining`, `machine`).
"""
