"""A program that passes on what C++ code of a process of a distributed run writes to stderr.

If another process of the run is lost, JAX's service writes a page of logs and a stack trace and
aborts. This program prints one line instead, unless the process has printed an error itself. Logs
of other code pass through. It is a process of its own because an abort ends all threads.
"""

import re
import signal
import sys
from collections.abc import Iterable, Iterator

LOST = (
    "another process of the run has ended or does not answer; see its output, then run the same "
    "command in all processes to resume"
)
NOT_STARTED = (
    "not all processes of the run have connected in time; check --coordinator, and that each of "
    "--num_processes was started with its own --process_id"
)

_LOG_LINE = re.compile(r"[IWEF]\d{4} [\d:.]+\s+\d+ ([\w./]+):\d+\]")
_SERVICE = re.compile(r"(coordination_service\w*|preemption_sync_manager|client)\.(cc|h)$")


def filter_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines without those of JAX's service, and one error, if any.

    A log of several lines belongs to the file that its first line names.
    """
    is_service, has_error, error = False, False, ""
    for line in lines:
        if line.startswith("error: "):  # of `train.errors.print_error`
            if not has_error:
                yield line
            has_error = True
            continue
        if match := _LOG_LINE.match(line):
            is_service = _SERVICE.search(match[1]) is not None
        if not is_service:
            yield line
            continue
        if "Terminating process" in line:
            error = LOST
        if error and "/RegisterTask" in line:
            error = NOT_STARTED
    if error and not has_error:
        yield f"error: {error}\n"


if __name__ == "__main__":
    # The signals are for the process that writes; its end ends this one.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    for stream in (sys.stdin, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    for kept in filter_lines(sys.stdin):
        sys.stderr.write(kept)
        sys.stderr.flush()
