from . import InputImpl as InputImpl
from . import io as io
from . import ui as ui

class ComfyExtension: ...
