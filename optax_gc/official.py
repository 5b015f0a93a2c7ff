"""The paper authors' own optimizers, step for step.

An `optax.chain` with `centralize()` in it is what most people want. These are for repeating what
the authors ran: the decay, the epsilons and the learning rate stand where theirs stand. Their
`_GC` and `_GCC` classes are `conv_only=False` and `conv_only=True` here; their `_GC2` and `_GCC2`
are `location="update"`.

References:
  Yong et al., Gradient Centralization: A New Optimization Technique for Deep Neural Networks,
  ECCV 2020, https://arxiv.org/abs/2004.01461, and the code that the authors published with it,
  https://github.com/Yonghongwei/Gradient-Centralization
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_gc._centralize import centralize
from optax_gc._plan import Axes

Location = Literal["gradient", "update"]


def sgd_gc(
    learning_rate: optax.ScalarOrSchedule,
    momentum: ArrayLike = 0.0,
    *,
    dampening: ArrayLike = 0.0,
    weight_decay: ArrayLike = 0.0,
    nesterov: bool = False,
    axes: Axes = None,
    conv_only: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""The authors' `SGD_GC` and `SGD_GCC`: L2 decay, then centralization, then momentum.

    With $\Phi$ the centralization, $\mu$ the momentum, $\delta$ the dampening and $\lambda$ the
    weight decay,

    $$g_t = \Phi(\nabla L + \lambda w_t),\quad b_1 = g_1,\quad b_t = \mu b_{t-1} + (1-\delta) g_t,
    \quad w_{t+1} = w_t - \eta_t b_t$$

    and with `nesterov` the step is $g_t + \mu b_t$ instead of $b_t$. Nothing in the step leaves the
    hyperplane, so each unit's fan-in mean stays what it was at the start.

    Args:
      learning_rate: $\eta$, a number or a schedule of the step count, which starts at 0.
      momentum: $\mu$; 0 keeps no buffer, and then there is nothing to dampen.
      dampening: $\delta$; the first gradient enters the buffer undampened, as in torch.
      weight_decay: $\lambda$, coupled: it is centralized with the gradient.
      nesterov: look one step of momentum ahead.
      axes: where the fan-in is, as for `optax_gc.centralize`.
      conv_only: centralize convolution kernels only, the authors' `SGD_GCC`.

    Returns:
      A gradient transformation; with weight decay its `update` needs `params`.

    Raises:
      ValueError: an argument is negative; `nesterov` without momentum or with dampening.

    Example:
      >>> import jax.numpy as jnp, optax_gc
      >>> tx = optax_gc.official.sgd_gc(0.5, momentum=0.9, weight_decay=0.25)
      >>> params = {"kernel": jnp.array([[8.0], [16.0]])}
      >>> grads = {"kernel": jnp.array([[1.0], [3.0]])}
      >>> tx.update(grads, tx.init(params), params)[0]["kernel"].tolist()
      [[1.0], [-1.0]]

    References:
      See the module's.
    """
    _refuse_negative(learning_rate=learning_rate)
    return optax.chain(
        _decay(weight_decay),
        centralize(axes, conv_only=conv_only),
        _momentum(momentum, dampening, nesterov),
        optax.scale_by_learning_rate(learning_rate),
    )


