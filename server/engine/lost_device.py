"""Errors after which a GPU answers no more call of this process.

Most failures of a call leave the device as it was: the pool is made anew and goes on.
After one of these the driver gives the same error to whatever is called next, until
the process has ended. So the process ends, and another one takes over.
"""

from __future__ import annotations

from typing import Final

from jax.errors import JaxRuntimeError

STICKY: Final = {
    "CUDA_ERROR_ILLEGAL_ADDRESS": "an illegal memory access was encountered",
    "CUDA_ERROR_LAUNCH_FAILED": "unspecified launch failure",
    "CUDA_ERROR_LAUNCH_TIMEOUT": "the launch timed out and was terminated",
    "CUDA_ERROR_ASSERT": "device-side assert triggered",
    "CUDA_ERROR_ECC_UNCORRECTABLE": "uncorrectable ECC error encountered",
    "CUDA_ERROR_NVLINK_UNCORRECTABLE": "uncorrectable NVLink error detected",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED": "context is destroyed",
    "CUDA_ERROR_HARDWARE_STACK_ERROR": "hardware stack error",
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": "an illegal instruction was encountered",
    "CUDA_ERROR_MISALIGNED_ADDRESS": "misaligned address",
    "CUDA_ERROR_INVALID_ADDRESS_SPACE": "operation not supported on global/shared",
    "CUDA_ERROR_INVALID_PC": "invalid program counter",
    "CUDA_ERROR_TENSOR_MEMORY_LEAK": "tensor memory not completely freed",
    "CUDA_ERROR_MPS_CLIENT_TERMINATED": "MPS client was terminated",
    "CUDA_ERROR_EXTERNAL_DEVICE": "failure on external device",
    "CUDA_ERROR_CONTAINED": "contained error",
}
"""The driver's names of these errors, and the texts by which libraries tell them."""


def loses_device(error: BaseException) -> bool:
    """Return whether an exception says that the device's context is of no use now."""
    if not isinstance(error, JaxRuntimeError):
        return False
    text = str(error)
    return any(name in text or said in text for name, said in STICKY.items())
