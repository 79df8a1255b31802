"""Charts as images: what was measured, decided and learned, drawn with Pillow alone.

Every chart is a pure function returning uint8 [H, W, 3]: the same values give the same pixels.
"""

from .bits import draw_bits
from .canvas import save_chart
from .faces import draw_faces
from .layers import draw_layers
from .losses import draw_losses
from .numbered import draw_numbered

__all__ = ["draw_bits", "draw_faces", "draw_layers", "draw_losses", "draw_numbered", "save_chart"]
