"""Waiting for what another process does, within a minute."""

import time


def wait_until(condition, *, within_secs=60):
    """Return as soon as the condition holds; an assertion fails where it does not in time."""
    deadline = time.monotonic() + within_secs
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_secs} seconds"
        time.sleep(0.02)


def is_running(pid):
    """Whether there is such a process and it has not ended."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
