"""Large pages for a CPU's programs, whose temporary memory is new in every dispatch."""

import os
import platform
import sys

_TUNABLES = "GLIBC_TUNABLES"


def enable_huge_pages() -> None:
    """Starts this process anew with them, where its C library can be told so.

    The kernel hands out memory by pages of 4 kB, each with an interruption of the program; with
    pages of 2 MB there are 500 times fewer, and fewer addresses to look up. glibc reads the setting
    once, as a process starts. An environment in which it is set already is left as it is.
    """
    if _TUNABLES in os.environ or platform.libc_ver()[0] != "glibc" or not sys.executable:
        return
    os.environ[_TUNABLES] = "glibc.malloc.hugetlb=1"
    os.execv(sys.executable, sys.orig_argv)
