"""POST /quantface/restore and GET /quantface/models, beside the host's own API."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from quantface_core.errors import ImageError, ModelError, QuantFaceError, UsageError
from quantface_core.io.model_menu import strip_mark

from . import host
from .restore import choices, restore
from .settings import NAMES, read_settings

if TYPE_CHECKING:
    from PIL import Image

_STATUS: dict[type[Exception], int] = {ImageError: 400, ModelError: 404, UsageError: 422, host.Interrupted: 409}


def add_routes(_: Any, app: Any) -> None:
    """For `on_app_started`: with --api only, and with its password where one is set."""
    from fastapi import Depends, Request
    from fastapi.concurrency import run_in_threadpool
    from fastapi.responses import JSONResponse
    from fastapi.security import HTTPBasic
    from modules import shared

    if not (shared.cmd_opts.api or shared.cmd_opts.nowebui):
        return
    guard = [Depends(_guard(shared.cmd_opts.api_auth, HTTPBasic()))] if shared.cmd_opts.api_auth else []

    async def restore_route(request: Any) -> Any:
        try:
            values = await request.json()
        except ValueError:
            values = None
        return await run_in_threadpool(_answered, lambda: answer(values), JSONResponse)

    restore_route.__annotations__["request"] = Request  # it would look for the name among this file's

    def models_route() -> Any:
        return _answered(lambda: {"models": [strip_mark(name) for name in choices()]}, JSONResponse)

    app.add_api_route("/quantface/restore", restore_route, methods=["POST"], dependencies=guard)
    app.add_api_route("/quantface/models", models_route, methods=["GET"], dependencies=guard)


def answer(request: Any) -> dict[str, Any]:
    """What a request's picture becomes: base64 PNG, the faces, infotext. Raises QuantFaceError, host.Interrupted."""
    import numpy as np
    from modules import call_queue, shared
    from PIL import Image

    if not isinstance(request, dict):
        raise UsageError(f"give a JSON object with image, and any of {', '.join(NAMES)}")
    values = dict(request)
    picture = decode(values.pop("image", None))
    settings = read_settings(values)
    pixels = np.array(picture.convert("RGB"))
    with call_queue.queue_lock:
        shared.state.begin(job="QuantFace")
        shared.state.job_count = 1
        shared.state.nextjob()
        try:
            result = restore(pixels, settings)
        finally:
            shared.state.end()
    image = Image.fromarray(result.pixels)
    if "A" in picture.getbands():
        image.putalpha(picture.getchannel("A"))
    return {
        "image": encode(image),
        "faces": [face.to_dict() for face in result.faces],
        "restored": list(result.restored),
        "info": settings.infotext(),
    }


def decode(text: Any) -> Image.Image:
    """A picture from base64, with or without the head of a data URL. Raises ImageError."""
    from PIL import Image, ImageOps

    if not isinstance(text, str) or not text:
        raise ImageError("image: give a picture as base64")
    try:
        picture = Image.open(io.BytesIO(base64.b64decode(text.partition("base64,")[2] or text, validate=True)))
        picture.load()
        return ImageOps.exif_transpose(picture)
    except (binascii.Error, ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"image: no picture that can be read ({error!s:.100})") from None


def encode(picture: Image.Image) -> str:
    """A picture as base64 of a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _answered(work: Callable[[], dict[str, Any]], response: Any) -> Any:
    """The work's answer, or its error as a status and one line."""
    try:
        return work()
    except (QuantFaceError, host.Interrupted) as error:
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
        if status == 500:
            host.report(str(error))
        return response({"detail": str(error) or "interrupted"}, status)


def _guard(logins: str, scheme: Any) -> Callable[..., None]:
    """A FastAPI dependency that asks for one of the --api-auth logins, `name:password` with commas between."""
    from secrets import compare_digest

    from fastapi import Depends, HTTPException

    known = dict(login.strip().split(":", 1) for login in logins.split(","))

    def check(credentials: Any = Depends(scheme)) -> None:  # noqa: B008
        wanted = known.get(credentials.username)
        if wanted is None or not compare_digest(credentials.password.encode(), wanted.encode()):
            raise HTTPException(401, "Incorrect username or password", {"WWW-Authenticate": "Basic"})

    return check