def sgdw_gc(
    learning_rate: optax.ScalarOrSchedule,
    momentum: ArrayLike = 0.0,
    *,
    dampening: ArrayLike = 0.0,
    weight_decay: ArrayLike = 0.0,
    nesterov: bool = False,
    axes: Axes = None,
    conv_only: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""The authors' `SGDW_GC` and `SGDW_GCC`: centralization, momentum, then decoupled decay.

    $$w_{t+1} = w_t - \eta_t (b_t + \lambda w_t)$$

    with $b_t$ as in `sgd_gc`, made from $\Phi(\nabla L)$ alone. The decay is not centralized, so
    each unit's fan-in mean shrinks by $1 - \eta_t\lambda$ at every step.

    Args:
      learning_rate: $\eta$, a number or a schedule of the step count; it scales the decay too.
      momentum: as for `sgd_gc`.
      dampening: as for `sgd_gc`.
      weight_decay: $\lambda$, decoupled.
      nesterov: as for `sgd_gc`.
      axes: where the fan-in is, as for `optax_gc.centralize`.
      conv_only: centralize convolution kernels only, the authors' `SGDW_GCC`.

    Returns:
      A gradient transformation; with weight decay its `update` needs `params`.

    Raises:
      ValueError: as `sgd_gc` does.

    Example:
      >>> import jax.numpy as jnp, optax_gc
      >>> tx = optax_gc.official.sgdw_gc(0.5, momentum=0.9, weight_decay=0.25)
      >>> params = {"kernel": jnp.array([[8.0], [16.0]])}
      >>> grads = {"kernel": jnp.array([[1.0], [3.0]])}
      >>> tx.update(grads, tx.init(params), params)[0]["kernel"].tolist()
      [[-0.5], [-2.5]]

    References:
      See the module's.
    """
    _refuse_negative(learning_rate=learning_rate)
    return optax.chain(
        centralize(axes, conv_only=conv_only),
        _momentum(momentum, dampening, nesterov),
        _decay(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


def adam_gc(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    *,
    weight_decay: ArrayLike = 0.0,
    amsgrad: bool = False,
    location: Location = "gradient",
    axes: Axes = None,
    conv_only: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""The authors' `Adam_GC`, `Adam_GCC`, `Adam_GC2` and `Adam_GCC2`: Adam with L2 decay.

    $$g_t = \nabla L + \lambda w_t,\qquad
    w_{t+1} = w_t - \eta_t \frac{m_t / (1-\beta_1^t)}{\sqrt{v_t / (1-\beta_2^t)} + \epsilon}$$

    $m_t$ and $v_t$ are the moving averages of $\Phi(g_t)$ and its square; at `location="update"`
    they are those of $g_t$, and $\Phi$ is taken of the fraction. With `amsgrad`, $v_t$ is replaced
    by the largest so far, *before* its bias is corrected; `optax.amsgrad` corrects first.

    Args:
      learning_rate: $\eta$, a number or a schedule of the step count, which starts at 0.
      b1: $\beta_1$, decay of the average of gradients.
      b2: $\beta_2$, decay of the average of squared gradients.
      eps: $\epsilon$, added outside the root, after the bias is corrected.
      weight_decay: $\lambda$, coupled.
      amsgrad: never let the denominator's $v$ shrink.
      location: what is centralized, the `"gradient"` (`_GC`) or the `"update"` (`_GC2`).
      axes: where the fan-in is, as for `optax_gc.centralize`.
      conv_only: centralize convolution kernels only, the authors' `_GCC` and `_GCC2`.

    Returns:
      A gradient transformation; with weight decay its `update` needs `params`.

    Raises:
      ValueError: `location` is another word; an argument is negative.

    Example:
      >>> import jax.numpy as jnp, optax_gc
      >>> tx = optax_gc.official.adam_gc(0.5, location="update")
      >>> params = {"kernel": jnp.array([[1.0], [2.0], [3.0], [4.0]])}
      >>> grads = {"kernel": jnp.array([[-5.0], [1.0], [3.0], [1.0]])}
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> [round(step, 3) for step in updates["kernel"].ravel().tolist()]
      [0.75, -0.25, -0.25, -0.25]

    References:
      See the module's.
    """
    _refuse_negative(learning_rate=learning_rate, b1=b1, b2=b2, eps=eps)
    if amsgrad:
        moments = _scale_by_biased_moments(b1, b2, eps, amsgrad=True, eps_is_corrected=True)
        steps = [moments, _correct_bias(b1, b2)]
    else:
        steps = [optax.scale_by_adam(b1, b2, eps)]
    return optax.chain(
        _decay(weight_decay),
        *_centralized(location, centralize(axes, conv_only=conv_only), steps),
        optax.scale_by_learning_rate(learning_rate),
    )


def adamw_gc(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    *,
    weight_decay: ArrayLike = 0.0,
    amsgrad: bool = False,
    location: Location = "gradient",
    axes: Axes = None,
    conv_only: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""The authors' `AdamW_GC`, `AdamW_GCC`, `AdamW_GC2` and `AdamW_GCC2`: Adam, decoupled decay.

    $$w_{t+1} = w_t - \eta_t \frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}
    \left(\frac{m_t}{\sqrt{v_t} + \epsilon} + \lambda w_t\right)$$

    This is not `optax.adamw`: $\epsilon$ is added *before* the bias is corrected, which weighs it
    more in the first steps, and the correction scales the decay as well: by 0.32 at the first step,
    by 0.15 at the twelfth, by 0.99 only after 3,900 (at the default betas). At `location="update"`
    the whole bracket is centralized, its decay with it, and each unit's fan-in mean never moves.

    Args:
      learning_rate: $\eta$, a number or a schedule of the step count; it scales the decay too.
      b1: $\beta_1$, decay of the average of gradients.
      b2: $\beta_2$, decay of the average of squared gradients.
      eps: $\epsilon$, added outside the root, before the bias is corrected.
      weight_decay: $\lambda$, decoupled. The authors' default is 0; `optax.adamw`'s is 1e-4.
      amsgrad: never let the denominator's $v$ shrink.
      location: what is centralized, the `"gradient"` (`_GC`) or the `"update"` (`_GC2`).
      axes: where the fan-in is, as for `optax_gc.centralize`.
      conv_only: centralize convolution kernels only, the authors' `_GCC` and `_GCC2`.

    Returns:
      A gradient transformation; with weight decay its `update` needs `params`.

    Raises:
      ValueError: `location` is another word; an argument is negative.

    Example:
      >>> import jax.numpy as jnp, optax_gc
      >>> tx = optax_gc.official.adamw_gc(0.5, location="update")
      >>> params = {"kernel": jnp.array([[1.0], [2.0], [3.0], [4.0]])}
      >>> grads = {"kernel": jnp.array([[-5.0], [1.0], [3.0], [1.0]])}
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> [round(step, 3) for step in updates["kernel"].ravel().tolist()]
      [0.75, -0.25, -0.25, -0.25]

    References:
      See the module's.
    """
    _refuse_negative(learning_rate=learning_rate, b1=b1, b2=b2, eps=eps)
    moments = _scale_by_biased_moments(b1, b2, eps, amsgrad=amsgrad, eps_is_corrected=False)
    steps = [moments, _decay(weight_decay)]
    return optax.chain(
        *_centralized(location, centralize(axes, conv_only=conv_only), steps),
        _correct_bias(b1, b2),
        optax.scale_by_learning_rate(learning_rate),
    )


def adagrad_gc(
    learning_rate: optax.ScalarOrSchedule = 1e-2,
    eps: ArrayLike = 1e-10,
    *,
    lr_decay: ArrayLike = 0.0,
    weight_decay: ArrayLike = 0.0,
    axes: Axes = None,
    conv_only: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""The authors' `Adagrad_GC` and `Adagrad_GCC`: L2 decay, then centralization, then Adagrad.

    $$g_t = \Phi(\nabla L + \lambda w_t),\quad s_t = s_{t-1} + g_t^2,\quad
    w_{t+1} = w_t - \frac{\eta_t}{1 + (t-1)\,\gamma}\,\frac{g_t}{\sqrt{s_t} + \epsilon}$$

    The sum starts from 0 and $\epsilon$ is outside the root, so the first step is $\eta$ times the
    gradient's sign; `optax.adagrad` starts from 0.1 and has $\epsilon$ inside.

    Args:
      learning_rate: $\eta$, a number or a schedule of the step count, which starts at 0.
      eps: $\epsilon$.
      lr_decay: $\gamma$; divides a schedule's rate as it does a constant one.
      weight_decay: $\lambda$, coupled: it is centralized with the gradient.
      axes: where the fan-in is, as for `optax_gc.centralize`.
      conv_only: centralize convolution kernels only, the authors' `Adagrad_GCC`.

    Returns:
      A gradient transformation; with weight decay its `update` needs `params`.

    Raises:
      ValueError: an argument is negative.

    Example:
      >>> import jax.numpy as jnp, optax_gc
      >>> tx = optax_gc.official.adagrad_gc(0.5)
      >>> params = {"kernel": jnp.zeros((2, 1))}
      >>> grads = {"kernel": jnp.array([[1.0], [3.0]])}
      >>> tx.update(grads, tx.init(params))[0]["kernel"].tolist()
      [[0.5], [-0.5]]

    References:
      See the module's.
    """
    _refuse_negative(learning_rate=learning_rate, eps=eps, lr_decay=lr_decay)
    return optax.chain(
        _decay(weight_decay),
        centralize(axes, conv_only=conv_only),
        _scale_by_adagrad(eps),
        optax.scale_by_learning_rate(_decayed_rate(learning_rate, lr_decay)),
    )


def _is_zero(value: Any) -> bool:
    """Zero already when the optimizer is built; `optax.inject_hyperparams` hands in arrays."""
    return isinstance(value, int | float) and value == 0


def _refuse_negative(**arguments: Any) -> None:
    for name, value in arguments.items():
        if isinstance(value, int | float) and value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")


def _decay(weight_decay: ArrayLike) -> optax.GradientTransformation:
    _refuse_negative(weight_decay=weight_decay)
    return optax.identity() if _is_zero(weight_decay) else optax.add_decayed_weights(weight_decay)


def _momentum(
    momentum: ArrayLike, dampening: ArrayLike, nesterov: bool
) -> optax.GradientTransformation:
    _refuse_negative(momentum=momentum)
    dampened = isinstance(dampening, int | float) and dampening != 0
    if nesterov and (_is_zero(momentum) or dampened):
        raise ValueError(
            "nesterov needs a momentum above zero and no dampening, got "
            f"momentum={momentum} and dampening={dampening}"
        )
    if _is_zero(momentum):
        return optax.identity()
    if _is_zero(dampening):
        return optax.trace(momentum, nesterov)
    first_whole = optax.scale_by_schedule(lambda count: jnp.where(count == 0, 1, 1 - dampening))
    return optax.chain(first_whole, optax.trace(momentum, nesterov))


def _centralized(
    location: Location,
    gc: optax.GradientTransformation,
    steps: list[optax.GradientTransformation],
) -> list[optax.GradientTransformation]:
    if location not in ("gradient", "update"):
        raise ValueError(f'location must be "gradient" or "update", got {location!r}')
    return [gc, *steps] if location == "gradient" else [*steps, gc]


def _decayed_rate(
    learning_rate: optax.ScalarOrSchedule, lr_decay: ArrayLike
) -> optax.ScalarOrSchedule:
    def schedule(count):
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        return rate / (1 + count * lr_decay)

    return learning_rate if _is_zero(lr_decay) else schedule


def _scale_by_biased_moments(
    b1: ArrayLike, b2: ArrayLike, eps: ArrayLike, *, amsgrad: bool, eps_is_corrected: bool
) -> optax.GradientTransformation:
    """Adam's quotient m / (sqrt(v) + eps) of moments whose bias is still in them.

    Where `eps_is_corrected`, eps shrinks by what `_correct_bias` will grow the quotient by, so that
    the two together add eps as `optax.adam` does.
    """

    def init_fn(params):
        mu, nu, nu_max = (optax.tree.zeros_like(params) for _ in range(3))
        count = jnp.zeros([], jnp.int32)
        return optax.ScaleByAmsgradState(count, mu, nu, nu_max if amsgrad else None)

    def update_fn(updates, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu) if amsgrad else None
        added = eps * jnp.sqrt(1 - b2**count) if eps_is_corrected else eps
        updates = jax.tree.map(
            lambda m, v: m / (jnp.sqrt(v) + jnp.asarray(added, v.dtype)),
            mu,
            nu_max if amsgrad else nu,
        )
        return updates, optax.ScaleByAmsgradState(count, mu, nu, nu_max)

    return optax.GradientTransformation(init_fn, update_fn)


def _correct_bias(b1: ArrayLike, b2: ArrayLike) -> optax.GradientTransformation:
    return optax.scale_by_schedule(
        lambda count: jnp.sqrt(1 - b2 ** (count + 1)) / (1 - b1 ** (count + 1))
    )


def _scale_by_adagrad(eps: ArrayLike) -> optax.GradientTransformation:
    """`optax.scale_by_rss` from 0, with eps outside the root."""

    def init_fn(params):
        return optax.ScaleByRssState(optax.tree.zeros_like(params))

    def update_fn(updates, state, params=None):
        del params
        total = jax.tree.map(lambda s, g: s + (g.conj() * g).real, state.sum_of_squares, updates)
        updates = jax.tree.map(
            lambda g, s: g / (jnp.sqrt(s) + jnp.asarray(eps, s.dtype)), updates, total
        )
        return updates, optax.ScaleByRssState(total)

    return optax.GradientTransformation(init_fn, update_fn)
