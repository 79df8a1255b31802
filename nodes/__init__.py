"""The nodes of the ComfyUI pack, one thin file each; the work is done in `quantface_core`."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import host
from .allocate import AllocateBits
from .calibrate import CalibrateAndBalance
from .compare import CompareModels
from .crop import CropFaces
from .distill import QDLoRADistill
from .first_run import offer_examples
from .load import LoadModel
from .paste import PasteFaces
from .repair import RepairScratches
from .restore import RestoreFace
from .restore_video import RestoreVideo
from .save import SaveModel


class QuantFaceExtension(ComfyExtension):
    """The extension object from which ComfyUI gets the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            LoadModel, RestoreFace, RestoreVideo, RepairScratches, CropFaces, PasteFaces,
            AllocateBits, CalibrateAndBalance, QDLoRADistill, SaveModel, CompareModels,
        ]  # fmt: skip


async def comfy_entrypoint() -> QuantFaceExtension:
    host.register_folder()
    offer_examples()
    return QuantFaceExtension()
