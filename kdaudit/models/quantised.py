"""Quantisations that checkpoints are stored in: what each needs in order to be read here.

Source: the quantisers of transformers 5.23, which say what they ask for one by one, and not before weights are loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement

from kdaudit.errors import CheckpointError

GPU = "a GPU (CUDA)"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a quantisation needs."""

    packages: tuple[str, ...] = ()
    """As pip is told of them."""
    on_gpu: bool = False
    """Whether it computes on a GPU alone."""
    marks: tuple[str, ...] = ()
    """Ends of names, one of which a tensor has in every file of this kind; none where releases differ."""
    is_readable: bool = True
    """Whether transformers reads what was stored in it."""


METHODS: Mapping[str, Needs] = {
    "aqlm": Needs(("aqlm[gpu,cpu]",), marks=(".codes",)),
    "auto-round": Needs(("auto-round>=0.5.0",)),
    "awq": Needs(("gptqmodel",), marks=(".qweight",)),
    "compressed-tensors": Needs(("compressed-tensors>=0.15.0",)),
    "eetq": Needs(("kernels>=0.18.2,<0.19.0",), on_gpu=True, marks=(".weight_scales",)),
    "fbgemm_fp8": Needs(("fbgemm-gpu",), on_gpu=True, marks=("_scale",)),
    "fouroversix": Needs(("fouroversix",)),
    "fp8": Needs(marks=("_scale_inv", "_scale", ".scale")),
    "fp_quant": Needs(("fp_quant",), on_gpu=True),
    "gptq": Needs(("optimum>=1.24.0", "gptqmodel>=1.4.3"), marks=(".qweight",)),
    "higgs": Needs(("flute-kernel>=0.3.0", "fast_hadamard_transform"), on_gpu=True),
    "hqq": Needs(("hqq>=0.2.1",), on_gpu=True, marks=(".W_q",)),
    "mxfp4": Needs(marks=("_scales",)),
    "mxfp8": Needs(marks=("_scale_inv", "_scale", ".scale")),
    "nvfp4": Needs(is_readable=False),
    "quanto": Needs(("optimum-quanto",)),
    "quark": Needs(("amd-quark",)),
    "sinq": Needs(("sinq",)),
    "spqr": Needs(("spqr_quant[gpu]",), on_gpu=True),
    "torchao": Needs(("torchao>=0.15.0",)),
    "vptq": Needs(("vptq>=0.0.4",), on_gpu=True),
}
"""By quant_method in config.json. What is not here needs nothing beside transformers, or is bitsandbytes."""
WHOLE = "give the checkpoint as it was before it was quantised"


def check_readable_here(stored: str, name: str, device: str) -> None:
    """Refuse a quantisation whose packages or whose device are not there.

    Args:
        stored: the quantisation, as config.json names it.
        name: of the checkpoint.
        device: to compute on.

    Raises:
        CheckpointError: naming all of them, and how to install the packages.
    """
    needs = METHODS.get(stored, Needs())
    if not needs.is_readable:
        raise CheckpointError(f"{name} is stored quantised ({stored}), which transformers does not read", hint=WHOLE)
    lacking = [package for package in needs.packages if not _is_installed(package)]
    is_elsewhere = needs.on_gpu and not device.startswith("cuda")
    reasons = [f"needs {' and '.join(lacking)}, not installed here"] if lacking else []
    reasons += [f"computes on {GPU} alone, and the device is {device}"] if is_elsewhere else []
    if not reasons:
        return
    quoted = " ".join(f"'{package}'" if set(package) & set("[<>=") else package for package in lacking)
    ways = [f"pip install {quoted}"] if lacking else []
    ways += [f"run it on {GPU}"] if is_elsewhere else []
    raise CheckpointError(
        f"{name} is stored quantised ({stored}), which {' and '.join(reasons)}",
        hint=f"{' and '.join(ways)}; or {WHOLE}",
    )


def check_marked(stored: str, name: str, tensors: Collection[str]) -> None:
    """Refuse whole weights under a config.json that says they are packed.

    Args:
        stored: the quantisation, as config.json names it.
        name: of the checkpoint.
        tensors: names of those in its files.

    Raises:
        CheckpointError: no tensor is of this quantisation.
    """
    marks = METHODS.get(stored, Needs()).marks
    if marks and not any(tensor.endswith(marks) for tensor in tensors):
        raise CheckpointError(
            f"the config.json of {name} says that its weights are stored quantised ({stored}), and its files hold no "
            f"{' and no '.join(f'*{mark}' for mark in marks)}",
            hint="if its weights are whole, take quantization_config out of its config.json; else download it again",
        )


def _is_installed(package: str) -> bool:
    wanted = Requirement(package)
    try:
        return wanted.specifier.contains(version(wanted.name), prereleases=True)
    except PackageNotFoundError:
        return False
