"""Commands whose stdout, and perhaps stdin, is a terminal."""

import os
import pty
import subprocess
import sys

from tests.support.processes import ROOT


def output(*command, stdin_is_terminal=True, status=0, **environment):
    """Run `python COMMAND` with a terminal as stdout; return what the terminal received.

    Args:
      *command: The arguments of Python.
      stdin_is_terminal: Whether stdin is the same terminal; otherwise it is empty.
      status: The expected exit status.
      **environment: Variables to set; None removes one.
    """
    variables = os.environ | {"TERM": "xterm-256color"} | environment
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={name: value for name, value in variables.items() if value is not None},
        stdin=terminal if stdin_is_terminal else subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.PIPE,
    )
    os.close(terminal)
    received = b""
    while chunk := _read(controller):
        received += chunk
    os.close(controller)
    _, error = process.communicate(timeout=300)
    assert process.returncode == status, error
    return received.decode()


def _read(controller):
    try:
        return os.read(controller, 2**16)
    except OSError:  # how Linux reports that nothing has the terminal open any more
        return b""
