"""Where the fit loop computes: on which device and in which precision, chosen once before training begins.

Weights are float32 everywhere. In mixed precision torch multiplies in 16 bits where that is safe (Micikevicius et al. 2018) and
the loss, the gradients' sums and the weights stay in 32. Validation is always in full precision, as the packed model is.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch

from vitrail.engine import available_cores
from vitrail.errors import Problem, StudyError
from vitrail.settings import TrainingSettings

VOLTA = 7
"""From this compute capability on, NVIDIA's devices have units for products in float16."""


@dataclass(frozen=True)
class ComputeDevice:
    """A device of torch, and what products are computed in.

    Attributes:
        device: With its number, where there may be several.
        products: ``bfloat16``, ``float16``, or ``None`` for full precision.
    """

    device: torch.device
    products: torch.dtype | None = None

    @property
    def name(self) -> str:
        """Of the device, for people."""
        if self.device.type in ("cuda", "xpu"):
            return f"{getattr(torch, self.device.type).get_device_name(self.device)} ({self.device})"
        return {"cpu": "CPU", "mps": "Apple GPU (mps)"}.get(self.device.type, str(self.device))

    @property
    def precision(self) -> str:
        """For people: ``full`` or, for example, ``mixed (bfloat16)``."""
        return "full" if self.products is None else f"mixed ({str(self.products).removeprefix('torch.')})"

    def put(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor on the device; on the CPU it is the same tensor."""
        return tensor.to(self.device, non_blocking=True)

    def mixing(self) -> AbstractContextManager[object]:
        """Compute what is safe in 16 bits, while the context lasts; nothing changes in full precision."""
        return torch.autocast(self.device.type, dtype=self.products, enabled=self.products is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """Return what keeps small gradients from vanishing in float16; it does nothing in the other precisions."""
        return torch.amp.GradScaler(self.device.type, enabled=self.products is torch.float16)

    def own_randomness(self) -> AbstractContextManager[object]:
        """Leave torch's generators as they were when the context ends (Apple's devices: that of the CPU)."""
        if self.device.type in ("cuda", "xpu"):
            return torch.random.fork_rng(devices=[self.device.index], device_type=self.device.type)
        return torch.random.fork_rng(devices=[])

    def free(self) -> None:
        """Give back the device's memory that torch keeps for later: after a batch that did not fit it is in pieces."""
        if self.device.type != "cpu":
            getattr(torch, self.device.type).empty_cache()


def devices() -> tuple[torch.device, ...]:
    """Return the devices of this machine, the one that ``auto`` takes first; the CPU comes last."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of a driver that is too old; it then counts as no accelerator
        for kind in ("cuda", "xpu"):
            module = getattr(torch, kind)
            if module.is_available():
                found += [torch.device(kind, number) for number in range(module.device_count())]
        if torch.backends.mps.is_available():
            found.append(torch.device("mps"))
    return (*found, torch.device("cpu"))


def mixed_type(device: torch.device) -> torch.dtype | None:
    """Return the 16-bit type in which a device has units for products, by what torch knows of it; ``None``: it has none.

    bfloat16 has the range of float32 and needs no scaling; float16 is for NVIDIA's devices of before 2020, such as the T4.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            if torch.cuda.is_bf16_supported(including_emulation=False):
                return torch.bfloat16
        return torch.float16 if torch.cuda.get_device_capability(device)[0] >= VOLTA else None
    if device.type == "cpu":
        # Without such units bfloat16 is emulated, which is slower than float32. Older torch does not say: then none is assumed.
        known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return torch.bfloat16 if known.get("avx512_bf16") or known.get("amx_bf16") else None
    if device.type == "xpu":
        supported = getattr(torch.xpu, "is_bf16_supported", None)  # newer than the oldest torch that vitrail takes
        return torch.bfloat16 if supported is not None and supported(including_emulation=False) else None
    return torch.bfloat16


def choose_device(settings: TrainingSettings, *, source: str = "study", key: str = "training") -> ComputeDevice:
    """Choose device and precision as the settings wish.

    ``auto`` takes the first accelerator there is, and mixed precision on NVIDIA's and Intel's where they have units for it. It
    never mixes on the CPU, where the same seed gives the same weights bit for bit, nor on Apple's, where nobody has tried it.

    Args:
        settings: Of the training.
        source: What they come from, for the message.
        key: Path of the training settings, for the message.

    Raises:
        StudyError: This machine has no such device, or the device computes no faster in mixed precision.
    """
    there = devices()
    device = there[0]
    if settings.device not in (None, "auto"):
        wished = torch.device(settings.device)
        chosen = next((one for one in there if one.type == wished.type and wished.index in (None, one.index)), None)
        if chosen is None:
            rule = (
                f"must be a device of this machine as torch sees it: {', '.join(map(str, there))}. auto takes the first of them."
            )
            raise StudyError(source, (Problem(f"{key}.device", rule, settings.device),))
        device = chosen
    if settings.precision == "full":
        return ComputeDevice(device)
    products = mixed_type(device)
    if settings.precision == "mixed":
        if products is None:
            name = ComputeDevice(device).name
            rule = f"must be full or auto here: {name} has no units for products in 16 bits, mixed would be slower."
            raise StudyError(source, (Problem(f"{key}.precision", rule, "mixed"),))
        return ComputeDevice(device, products)
    return ComputeDevice(device, products if device.type in ("cuda", "xpu") else None)


def choose_devices(settings: TrainingSettings, *, source: str = "study", key: str = "training") -> tuple[ComputeDevice, ...]:
    """Choose all devices that share the steps, the first as :func:`choose_device` does; further ones are of its kind.

    Args:
        settings: Of the training.
        source: What they come from, for the message.
        key: Path of the training settings, for the message.

    Raises:
        StudyError: This machine has no such device, or fewer of them; or the device computes no faster in mixed precision.
    """
    first, count = choose_device(settings, source=source, key=key), settings.devices or 1
    if count == 1:
        return (first,)
    if not _can_exchange(first.device):
        rule = f"must be 1 here: this torch was built without what lets several {first.device.type} devices exchange tensors."
        raise StudyError(source, (Problem(f"{key}.devices", rule, str(count)),))
    if first.device.type == "cpu":
        there = (first.device,) * available_cores()
        what = "the number of processor cores that processes could share, as there is no accelerator in use"
    else:
        there = tuple(device for device in devices() if device.type == first.device.type)
        what = f"the number of its devices of this kind ({', '.join(map(str, there))})"
    if settings.device is not None and ":" in settings.device:
        rule = f"must be 1 where device names one of several. Write `device: {first.device.type}` for the first ones."
        raise StudyError(source, (Problem(f"{key}.devices", rule, f"{count} with device {settings.device}"),))
    if count > len(there):
        rule = f"must be at most {len(there)} on this machine, {what}."
        raise StudyError(source, (Problem(f"{key}.devices", rule, str(count)),))
    return tuple(replace(first, device=device) for device in there[:count])


def _can_exchange(device: torch.device) -> bool:
    if not torch.distributed.is_available():
        return False
    backend = torch.distributed.get_default_backend_for_device(device)
    return bool(torch.distributed.is_backend_available(backend))
