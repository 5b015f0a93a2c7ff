"""`python -m benchmarks.input [--rounds=5]`: does the streaming pipeline keep up with its decoders?

Writes photo-like JPEGs of ImageNet's sizes as an `imagenet2012` and compares, in turn, processes
that do nothing but decode and crop images that they hold in memory with the pipeline: random
records from the disk, decoded and cropped by as many threads or worker processes, as batches in
the training process. A ratio compares neighbours of one round; the median of the rounds counts.
Beside the wall clock stands the processor time of all processes, which others on the same machine
disturb less.
"""

import argparse
import importlib.metadata
import io
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.machine import machine
from tests.support import imagenet
from train.config import default_config
from train.data.streaming import crops, pipeline, tfds_records

IMAGE_SIZE, SCALE, BATCH = 224, (0.08, 1.0), 64
SIZES = ((500, 375), (375, 500), (500, 333), (500, 400), (640, 480))
DISTINCT = 60  # the records repeat them
CORES = os.cpu_count() or 1

BARE = {"bare, 1 process": 1, f"bare, {CORES} at once": CORES}
STREAM = {  # workers, and what they are compared with
    f"{CORES} threads": (0, f"bare, {CORES} at once"),
    "1 worker": (1, "bare, 1 process"),
    f"{CORES} workers": (CORES, f"bare, {CORES} at once"),
}


def photo(rng, width, height):
    """A JPEG with detail at every scale, of about ImageNet's bytes per pixel."""
    pixels = np.full((height, width, 3), 128, np.float32)
    for cells in (4, 8, 16, 32, 64, 128, 256):
        noise = rng.normal(size=(cells * height // width, cells, 3)).astype(np.float32)
        channels = [
            np.asarray(Image.fromarray(noise[..., channel]).resize((width, height)))
            for channel in range(3)
        ]
        pixels += 100 / cells**0.35 * np.stack(channels, -1)
    content = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(content, "jpeg", quality=90)
    return content.getvalue()


class Rate(NamedTuple):
    per_second: float  # images
    per_cpu_second: float  # of all the processes that make them


def bare_rate(contents, seconds):
    """Of one process that decodes and crops."""
    rng = np.random.default_rng(0)
    done, began, cpu_began = 0, time.monotonic(), time.process_time()
    while time.monotonic() - began < seconds:
        for content in contents:
            crops.train_image(content, rng, IMAGE_SIZE, SCALE)
        done += len(contents)
    return Rate(done / (time.monotonic() - began), done / (time.process_time() - cpu_began))


def stream_rate(config, workers, seconds):
    """Of the whole batches that reach the training process."""
    config.data.workers = workers
    with pipeline.open(config, 0, 1).train_batches(0) as batches:
        for _ in range(4 * max(workers, CORES)):  # what was made ahead is not for the clock
            next(batches)
        done, began, cpu_began = 0, time.monotonic(), cpu_seconds()
        while time.monotonic() - began < seconds:
            for _ in range(max(workers, CORES)):
                done += len(next(batches).labels)
        return Rate(done / (time.monotonic() - began), done / (cpu_seconds() - cpu_began))


def cpu_seconds():
    """Processor time of this process and of the children that live."""
    ticks = 0
    for process in ("self", *(child.pid for child in multiprocessing.active_children())):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def parts(config, contents):
    """Milliseconds an image of each thing that is done, each measured alone."""
    records = tfds_records.open_splits(config.data.name, config.data.dir)[0]
    ids = np.random.default_rng(0).integers(len(records), size=200)
    images = [Image.open(io.BytesIO(content)) for content in contents]

    def decode():
        for image in images:
            image.load()

    def resize():
        rng = np.random.default_rng(0)
        for image in images:
            box = crops.random_box(rng, *image.size, SCALE)
            image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR, box)

    def milliseconds(work, images):
        began = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - began) / images

    return {
        "read": milliseconds(lambda: [records[int(index)] for index in ids], len(ids)),
        "decode": milliseconds(decode, len(images)),
        "crop_and_resize": milliseconds(resize, len(images)),
    }


def measure(config, contents, rounds, seconds):
    """The rates of every round, by what was measured."""
    rates: dict[str, list[Rate]] = {name: [] for name in (*BARE, *STREAM)}
    for number in range(rounds):
        for name, count in BARE.items():
            with multiprocessing.get_context("spawn").Pool(count) as pool:
                each = pool.starmap(bare_rate, [(contents, seconds)] * count, chunksize=1)
            wall, cpu = zip(*each, strict=True)
            rates[name].append(Rate(sum(wall), statistics.mean(cpu)))
        for name, (workers, _) in STREAM.items():
            rates[name].append(stream_rate(config, workers, seconds))
        line = ", ".join(f"{name} {values[-1].per_second:.0f}" for name, values in rates.items())
        print(f"round {number + 1}: {line}", flush=True)
    return rates


def median_ratios(rates, timer):
    """Of each stream to the bare decoding with which it is compared."""
    return {
        name: statistics.median(
            getattr(one, timer) / getattr(other, timer)
            for one, other in zip(rates[name], rates[bare], strict=True)
        )
        for name, (_, bare) in STREAM.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--json", type=Path, default=Path("results/input_cpu.json"))
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    contents = [photo(rng, *SIZES[index % len(SIZES)]) for index in range(DISTINCT)]
    config = default_config()
    config.data.update(
        name="imagenet2012", mean=(0.5,) * 3, std=(0.25,) * 3, flip=True, batch_size=BATCH
    )
    config.data.update(image_size=IMAGE_SIZE, crop_scale=SCALE)
    with tempfile.TemporaryDirectory() as folder:
        config.data.dir = folder
        train = [(contents[index % DISTINCT], index) for index in range(imagenet.NUM_CLASSES)]
        imagenet.write(folder, train=train, validation=train[:1])
        milliseconds = parts(config, contents)
        rates = measure(config, contents, arguments.rounds, arguments.seconds)
    wall, cpu = median_ratios(rates, "per_second"), median_ratios(rates, "per_cpu_second")
    print(f"{'':<16} images/s  images/cpu-s  ratio, by processor time, to")
    for name, values in rates.items():
        medians = [statistics.median(column) for column in zip(*values, strict=True)]
        to = f"{wall[name]:.3f}  {cpu[name]:.3f}  {STREAM[name][1]}" if name in STREAM else ""
        print(f"{name:<16} {medians[0]:>8.0f}  {medians[1]:>12.0f}  {to}")
    print("milliseconds an image: " + ", ".join(f"{k} {v:.3f}" for k, v in milliseconds.items()))
    figures = machine()
    for package in ("grain", "pillow", "tensorflow-datasets"):
        figures["versions"][package] = importlib.metadata.version(package)
    figures |= {
        "kilobytes_per_image": statistics.mean(map(len, contents)) / 1000,
        "image_size": IMAGE_SIZE,
        "batch_size": BATCH,
        "milliseconds_per_image": milliseconds,
        "rates": {name: [rate._asdict() for rate in values] for name, values in rates.items()},
        "median_ratios": wall,
        "median_cpu_ratios": cpu,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
