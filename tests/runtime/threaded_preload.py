"""A module that starts a thread when it is imported, which no fork server can have."""

import threading

event = threading.Event()
threading.Thread(target=event.wait, name="of-the-preload", daemon=True).start()
