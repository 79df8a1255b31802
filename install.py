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

from quantface_core.requirements import has_lost_files, install_command, pip_constraints, unmet_requirements


def main():
    install = by_hand if "--by-hand" in sys.argv else host_pip()
    if install:
        from quantface_webui.requirements import missing_requirements as wanted_requirements
    else:
        install, wanted_requirements = by_hand, wanted_by_comfyui
    wanted = wanted_requirements()
    lost = [requirement for requirement in wanted if has_lost_files(name_of(requirement))]
    others = [requirement for requirement in wanted if requirement not in lost]
    try:
        if lost:  # pip takes them for installed
            install_beside(pip_constraints(), f"--force-reinstall --no-deps {in_quotes(lost)}", install)
        if others:
            install_beside(pip_constraints(without=[name_of(one) for one in others]), in_quotes(others), install)
    except RuntimeError as error:  # the host's, with what pip said
        sys.exit(str(error))


def wanted_by_comfyui():
    wanted = unmet_requirements(Path(__file__).with_name("requirements.txt").read_text("utf-8"))
    print("QuantFace: installing", ", ".join(wanted) if wanted else "nothing, all it needs is here", flush=True)
    return wanted


def install_beside(constraints, what, install):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text(constraints, encoding="utf-8")
        install(f'{what} --constraint "{file}"')


def name_of(requirement):
    return re.match(r"[\w-]+", requirement)[0]


def in_quotes(requirements):
    return " ".join(f'"{requirement}"' for requirement in requirements)


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
