"""Whole images in order, without random changes, as evaluation needs them."""

import dataclasses
from typing import ClassVar

from train.data.detection import shape_groups
from train.data.detection.batch import DetectionBatch
from train.data.detection.example import empty_example, make_example
from train.data.detection.loaded_image import load_image
from train.data.detection.shape_groups import ShapeGroup
from train.data.detection.source import DetectionImages
from train.data.detection.views import ViewOptions, whole_view
from train.data.streaming.batch_iterator import BatchIterator, ProcessRows


def batches(
    images: DetectionImages,
    options: ViewOptions,
    batch_size: int,
    process: tuple[int, int],
    workers: int = 0,
) -> BatchIterator:
    """Return the `DetectionBatch`es of a split, of NumPy arrays with the rows of a process.

    Over all processes, each image occurs once. The images of each shape are in order, and their
    last batch is padded.

    Args:
      images: The split.
      options: How images become examples.
      batch_size: The batch size of all processes together.
      process: The index of this process, and the number of processes.
      workers: The number of processes that prepare batches; 0 for threads.
    """
    groups = shape_groups.testing_groups(images.annotations.sizes, options)
    rows = ProcessRows.create(batch_size, *process)
    return BatchIterator(OrderedExamples(images, rows, options, groups), 0, workers)


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of this process; see `train.data.streaming.batch_iterator.Examples`."""

    batch_type: ClassVar = DetectionBatch

    images: DetectionImages
    rows: ProcessRows
    options: ViewOptions
    groups: tuple[ShapeGroup, ...]


@dataclasses.dataclass(frozen=True)
class OrderedExamples(Examples):
    """The images of a split, group by group, each padded to whole batches."""

    def __len__(self) -> int:
        number = shape_groups.num_ordered_batches(self.groups, self.rows.batch_size)
        return number * len(self.rows.rows)

    def __getitem__(self, index: int) -> DetectionBatch:
        batch, row = divmod(self.rows.position(index), self.rows.batch_size)
        group, number = shape_groups.ordered_batch(self.groups, self.rows.batch_size, batch)
        place = number * self.rows.batch_size + row
        if place >= len(group.ids):
            return empty_example(group.shape, self.options)
        image_id = int(group.ids[place])
        height, width = self.images.annotations.sizes[image_id].tolist()
        view = whole_view(height, width, self.options)
        loaded = load_image(self.images, image_id, self.options.mask_size)
        return make_example(loaded, view, group.shape, self.options)
