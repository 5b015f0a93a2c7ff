"""Batches of a streamed data set, prepared a few batches ahead by Grain."""

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import grain
import numpy as np
from absl import flags

from train.data.streaming import workers
from train.errors import UserError, describe_error

_MAX_THREADS = 16  # more threads only wait for the global interpreter lock


class ProcessRows(NamedTuple):
    """The rows of each batch that belong to one process.

    Attributes:
      batch_size: The batch size of all processes together.
      rows: The rows of the process.
    """

    batch_size: int
    rows: range

    @classmethod
    def create(cls, batch_size: int, process_index: int, process_count: int) -> "ProcessRows":
        """Split a batch over the processes as evenly as possible."""
        start, stop = (
            index * batch_size // process_count for index in (process_index, process_index + 1)
        )
        return cls(batch_size, range(start, stop))

    def position(self, index: int) -> int:
        """Return the position of this process's example `index` in the global sequence."""
        step, row = divmod(index, len(self.rows))
        return step * self.batch_size + self.rows[row]


class Examples(Protocol):
    """The examples of this process, with the random access that Grain needs.

    Attributes:
      rows: The rows of each batch that belong to this process.
      batch_type: The named tuple of a batch; its fields are those of an example, stacked.
    """

    @property
    def rows(self) -> ProcessRows: ...

    @property
    def batch_type(self) -> Callable[..., Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, ...]: ...


class BatchIterator(Iterator[Any]):
    """Batches that are prepared ahead of time, by threads or by worker processes.

    The threads or processes start with the constructor. Use the iterator as a context manager, or
    call `close`, to stop them.

    Raises:
      UserError: If a record is damaged, or if a worker process died.
    """

    def __init__(self, examples: Examples, first_step: int, num_workers: int):
        self._batch_type = examples.batch_type
        # Grain assigns whole batches to workers, so their number does not change the batches.
        batches = grain.MapDataset.source(examples).batch(len(examples.rows.rows))[first_step:]
        threads = 0 if num_workers else min(os.cpu_count() or 1, _MAX_THREADS)
        _configure_grain()
        prefetched = batches.to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        ).mp_prefetch(
            grain.MultiprocessingOptions(num_workers=num_workers),
            worker_init_fn=workers.init_worker,
        )
        self._iterator: Any = iter(prefetched)
        with workers.block_signals():
            # Without this call, each worker starts only when its first batch is needed.
            self._iterator.get_state()
            self._iterator.start_prefetch()

    def __next__(self) -> Any:
        try:
            batch = next(self._iterator)
        except UserError as error:
            # Grain's traceback is a reference cycle that holds a batch in shared memory. Free it
            # now: if the process exits with such a batch, Python prints a warning to stderr.
            error.__traceback__ = None
            gc.collect()
            raise error from None
        except RuntimeError as error:  # Grain raises it if a worker process died
            raise UserError(
                f"a data worker process died ({describe_error(error)}); it may have been killed "
                "because memory or /dev/shm was full; use fewer --config.data.workers, and run "
                "the same command again"
            ) from error
        return self._batch_type(*map(_copy_shared, batch))

    def __enter__(self) -> "BatchIterator":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads and processes; they finish their current batches first."""
        # Replace it, because Grain's iterators must be deleted before the interpreter exits.
        iterator, self._iterator = self._iterator, (_ for _ in ())
        iterator.close()


def _configure_grain() -> None:
    # Grain reads its own absl flags, which fails until flags are parsed. We do not use absl flags.
    flags.FLAGS.mark_as_parsed()
    # Traceback filtering wraps Grain's classes again for each pipeline, and adds notes to errors.
    grain.config.update("py_traceback_filtering", "off")


def _copy_shared(array: np.ndarray) -> np.ndarray:
    """Return a copy of an array in shared memory, which must be released before exit."""
    shared = isinstance(array, grain.multiprocessing.SharedMemoryArray)
    return np.array(array, subok=False) if shared else array
