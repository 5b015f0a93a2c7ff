"""Small data sets with the layout of `imagenet2012`, written by TFDS without TensorFlow."""

import io
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

NUM_CLASSES = 1000


def jpeg(rng, width, height, mode="RGB", cells=4, quality=90):
    """Return a smooth JPEG: `cells` x `cells` pixels of noise, enlarged."""
    noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
    image = noise.resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    content = io.BytesIO()
    image.save(content, "jpeg", quality=quality)
    return content.getvalue()


def write(root, shard=400, **splits):
    """Write a split for each list of (content, label); return the folder of the files."""
    builder = tfds.builder("imagenet2012", data_dir=root, file_format="array_record")
    folder = Path(builder.data_dir)
    folder.mkdir(parents=True)
    writer = tfds.core.SequentialWriter(builder.info, shard, file_format="array_record")
    writer.initialize_splits(list(splits))
    writer.add_examples(
        {
            split: [
                {"image": io.BytesIO(content), "label": label, "file_name": f"{index}.JPEG"}
                for index, (content, label) in enumerate(examples)
            ]
            for split, examples in splits.items()
        }
    )
    writer.close_all()
    return folder
