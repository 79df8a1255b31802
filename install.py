"""Installs what is missing, without changing any other installed version.

Stable Diffusion WebUI runs it when it starts; `python install.py --by-hand` does the same for those who start that with
--skip-install. Without a WebUI it is for ComfyUI: `python install.py`, by ComfyUI's own Python. ComfyUI-Manager runs it
after installing each line of `requirements.txt` by itself, which may end with versions that do not fit together.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the Python of ComfyUI's portable version leaves a script's folder out

from quantface_core.errors import install_command
from quantface_core.requirements import pip_constraints, unfit_requirements


def main():
    install = by_hand if "--by-hand" in sys.argv else host_pip()
    if install:
        from quantface_webui.requirements import missing_requirements

        wanted = missing_requirements()
    else:
        asked = Path(__file__).with_name("requirements.txt").read_text("utf-8")
        install, wanted = by_hand, unfit_requirements(asked)
        print("QuantFace: installing", ", ".join(wanted) if wanted else "nothing, all it needs is here", flush=True)
    if not wanted:
        return
    names = [re.match(r"[\w-]+", requirement)[0] for requirement in wanted]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text(pip_constraints(without=names), encoding="utf-8")
        try:
            install(" ".join(f'"{requirement}"' for requirement in wanted) + f' --constraint "{constraints}"')
        except RuntimeError as error:  # the host's, with what pip said
            sys.exit(str(error))


def host_pip():
    """The WebUI launcher's own way to run pip; None without a WebUI."""
    try:
        from launch import run_pip
    except ImportError:
        return None
    return lambda what: run_pip(f"install {what}", "what QuantFace needs")


def by_hand(what):
    if code := subprocess.run(install_command(what), shell=True).returncode:
        sys.exit(code)


main()
