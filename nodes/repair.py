"""Repair Scratches: the scratches, cracks and dust of an old print, in the whole image."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from . import host, previews
from .pictures import alpha_of, as_masks, as_pictures, check_count, merged, of_frame, to_pixels, with_alpha


class RepairScratches(io.ComfyNode):
    """Finds scratches in images and draws what was there."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_RepairScratches",
            display_name="Repair Scratches",
            description="Finds the scratches, cracks, creases and dust of old prints, anywhere in the image, and "
            "draws what was there. For scans of damaged photos, before Restore Face.",
            search_aliases=[
                "scratch removal", "old photo restoration", "dust removal", "crack removal", "inpaint scratches",
                "quantface", "老照片修复", "划痕",
            ],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="One image or a batch: scans of damaged photos."),
                io.Mask.Input("mask", optional=True,
                              tooltip="Repair the image only where this is white: paint around what is not damage."),
            ],
            outputs=[
                io.Image.Output("image_out", display_name="IMAGE",
                                tooltip="The repaired images, with their transparency."),
                io.Mask.Output("scratches", display_name="scratches",
                               tooltip="White where damage was found: to inpaint it by a diffusion model instead."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, image: torch.Tensor, mask: torch.Tensor | None = None) -> io.NodeOutput:
        from ..quantface_core.faces.scratches import repair_scratches

        images, masks, alpha = as_pictures(image), as_masks(mask), alpha_of(image)
        count, bar = len(images), host.Progress()
        if masks is not None:
            check_count("mask", len(masks), count)
        pictures, areas = [], []
        for index, frame in enumerate(images):
            pixels = to_pixels(frame)
            repair = repair_scratches(pixels, bar.part(index / count, (index + 1) / count))
            wanted = None if masks is None else of_frame(masks, index)
            picture, area = merged(repair.pixels, pixels, frame, repair.mask, wanted)
            pictures.append(with_alpha(picture, None if alpha is None else alpha[index]))
            areas.append(area)
        result, found = torch.stack(pictures), torch.stack(areas)
        notes = [] if found.any() else ["no scratches found" if masks is None else "no scratches found within the mask"]
        return io.NodeOutput(
            host.to_host(result), host.to_host(found), ui=previews.before_after(images, result, cls, notes)
        )
