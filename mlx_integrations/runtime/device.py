"""What MLX says about this machine, without mlx-lm: importing that takes seconds, which a look at memory should not."""

from mlx_integrations.errors import MLXUnavailableError
from mlx_integrations.runtime.blas import preload_blas
from mlx_integrations.runtime.hardware import describe_machine, mlx_install_hint
from mlx_integrations.runtime.worker import get_worker
from mlx_integrations.types import Machine

__all__ = ["ask_mlx", "require_mlx"]


def ask_mlx(*, blas_preload: bool = True) -> Machine:
    """Describe this machine: as MLX sees it where MLX can be imported, else as the system does.

    Args:
        blas_preload: Whether to lend MLX a fast BLAS on a Linux CPU, which has to come before its first import.
    """
    return get_worker().call(_ask, blas_preload).result()


def require_mlx(*, blas_preload: bool = True) -> None:
    """Make sure that MLX can be imported, before anything is done that is of use only with it.

    Args:
        blas_preload: As for `ask_mlx`.

    Raises:
        MLXUnavailableError: It cannot.
    """
    get_worker().call(_require, blas_preload).result()


def _require(blas_preload: bool) -> None:
    """Worker thread only."""
    preload_blas(blas_preload)
    try:
        import mlx.core as mx
    except ImportError as error:
        raise MLXUnavailableError(f"MLX cannot be imported: {error}.", hint=mlx_install_hint()) from error
    mx.default_device()


def _ask(blas_preload: bool) -> Machine:
    """Worker thread only."""
    preload_blas(blas_preload)
    try:
        import mlx.core as mx
    except ImportError:
        return describe_machine()
    if mx.default_device().type == mx.DeviceType.cpu:
        return describe_machine(mx.device_info(), backend="cpu")
    return describe_machine(mx.device_info(), backend="metal" if mx.metal.is_available() else "cuda")
