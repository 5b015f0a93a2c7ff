"""The data set for detection that a config describes."""

import jax
from ml_collections import ConfigDict

from train.data.dataset import Description
from train.data.detection import coco_folder, dataset, digits_detection, tfds_objects
from train.data.detection.dataset import DetectionDataset
from train.data.detection.source import DetectionImages
from train.data.detection.stream import DetectionStream
from train.data.detection.views import ViewOptions, padded_shape

_COCO_CLASSES = 80


def load(config: ConfigDict) -> DetectionDataset | DetectionStream:
    """Load the data set into memory, or open it if it is streamed.

    Raises:
      UserError: If there is no such data set, or something is wrong in it.
    """
    train: DetectionImages
    test: DetectionImages
    options, notes = view_options(config), []
    if config.data.name == "digits_detection":
        train, test = digits_detection.open_splits()
    elif config.data.name == "coco_folder":
        train, test, note = coco_folder.open_splits(
            config.data.dir,
            masks=options.mask_size > 0,
            on_error=config.data.on_error,
            exif_orientation=config.data.exif_orientation,
        )
        notes.append(note)
    else:
        train, test, note = tfds_objects.open_splits(config.data)
        notes.append(note)
    loaded: DetectionDataset | DetectionStream
    if is_in_memory(config):
        loaded = dataset.load(train, test, options)
    else:
        loaded = DetectionStream(
            train,
            test,
            options,
            batch_size=config.data.batch_size,
            seed=config.seed,
            workers=config.data.workers,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
    notes += [loaded.note] if loaded.note else []
    if notes and jax.process_index() == 0:
        print("; ".join(notes))
    return loaded


def describe(config: ConfigDict) -> Description:
    """Return what is needed to compile for the data set, even if it is not prepared.

    `coco_folder` without a folder is COCO itself.

    Raises:
      UserError: If the data set is named and cannot be loaded.
    """
    is_folder = config.data.name == "coco_folder"
    if config.data.name == "digits_detection" or (is_folder and config.data.dir):
        dataset = load(config)
        return Description(dataset.num_classes, dataset.input_shape, dataset.num_train)
    options = view_options(config)
    height, width = padded_shape(options.short_side, options.long_side, options)
    num_classes = _COCO_CLASSES if is_folder else tfds_objects.num_classes(config.data)
    return Description(num_classes, (height, width, 3), None)


def is_in_memory(config: ConfigDict) -> bool:
    """Return whether the images are stored on the devices, which then flip them."""
    return config.data.in_memory or config.data.name == "digits_detection"


def view_options(config: ConfigDict) -> ViewOptions:
    """Return how images become examples."""
    detection = config.detection
    return ViewOptions(
        short_side=detection.short_side,
        long_side=detection.long_side,
        tile=detection.tile,
        scale_jitter=detection.scale_jitter or (1.0, 1.0),
        flip=config.data.flip,
        max_objects=detection.max_objects,
        mask_size=detection.mask_size if config.model.name == "mask_rcnn" else 0,
    )
