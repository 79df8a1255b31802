"""Run by Stable Diffusion WebUI when it starts: installs what is missing, and changes no version that is there.

ComfyUI-Manager runs a file of this name too, after `requirements.txt`: without a WebUI it does nothing.
"""

import tempfile
from pathlib import Path

from quantface_webui.needs import held, missing


def main():
    wanted = missing()
    if not wanted:
        return
    try:
        from launch import run_pip
    except ImportError:
        return
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "held.txt"
        constraints.write_text(held(), encoding="utf-8")
        packages = " ".join(f'"{name}"' for name in wanted)
        run_pip(f'install {packages} --constraint "{constraints}"', "what QuantFace needs")


main()
