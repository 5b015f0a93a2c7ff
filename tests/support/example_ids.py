"""`python -m tests.support.example_ids STEPS [FLAGS]`: the examples that this process trains on.

Prints a line for each step: the numbers of the examples that lie on this process's devices.
"""

import jax
import jax.numpy as jnp
import numpy as np

from train import cli, experiment
from train.data.batch import put_split, take
from train.data.dataset import Split
from train.data.order import two_epochs
from train.runtime import distributed


def main(argv):
    command = cli.parse(argv[:1] + argv[2:], "")
    if command.cluster:
        distributed.initialize(*command.cluster)
    run = experiment.prepare(command.config)
    count, batch_size = run.dataset.num_train, command.config.data.batch_size
    numbers = np.arange(count, dtype=np.int32)
    examples = put_split(
        Split(numbers.astype(np.uint8)[:, None, None, None], numbers), run.sharding.replicated
    )

    @jax.jit
    def batch(examples, step):
        order = two_epochs(command.config.seed, jnp.int32(0), count)
        ids = jax.lax.dynamic_slice_in_dim(order, step * batch_size, batch_size)
        return take(examples, ids, jnp.ones(batch_size, bool), run.sharding.batch).labels

    for step in range(int(argv[1])):
        shards = batch(examples, step).addressable_shards
        print(*np.concatenate([np.asarray(shard.data) for shard in shards]))
    return 0


if __name__ == "__main__":
    cli.run(main)
