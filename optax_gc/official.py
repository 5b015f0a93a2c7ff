"""The optimizers that the authors of the paper published, reproduced step by step.

For most uses, an `optax.chain` with `centralize()` is enough. Use these optimizers to reproduce the
authors' experiments: weight decay, epsilon and learning rate are applied in the same order as in
their code. Their `_GC` and `_GCC` classes are `conv_only=False` and `conv_only=True` here; their
`_GC2` and `_GCC2` classes are `location="update"`.

References:
  Yong et al., Gradient Centralization: A New Optimization Technique for Deep Neural Networks,
  ECCV 2020, https://arxiv.org/abs/2004.01461, and the code that the authors published with it,
  https://github.com/Yonghongwei/Gradient-Centralization
"""

import optax
from jax.typing import ArrayLike

from optax_gc import _official_transforms as transforms
from optax_gc._centralize import centralize
from optax_gc._decay import decay_and_centralize
from optax_gc._official_transforms import Location
from optax_gc._plan import Axes

__all__ = ["Location", "adagrad_gc", "adam_gc", "adamw_gc", "sgd_gc", "sgdw_gc"]


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
    r"""Return the authors' `SGD_GC` or `SGD_GCC`: L2 decay, then centralization, then momentum.

    Here $\Phi$ is the centralization, $\mu$ the momentum, $\delta$ the dampening and $\lambda$ the
    weight decay:

    $$g_t = \Phi(\nabla L + \lambda w_t),\quad b_1 = g_1,\quad b_t = \mu b_{t-1} + (1-\delta) g_t,
    \quad w_{t+1} = w_t - \eta_t b_t$$

    With `nesterov`, the step is $g_t + \mu b_t$ instead of $b_t$. Every part of the step is
    centralized, so the fan-in mean of each unit does not change.

    Args:
      learning_rate: $\eta$, a number or a schedule of the step count, which starts at 0.
      momentum: $\mu$. With 0 there is no buffer, and dampening has no effect.
      dampening: $\delta$. The first gradient is not dampened, as in PyTorch.
      weight_decay: $\lambda$, coupled: it is centralized with the gradient.
      nesterov: Whether to use Nesterov momentum.
      axes: The fan-in axes, as for `optax_gc.centralize`.
      conv_only: Whether to centralize convolution kernels only, as the authors' `SGD_GCC`.

    Returns:
      A gradient transformation. With weight decay, its `update` needs `params`.

    Raises:
      ValueError: If a number is negative, or if `nesterov` is used without momentum or with
        dampening.

    Examples:
      >>> import jax.numpy as jnp, optax_gc
      >>> tx = optax_gc.official.sgd_gc(0.5, momentum=0.9, weight_decay=0.25)
      >>> params = {"kernel": jnp.array([[8.0], [16.0]])}
      >>> grads = {"kernel": jnp.array([[1.0], [3.0]])}
      >>> tx.update(grads, tx.init(params), params)[0]["kernel"].tolist()
      [[1.0], [-1.0]]

    References:
      See the module docstring.
    """
    transforms.check_not_negative(learning_rate=learning_rate)
    return optax.chain(
        decay_and_centralize(weight_decay, axes, conv_only=conv_only),
        transforms.add_momentum(momentum, dampening, nesterov),
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
    r"""Return the authors' `SGDW_GC` or `SGDW_GCC`: centralization, momentum, decoupled decay.

    $$w_{t+1} = w_t - \eta_t (b_t + \lambda w_t)$$

    with $b_t$ as in `sgd_gc`, computed from $\Phi(\nabla L)$ only. The decay is not centralized, so
    the fan-in mean of each unit is multiplied by $1 - \eta_t\lambda$ at every step.

    Args:
      learning_rate: $\eta$, a number or a schedule of the step count. It scales the decay too.
      momentum: As for `sgd_gc`.
      dampening: As for `sgd_gc`.
      weight_decay: $\lambda$, decoupled.
      nesterov: As for `sgd_gc`.
      axes: The fan-in axes, as for `optax_gc.centralize`.
      conv_only: Whether to centralize convolution kernels only, as the authors' `SGDW_GCC`.

    Returns:
      A gradient transformation. With weight decay, its `update` needs `params`.

    Raises:
      ValueError: As `sgd_gc` does.

    Examples:
      >>> import jax.numpy as jnp, optax_gc
      >>> tx = optax_gc.official.sgdw_gc(0.5, momentum=0.9, weight_decay=0.25)
      >>> params = {"kernel": jnp.array([[8.0], [16.0]])}
      >>> grads = {"kernel": jnp.array([[1.0], [3.0]])}
      >>> tx.update(grads, tx.init(params), params)[0]["kernel"].tolist()
      [[-0.5], [-2.5]]

    References:
      See the module docstring.
    """
    transforms.check_not_negative(learning_rate=learning_rate)
    return optax.chain(
        centralize(axes, conv_only=conv_only),
        transforms.add_momentum(momentum, dampening, nesterov),
        transforms.add_weight_decay(weight_decay),
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
    r"""Return the authors' `Adam_GC`, `Adam_GCC`, `Adam_GC2` or `Adam_GCC2`: Adam with L2 decay.

    $$g_t = \nabla L + \lambda w_t,\qquad
    w_{t+1} = w_t - \eta_t \frac{m_t / (1-\beta_1^t)}{\sqrt{v_t / (1-\beta_2^t)} + \epsilon}$$

    $m_t$ and $v_t$ are the moving averages of $\Phi(g_t)$ and of its square. With
    `location="update"` they are those of $g_t$, and $\Phi$ is applied to the fraction. With
    `amsgrad`, $v_t$ is replaced by its maximum over all steps *before* the bias correction, unlike
    in `optax.amsgrad`, which corrects the bias first.

    Args:
      learning_rate: $\eta$, a number or a schedule of the step count, which starts at 0.
      b1: $\beta_1$, the decay rate of the average of gradients.
      b2: $\beta_2$, the decay rate of the average of squared gradients.
      eps: $\epsilon$, added outside the square root, after the bias correction.
      weight_decay: $\lambda$, coupled.
      amsgrad: Whether to use the maximum of $v$ in the denominator.
      location: What is centralized: the `"gradient"` (`_GC`) or the `"update"` (`_GC2`).
      axes: The fan-in axes, as for `optax_gc.centralize`.
      conv_only: Whether to centralize convolution kernels only, as the authors' `_GCC` and `_GCC2`.

    Returns:
      A gradient transformation. With weight decay, its `update` needs `params`.

    Raises:
      ValueError: If `location` is not one of the two values, or if a number is negative.

    Examples:
      >>> import jax.numpy as jnp, optax_gc
      >>> tx = optax_gc.official.adam_gc(0.5, location="update")
      >>> params = {"kernel": jnp.array([[1.0], [2.0], [3.0], [4.0]])}
      >>> grads = {"kernel": jnp.array([[-5.0], [1.0], [3.0], [1.0]])}
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> [round(step, 3) for step in updates["kernel"].ravel().tolist()]
      [0.75, -0.25, -0.25, -0.25]

    References:
      See the module docstring.
    """
    transforms.check_not_negative(learning_rate=learning_rate, b1=b1, b2=b2, eps=eps)
    if amsgrad:
        moments = transforms.scale_by_uncorrected_adam(b1, b2, eps, amsgrad=True, scale_eps=True)
        steps = [moments, transforms.correct_bias(b1, b2)]
    else:
        steps = [optax.scale_by_adam(b1, b2, eps)]
    return optax.chain(
        transforms.add_weight_decay(weight_decay),
        *transforms.place_centralize(location, centralize(axes, conv_only=conv_only), steps),
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
    r"""Return the authors' `AdamW_GC`, `AdamW_GCC`, `AdamW_GC2` or `AdamW_GCC2`.

    Adam with decoupled weight decay:

    $$w_{t+1} = w_t - \eta_t \frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}
    \left(\frac{m_t}{\sqrt{v_t} + \epsilon} + \lambda w_t\right)$$

    This differs from `optax.adamw`. $\epsilon$ is added *before* the bias correction, so it has
    more weight in the first steps. The bias correction also scales the decay: with the default
    betas by 0.32 at step 1, by 0.15 at step 12, and by 0.99 only after 3,900 steps. With
    `location="update"`, the whole bracket is centralized, including the decay, and the fan-in mean
    of each unit does not change.

    Args:
      learning_rate: $\eta$, a number or a schedule of the step count. It scales the decay too.
      b1: $\beta_1$, the decay rate of the average of gradients.
      b2: $\beta_2$, the decay rate of the average of squared gradients.
      eps: $\epsilon$, added outside the square root, before the bias correction.
      weight_decay: $\lambda$, decoupled. The authors' default is 0; the default of `optax.adamw` is
        1e-4.
      amsgrad: Whether to use the maximum of $v$ in the denominator.
      location: What is centralized: the `"gradient"` (`_GC`) or the `"update"` (`_GC2`).
      axes: The fan-in axes, as for `optax_gc.centralize`.
      conv_only: Whether to centralize convolution kernels only, as the authors' `_GCC` and `_GCC2`.

    Returns:
      A gradient transformation. With weight decay, its `update` needs `params`.

    Raises:
      ValueError: If `location` is not one of the two values, or if a number is negative.

    Examples:
      >>> import jax.numpy as jnp, optax_gc
      >>> tx = optax_gc.official.adamw_gc(0.5, location="update")
      >>> params = {"kernel": jnp.array([[1.0], [2.0], [3.0], [4.0]])}
      >>> grads = {"kernel": jnp.array([[-5.0], [1.0], [3.0], [1.0]])}
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> [round(step, 3) for step in updates["kernel"].ravel().tolist()]
      [0.75, -0.25, -0.25, -0.25]

    References:
      See the module docstring.
    """
    transforms.check_not_negative(learning_rate=learning_rate, b1=b1, b2=b2, eps=eps)
    moments = transforms.scale_by_uncorrected_adam(b1, b2, eps, amsgrad=amsgrad, scale_eps=False)
    steps = [moments, transforms.add_weight_decay(weight_decay)]
    return optax.chain(
        *transforms.place_centralize(location, centralize(axes, conv_only=conv_only), steps),
        transforms.correct_bias(b1, b2),
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
    r"""Return the authors' `Adagrad_GC` or `Adagrad_GCC`: L2 decay, centralization, Adagrad.

    $$g_t = \Phi(\nabla L + \lambda w_t),\quad s_t = s_{t-1} + g_t^2,\quad
    w_{t+1} = w_t - \frac{\eta_t}{1 + (t-1)\,\gamma}\,\frac{g_t}{\sqrt{s_t} + \epsilon}$$

    The sum starts from 0 and $\epsilon$ is outside the square root, so the first step is $\eta$
    times the sign of the gradient. `optax.adagrad` starts from 0.1 and has $\epsilon$ inside.

    Args:
      learning_rate: $\eta$, a number or a schedule of the step count, which starts at 0.
      eps: $\epsilon$.
      lr_decay: $\gamma$. It applies to a schedule in the same way as to a constant.
      weight_decay: $\lambda$, coupled: it is centralized with the gradient.
      axes: The fan-in axes, as for `optax_gc.centralize`.
      conv_only: Whether to centralize convolution kernels only, as the authors' `Adagrad_GCC`.

    Returns:
      A gradient transformation. With weight decay, its `update` needs `params`.

    Raises:
      ValueError: If a number is negative.

    Examples:
      >>> import jax.numpy as jnp, optax_gc
      >>> tx = optax_gc.official.adagrad_gc(0.5)
      >>> params = {"kernel": jnp.zeros((2, 1))}
      >>> grads = {"kernel": jnp.array([[1.0], [3.0]])}
      >>> tx.update(grads, tx.init(params))[0]["kernel"].tolist()
      [[0.5], [-0.5]]

    References:
      See the module docstring.
    """
    transforms.check_not_negative(learning_rate=learning_rate, eps=eps, lr_decay=lr_decay)
    return optax.chain(
        decay_and_centralize(weight_decay, axes, conv_only=conv_only),
        transforms.scale_by_adagrad(eps),
        optax.scale_by_learning_rate(transforms.decayed_learning_rate(learning_rate, lr_decay)),
    )
