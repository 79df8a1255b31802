"""Run by Stable Diffusion WebUI when it starts: installs what is missing, without changing any installed version.

`python install.py --by-hand` does the same without the WebUI, for those who start that with --skip-install.
ComfyUI-Manager runs a file of this name too, after `requirements.txt`: without a WebUI it does nothing.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the Python of ComfyUI's portable version leaves a script's folder out

from quantface_webui.requirements import BY_HAND, missing_requirements, pip_constraints


def main():
    wanted = missing_requirements()
    pip = run_by_hand if BY_HAND in sys.argv else host_pip()
    if not wanted or pip is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text(pip_constraints(), encoding="utf-8")
        packages = " ".join(f'"{name}"' for name in wanted)
        try:
            pip(f'install {packages} --constraint "{constraints}"', "what QuantFace needs")
        except RuntimeError as error:  # the host's, with what pip said
            sys.exit(str(error))


def host_pip():
    """The launcher's own way to run pip; None without a WebUI."""
    try:
        from launch import run_pip
    except ImportError:
        return None
    return run_pip


def run_by_hand(command, _):
    if code := subprocess.run(f'"{sys.executable}" -m pip {command}', shell=True).returncode:
        sys.exit(code)


main()
