"""Make the clip that the video template opens with: NASA's public-domain portrait of Eileen Collins under a slowly
moving camera, each frame degraded with a seed of its own.

    python training/make_demo_clip.py nasa_astronaut.png        # needs PyAV, which ComfyUI brings

Writes quantface_core/assets/astronaut.mp4.
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import cv2
import numpy as np

from quantface_core import read_photo
from quantface_core.degrade import Degradation, degrade

RECIPE = Degradation(
    blur_sigma=(1.0, 1.0), downscale=(2.0, 2.0), noise_sigma=(3.0, 3.0), jpeg_quality=(60, 60), second_order=0.0
)
FRAMES, RATE, SIZE = 16, 8, 384

photo = read_photo(Path(sys.argv[1])).pixels
target = Path(__file__).parent.parent / "quantface_core" / "assets" / "astronaut.mp4"
with av.open(str(target), "w") as clip:
    stream = clip.add_stream("libx264", rate=RATE)
    stream.width = stream.height = SIZE
    stream.pix_fmt, stream.options = "yuv420p", {"crf": "23", "preset": "veryslow"}
    for frame in range(FRAMES):
        along = frame / (FRAMES - 1)
        scale, shift = 1 + 0.1 * along, np.array([-60.0 - 20 * along, -10 - 16 * along])
        camera = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        seen = cv2.warpAffine(photo, camera, (SIZE, SIZE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
        picture = av.VideoFrame.from_ndarray(degrade(seen, seed=2026 + frame, recipe=RECIPE), format="rgb24")
        clip.mux(stream.encode(picture))
    clip.mux(stream.encode())
