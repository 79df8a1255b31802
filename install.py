"""Run by Stable Diffusion WebUI when it starts: installs what is missing, without changing any installed version.

ComfyUI-Manager runs a file of this name too, after `requirements.txt`: without a WebUI it does nothing.
"""

import tempfile
from pathlib import Path

from quantface_webui.requirements import missing_requirements, pip_constraints


def main():
    wanted = missing_requirements()
    if not wanted:
        return
    try:
        from launch import run_pip
    except ImportError:
        return
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text(pip_constraints(), encoding="utf-8")
        packages = " ".join(f'"{name}"' for name in wanted)
        run_pip(f'install {packages} --constraint "{constraints}"', "what QuantFace needs")


main()
