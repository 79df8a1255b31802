"""The script that Stable Diffusion WebUI loads: it registers `quantface_webui` with the host.

The host instantiates every subclass of its script classes in this module, imported ones included: hence no `from`
imports of them. The extension's folder is on `sys.path` only while this file is loaded: hence all imports of ours at
its top.
"""

import sys
from pathlib import Path

from modules import script_callbacks, scripts, scripts_postprocessing

from quantface_webui.requirements import install_command, missing_requirements

if absent := missing_requirements():  # offline, or with --skip-install
    command = install_command(Path(__file__).parents[1] / "install.py")
    raise ImportError(f"QuantFace needs {', '.join(absent)}: run {command}, then restart the WebUI")

from quantface_webui import api, extras, generation, host, model_cache, scratches, xyz_plot


class QuantFaceExtras(scripts_postprocessing.ScriptPostprocessing):
    name = "QuantFace"
    order = 2100  # after GFPGAN

    def ui(self):
        return extras.controls()

    def process_firstpass(self, pp, enable=None, **values):
        extras.notice_original(pp, enable)

    def process(self, pp, enable=None, **values):
        extras.process(pp, enable, **values)


class QuantFaceScratches(scripts_postprocessing.ScriptPostprocessing):
    name = "Repair Scratches"
    order = 900  # before Upscale

    def ui(self):
        return scratches.controls()

    def process_firstpass(self, pp, enable=None):
        scratches.process(pp, enable)

    def process(self, pp, enable=None):
        scratches.process(pp, enable)


class QuantFaceInfotext(scripts.Script):
    """No controls: records in infotext how generated images' faces were restored."""

    def title(self):
        return "QuantFace infotext"

    def show(self, is_img2img):
        return host.restores_faces() and scripts.AlwaysVisible

    def process(self, p, *args):
        generation.add_infotext(p)


def _unload():
    """Before the scripts are reloaded, possibly as another version: remove everything of this one."""
    model_cache.drop()
    for name in [name for name in sys.modules if name.split(".")[0] in ("quantface_core", "quantface_webui")]:
        del sys.modules[name]


host.use_models_folder()
script_callbacks.on_after_component(extras.notice_source)
script_callbacks.on_app_started(api.add_routes)
script_callbacks.on_script_unloaded(_unload)
if host.restores_faces():
    generation.register_restorer()
    script_callbacks.on_before_ui(xyz_plot.add_axes)
    script_callbacks.on_ui_settings(generation.add_options)
    script_callbacks.on_infotext_pasted(generation.fill_in)
