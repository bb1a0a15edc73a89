"""A broker that is killed by SIGKILL at the moment at which it would commit.

Run as the command line is. It dies once the file that $KILL_WHEN names is there: after its messages
were handled, before what came of them is written.
"""

import os
import signal
import threading
from typing import Any

from zactor.cli.main import main
from zactor.store.state import SqliteState

_transact = SqliteState.transact


def _killed(self: SqliteState, *args: Any, **more: Any) -> int:
    if os.path.exists(os.environ["KILL_WHEN"]):
        threading.Event().wait(0.3)  # what was sent already is delivered meanwhile
        os.kill(os.getpid(), signal.SIGKILL)
    return _transact(self, *args, **more)


SqliteState.transact = _killed  # type: ignore[method-assign]
main()
