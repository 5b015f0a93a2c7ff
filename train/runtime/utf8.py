"""Python's UTF-8 mode, in which the encoding of files and of their names is UTF-8."""

import locale
import os
import sys


def enable_utf8_mode() -> None:
    """Restart this process in UTF-8 mode, if the encoding of its locale is another one.

    Otherwise libraries would read and write text files in the encoding of the locale, and the same
    name would mean other files in a config and on the command line. The terminal keeps its
    encoding; a character that it does not have becomes a "?".
    """
    encodings = {sys.getfilesystemencoding(), locale.getpreferredencoding(False)}
    is_utf8 = {encoding.lower().replace("-", "") for encoding in encodings} == {"utf8"}
    if is_utf8 or sys.flags.ignore_environment or not sys.executable:
        return
    os.environ["PYTHONUTF8"] = "1"
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:replace")
    os.execv(sys.executable, sys.orig_argv)
