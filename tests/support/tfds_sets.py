"""Small prepared data sets that TFDS opens from their folders, written without TensorFlow."""

import tensorflow_datasets as tfds


def write(root, name, features, splits, version="1.0.0"):
    """Write the records of each split; return the folder of the files.

    Args:
      root: The TFDS data folder.
      name: The name of the data set, with that of its config, if it has several: `coco/2017`.
      features: A dict of TFDS features.
      splits: A dict from split names to lists of records.
      version: The version of the data set.
    """
    folder = root / name / version
    folder.mkdir(parents=True)
    name, _, config = name.partition("/")
    info = tfds.core.DatasetInfo(
        builder=tfds.core.dataset_info.DatasetIdentity(
            name=name,
            version=tfds.core.Version(version),
            data_dir=str(folder),
            module_name="",
            config_name=config or None,
        ),
        features=tfds.features.FeaturesDict(features),
    )
    writer = tfds.core.SequentialWriter(info, 1000, file_format="array_record")
    writer.initialize_splits(list(splits))
    writer.add_examples({split: list(records) for split, records in splits.items()})
    writer.close_all()
    return folder
