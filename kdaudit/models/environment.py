"""Settings that torch, transformers and accelerate take from the environment: refused, or written down.

What would make a number another than the one that a manifest describes is refused. What only moves its last digits is
recorded. All others (where caches lie, whether the Hub is asked, what is logged) move none.

Source: the installed sources of torch 2.13, transformers 5.23 and accelerate 1.15, and their libraries' variables.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from kdaudit.errors import ConfigError

OFF = frozenset({"", "0", "false", "no", "off", "n", "f", "none"})

LOWERS = "computes float32 with fewer digits than float32 has"
EVERYWHERE: Mapping[str, tuple[Collection[str], str]] = {
    "ONEDNN_DEFAULT_FPMATH_MODE": (OFF | {"strict"}, LOWERS),
    "DNNL_DEFAULT_FPMATH_MODE": (OFF | {"strict"}, LOWERS),
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": (OFF, LOWERS),
    "NVIDIA_TF32_OVERRIDE": (OFF, LOWERS),
    "XLA_USE_BF16": (OFF, LOWERS),
    "XLA_DOWNCAST_BF16": (OFF, LOWERS),
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": (OFF, "lets pickled files run code; --allow-pickle is the way to read one"),
}
"""By name the values that change nothing, in lower case, and what any other does."""

ENGINE = "makes accelerate train by an engine of its own, which no manifest describes"
TRAINING: Mapping[str, tuple[Collection[str], str]] = {
    "ACCELERATE_DYNAMO_BACKEND": (OFF, "compiles the student"),
    **{
        f"ACCELERATE_USE_{name}": (OFF, ENGINE)
        for name in ("DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG", "SAGEMAKER")
    },
    "ACCELERATE_DOWNCAST_BF16": (OFF, LOWERS),
    "ACCELERATE_TORCH_DEVICE": ({""}, "puts the student on a device that --device does not name"),
}

SHARDING: Mapping[str, tuple[Collection[str], str, str]] = {
    "FSDP_VERSION": ({"2"}, "is not the FSDP2 that kdaudit trains by", "fsdp_version: 2"),
    "FSDP_CPU_RAM_EFFICIENT_LOADING": (
        OFF, "leaves all processes but one without weights, those of the teacher too",
        "fsdp_cpu_ram_efficient_loading: false",
    ),
    "FSDP_OFFLOAD_PARAMS": (
        OFF, "keeps the student on the CPU, which nobody has tried with kdaudit", "fsdp_offload_params: false",
    ),
    "FSDP_IGNORED_MODULES": ({""}, "leaves weights out of what the processes sum", "no fsdp_ignored_modules"),
    "FSDP_ACTIVATION_CHECKPOINTING": (
        OFF, "renames layers of the student (--gradient-checkpointing does the same work)",
        "fsdp_activation_checkpointing: false",
    ),
}  # fmt: skip
"""Under FSDP, by name: the values that are taken, in lower case, what any other does, and what to write instead."""

RECORDED = (
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "DISABLE_ADDMM_CUDA_LT", "DNNL_MAX_CPU_ISA",
    "FLASH_ATTENTION_DETERMINISTIC", "MKL_CBWR", "MKL_DYNAMIC", "MKL_ENABLE_INSTRUCTIONS", "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE", "OMP_DYNAMIC", "OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS", "PYTORCH_JIT", "PYTORCH_TENSOREXPR", "PYTORCH_TUNABLEOP_ENABLED",
    "TORCH_BLAS_PREFER_CUBLASLT", "TORCH_CUDNN_USE_HEURISTIC_MODE_B", "TORCH_CUDNN_V8_API_DISABLED",
    "TORCH_LINALG_PREFER_CUSOLVER", "TORCH_LINEAR_FLATTEN_3D", "TORCH_MKLDNN_MATMUL_MIN_DIM",
    "TORCH_MKLDNN_MATMUL_MIN_SIZE", "TRANSFORMERS_DISABLE_DEEPGEMM_LINEAR", "TRANSFORMERS_SDPA_FORCE_GQA",
    "USE_HUB_KERNELS",
)  # fmt: skip
"""Choose between ways of computing the same: the last digits move."""

MAX_SHOWN = 40


def check_environment() -> None:
    """Refuse what would change a score or a weight, and a torch that was set to other defaults before.

    Raises:
        ConfigError: naming the variable, its value and what it does.
    """
    import torch

    _refuse(EVERYWHERE)
    if torch.get_default_dtype() != torch.float32:
        raise ConfigError(
            f"torch's default dtype is {str(torch.get_default_dtype()).removeprefix('torch.')}, not float32",
            hint="something set it before kdaudit: a sitecustomize, or a checkpoint's own code",
        )
    if torch.get_float32_matmul_precision() != "highest":
        raise ConfigError(
            f"torch's precision of float32 products is '{torch.get_float32_matmul_precision()}', not 'highest'",
            hint="something set it before kdaudit: a sitecustomize, or a checkpoint's own code",
        )


def check_training_environment(*, gradient_accumulation: int) -> None:
    """Refuse what would make accelerate train otherwise than the options say; `check_environment` included.

    Raises:
        ConfigError: naming the variable, its value and what it does.
    """
    check_environment()
    parts = {*OFF, "auto", "1", str(gradient_accumulation)}
    split = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": (parts, "is not what --gradient-accumulation says")}
    _refuse({**TRAINING, **split})
    if is_sharded():
        for name, (taken, effect, wanted) in SHARDING.items():
            value = os.environ.get(name, "")
            if value.strip().lower() not in taken:
                raise ConfigError(
                    f"FSDP is asked for with {name} set to {value[:MAX_SHOWN]!r}: it {effect}",
                    hint=f"write {wanted} into accelerate's configuration file",
                )


def is_sharded() -> bool:
    """Whether accelerate is asked to cut the student over the processes."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").strip().lower() not in OFF


def check_precision(mixed_precision: str) -> None:
    """Refuse another mixed precision by accelerate than that of --dtype.

    Args:
        mixed_precision: no, bf16 or fp16, as --dtype decides.

    Raises:
        ConfigError: naming the way out.
    """
    wanted = os.environ.get("ACCELERATE_MIXED_PRECISION", "").lower()
    if wanted in {*OFF, mixed_precision}:
        return
    by_precision = {"bf16": "bfloat16", "fp16": "float16"}
    way = f", or give --dtype {by_precision[wanted]}" if wanted in by_precision else ""
    raise ConfigError(
        f"ACCELERATE_MIXED_PRECISION is {wanted[:MAX_SHOWN]!r}, and --dtype trains in "
        f"{by_precision.get(mixed_precision, 'float32')}",
        hint=f"launch with --mixed_precision no (accelerate's own configuration file may set it){way}",
    )


def recorded_environment() -> dict[str, str]:
    """The settings in force that move last digits, by name."""
    return {name: os.environ[name][:MAX_SHOWN] for name in RECORDED if os.environ.get(name)}


def n_threads() -> int:
    """Threads that compute on a CPU: a product of a few rows is summed in another order where their number changes."""
    import torch

    return torch.get_num_threads()


@contextmanager
def restored_environment() -> Iterator[None]:
    """Within it libraries may set variables, which else would decide over the next training in this process."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _refuse(settings: Mapping[str, tuple[Collection[str], str]]) -> None:
    for name, (harmless, effect) in settings.items():
        value = os.environ.get(name, "")
        if value.strip().lower() not in harmless:
            raise ConfigError(
                f"the environment sets {name} to {value[:MAX_SHOWN]!r}: it {effect}", hint=f"unset {name}"
            )
