"""Of a dump of all threads, only the user's part is shown."""

from __future__ import annotations

from zactor.api.stacks import of_user, places

OWN = """Thread 0x01 (most recent call first):
  File "/site/zactor/runtime/worker.py", line 85 in _serve_lane
  File "/lib/python3.11/threading.py", line 982 in run
"""
IDLE = """Current thread 0x02 (most recent call first):
  File "/site/zactor/transport/sockets.py", line 187 in wait_readable
  File "/site/zactor/runtime/worker.py", line 269 in main
  File "<string>", line 1 in <module>
"""
BUSY = """Current thread 0x02 (most recent call first):
  File "/site/zactor/api/values.py", line 7 in get
  File "/home/me/app.py", line 6 in fetch
  File "/home/me/app.py", line 9 in nap
  File "/site/zactor/runtime/hosting/hosts.py", line 166 in _run_ready
  File "<string>", line 1 in <module>
"""


def test_threads_of_zactor_are_left_out() -> None:
    assert of_user(f"{OWN}\n{IDLE}") == []


def test_the_users_frames_are_shown_with_what_they_wait_in() -> None:
    assert of_user(f"{OWN}\n{BUSY}") == BUSY.splitlines()[:4]


def test_an_empty_dump_is_nothing() -> None:
    assert of_user("") == []


def test_what_python_was_given_on_its_command_line_is_the_users() -> None:
    dump = """Current thread 0x02 (most recent call first):
  File "<string>", line 6 in nap
  File "/site/zactor/runtime/hosting/hosts.py", line 166 in _run_ready
  File "<string>", line 1 in <module>
"""
    assert of_user(dump) == dump.splitlines()[:2]
    assert places(dump) == ["<string>:6 in nap"]
