"""Networks as users write them, right and wrong, for small images."""

import jax
import jax.numpy as jnp
from flax import linen, nnx


class Dense(nnx.Module):
    """The base of most of these networks."""

    def __init__(self, num_classes, channels, rngs, rate=0.5):
        self.stem = nnx.Conv(channels, 16, (3, 3), rngs=rngs)
        self.drop1, self.drop2 = nnx.Dropout(rate, rngs=rngs), nnx.Dropout(rate, rngs=rngs)
        self.out = nnx.Linear(16, num_classes, rngs=rngs)

    def __call__(self, images):
        return self.out(self.drop2(self.drop1(nnx.relu(self.stem(images)).mean((1, 2)))))


class KeywordMode(Dense):
    def __call__(self, images, *, train):
        x = nnx.relu(self.stem(images)).mean((1, 2))
        return self.out(self.drop1(x, deterministic=not train))


class SharedRngs(Dense):
    """Keeps the generator itself, and a key."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.rngs, self.key = arguments["rngs"], arguments["rngs"].params()

    def __call__(self, images):
        noise = jax.random.normal(self.rngs.noise(), images.shape)
        return super().__call__(images + 0.1 * noise + 0.1 * jax.random.normal(self.key))


class Attention(nnx.Module):
    def __init__(self, num_classes, channels, rngs):
        self.embed = nnx.Linear(channels, 8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, dropout_rate=0.4, decode=False, rngs=rngs)
        self.fc = nnx.Linear(8, num_classes, rngs=rngs)

    def __call__(self, images):
        x = self.embed(images.reshape(len(images), -1, images.shape[-1]))
        return self.fc(self.attention(x).mean(1))


class Average(nnx.Variable):
    pass


class OwnVariables(Dense):
    """Has a variable of its own type, an array, and an intermediate output."""

    def __init__(self, num_classes, channels, rngs):
        super().__init__(num_classes, channels, rngs)
        self.average = Average(jnp.zeros(()))
        self.scales = jnp.array([1.0, 2.0])

    def __call__(self, images):
        self.average[...] = 0.9 * self.average[...] + 0.1 * images.mean()
        self.seen = nnx.Intermediate(images)
        return super().__call__(images * self.scales.mean())


class Nested(nnx.Module):
    def __init__(self, num_classes, channels, rngs):
        self.net = nnx.Sequential(
            nnx.Conv(channels, 8, (3, 3), rngs=rngs),
            nnx.relu,
            lambda x: x.mean((1, 2)),
            nnx.Linear(8, num_classes, rngs=rngs),
        )

    def __call__(self, images):
        return self.net(images)


class TwoOutputs(Dense):
    def __init__(self, num_classes, channels, rngs):
        super().__init__(num_classes, channels, rngs)
        self.skip = nnx.LoRALinear(channels, num_classes, lora_rank=2, rngs=rngs)

    def __call__(self, images):
        return super().__call__(images) + self.skip(images.mean((1, 2)))


class OwnParameter(nnx.Module):
    """Multiplies by a parameter of its own, in a function that is compiled and rematerialized."""

    def __init__(self, num_classes, channels, rngs):
        self.zeroth = nnx.Linear(channels, 4, rngs=rngs)
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (4, num_classes)))
        self.temperature = nnx.Param(jnp.ones(()))

    def __call__(self, images):
        multiply = jax.checkpoint(jax.jit(lambda x, w: nnx.relu(x).mean((1, 2)) @ w))
        return multiply(self.zeroth(images), self.weight[...]) / self.temperature[...]


class ConvOutput(nnx.Module):
    """Ends with a 1x1 convolution; the layer called `head` is the first one."""

    def __init__(self, num_classes, channels, rngs):
        self.head = nnx.Conv(channels, 8, (3, 3), rngs=rngs)
        self.last = nnx.Conv(8, num_classes, (1, 1), rngs=rngs)

    def __call__(self, images):
        return self.last(nnx.relu(self.head(images))).mean((1, 2))


class NeedsWidth(Dense):
    def __init__(self, num_classes, channels, rngs, width):
        super().__init__(num_classes, channels, rngs)


class NeedsMask(Dense):
    def __call__(self, images, mask):
        return super().__call__(images)


class ThreeLogits(Dense):
    def __call__(self, images):
        return super().__call__(images)[:, :3]


class TwoResults(Dense):
    def __call__(self, images):
        return super().__call__(images), images


class WrongWidth(Dense):
    def __call__(self, images):
        return self.out(images.reshape(len(images), -1))


class FailsAtStart(Dense):
    def __init__(self, num_classes, rngs):
        self.out = nnx.Linear(num_classes, "five", rngs=rngs)


class UsedTwice(nnx.Module):
    def __init__(self, num_classes, rngs):
        self.square = nnx.Param(jnp.ones((8, 8)))
        self.out = nnx.Linear(8, num_classes, rngs=rngs)

    def __call__(self, images):
        x = images.mean((1, 3))
        return self.out(jnp.tanh(x @ self.square[...]) @ self.square[...].T)


class Linen(linen.Module):
    num_classes: int

    def __call__(self, images):
        return images
