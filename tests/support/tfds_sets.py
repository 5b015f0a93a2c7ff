"""Small prepared data sets that TFDS knows from their folders alone, written without TensorFlow."""

import tensorflow_datasets as tfds


def write(root, name, features, splits, version="1.0.0"):
    """Writes the records of each split; returns the folder of the files.

    Args:
      root: the TFDS data folder.
      name: of the set.
      features: a dict of TFDS features.
      splits: a dict of lists of records.
      version: of the set.
    """
    folder = root / name / version
    folder.mkdir(parents=True)
    info = tfds.core.DatasetInfo(
        builder=tfds.core.dataset_info.DatasetIdentity(
            name=name, version=tfds.core.Version(version), data_dir=str(folder), module_name=""
        ),
        features=tfds.features.FeaturesDict(features),
    )
    writer = tfds.core.SequentialWriter(info, 1000, file_format="array_record")
    writer.initialize_splits(list(splits))
    writer.add_examples({split: list(records) for split, records in splits.items()})
    writer.close_all()
    return folder
