"""POST /quantface/restore and GET /quantface/models, beside the host's own API."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from quantface_core.errors import ImageError, ModelError, QuantFaceError, UsageError
from quantface_core.io.model_menu import strip_mark

from . import host
from .restore import applicable, choices, restore
from .scratches import repair
from .settings import NAMES, read_settings

if TYPE_CHECKING:
    from quantface_core.io.photos import Photo

    from .restore import Pixels

_STATUS: dict[type[Exception], int] = {ImageError: 400, ModelError: 404, UsageError: 422, host.Interrupted: 409}


def add_routes(_: Any, app: Any) -> None:
    """For `on_app_started`: with --api only, and with its logins if any are set."""
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
        except (ValueError, RecursionError):
            values = None
        return await run_in_threadpool(_answered, lambda: answer(values), JSONResponse)

    restore_route.__annotations__["request"] = Request  # FastAPI would look the name up in this module

    def models_route() -> Any:
        return _answered(lambda: {"models": [strip_mark(name) for name in choices()]}, JSONResponse)

    server = getattr(shared, "api", app)  # SD.Next's asks for the logins of --auth
    server.add_api_route("/quantface/restore", restore_route, methods=["POST"], dependencies=guard)
    server.add_api_route("/quantface/models", models_route, methods=["GET"], dependencies=guard)


def answer(request: Any) -> dict[str, Any]:
    """Restore a request's image: returns base64 PNG, faces and infotext. Raises QuantFaceError, host.Interrupted."""
    from modules import call_queue, shared

    if not isinstance(request, dict):
        raise UsageError(f"send a JSON object with image and, optionally, scratches, {', '.join(NAMES)}")
    values = dict(request)
    photo, scratches = decode(values.pop("image", None)), values.pop("scratches", None)
    if not isinstance(scratches, bool | None):
        raise UsageError(f"scratches must be true or false, got {scratches!r:.60}")
    settings = applicable(read_settings(values))
    with call_queue.queue_lock:
        shared.state.begin("QuantFace")
        shared.state.job_count = 1
        shared.state.nextjob()
        try:
            pixels = cast("Pixels", repair(photo.pixels).pixels if scratches else photo.pixels)  # 8 bits by `decode`
            result = restore(pixels, settings)
        finally:
            shared.state.end()
    return {
        "image": encode(replace(photo, pixels=result.pixels)),
        "faces": [face.to_dict() for face in result.faces],
        "restored": list(result.restored),
        "unchanged": result.unchanged,
        "info": settings.infotext(),
    }


def decode(text: Any) -> Photo:
    """Decode an image from base64, in lines or not, with or without a data URL's prefix: upright, 8 bits per channel.

    Raises ImageError.
    """
    from quantface_core.io.photos import decode_photo
    from quantface_core.io.photos.channels import to_uint8

    if not isinstance(text, str) or not text:
        raise ImageError("image: send an image as base64")
    try:
        content = base64.b64decode("".join((text.partition("base64,")[2] or text).split()), validate=True)
    except ValueError as error:
        raise ImageError(f"image: not valid base64 ({error!s:.100})") from None
    try:
        photo = decode_photo(content)
    except ImageError as error:
        raise ImageError(f"image: {error}") from None
    return to_uint8(photo)[0]


def encode(photo: Photo) -> str:
    """Encode an image as base64 PNG: transparency and colour profile, but no camera data or text."""
    from quantface_core.io.photos import Photo, encode_photo

    encoded, _ = encode_photo(Photo(photo.pixels, photo.alpha, photo.gray, photo.icc), ".png")
    return base64.b64encode(encoded).decode()


def _answered(work: Callable[[], dict[str, Any]], response: Any) -> Any:
    """The work's result, or its error as a status and one line."""
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
