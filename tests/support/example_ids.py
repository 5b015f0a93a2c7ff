"""Print the numbers of the examples that this process trains on, one line per step.

Usage: `python -m tests.support.example_ids STEPS --config FILE [FLAGS]`. A line has the examples
on this process's devices.
"""

import jax
import jax.numpy as jnp
import numpy as np

from train import cli, experiment
from train.data.batch import gather_batch, put_split
from train.data.dataset import Split
from train.data.order import two_epochs
from train.runtime import distributed


def main(argv):
    command = cli.parse(argv[:1] + argv[2:], str)
    if command.cluster:
        distributed.initialize(*command.cluster)
    run = experiment.prepare(command.config)
    num_examples, batch_size = run.dataset.num_train, command.config.data.batch_size
    numbers = np.arange(num_examples, dtype=np.int32)
    images = np.zeros((num_examples, 1, 1, 1), np.uint8)
    split = put_split(Split(images, numbers), run.sharding.replicated)

    @jax.jit
    def example_ids(split, step):
        order = two_epochs(command.config.seed, jnp.int32(0), num_examples)
        ids = jax.lax.dynamic_slice_in_dim(order, step * batch_size, batch_size)
        return gather_batch(split, ids, jnp.ones(batch_size, bool), run.sharding.batch).labels

    for step in range(int(argv[1])):
        shards = example_ids(split, step).addressable_shards
        print(*np.concatenate([np.asarray(shard.data) for shard in shards]))
    return 0


if __name__ == "__main__":
    cli.run(main)
