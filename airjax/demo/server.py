"""Serves the page, by default to this machine only, and leaves no files."""

import errno
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airjax.console import console
from airjax.demo.run_choice import RunChoice
from airjax.demo.solids import SolidsExhibit
from airjax.demo.uploads import MAX_BYTES
from airjax.errors import InputError
from airjax.interrupt import Interrupt

# a browser sends nothing to any other address, whatever gradio's version asks for
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; "
    "base-uri 'self'; frame-ancestors 'self'"
)
FONTS = ["Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]  # the system's own
READABLE = {"body_text_color_subdued": "*neutral_600", "block_info_text_color": "*neutral_600"}
PRIVATE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",  # drawings are not kept in the browser either
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


class OwnAddressOnly:
    """ASGI middleware: adds the header that keeps a browser from asking other servers."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", POLICY.encode())
                message = {**message, "headers": [*message.get("headers", []), policy]}
            await send(message)

        await self.app(scope, receive, with_policy)


def serve(shown: RunChoice | SolidsExhibit, host: str, port: int | None) -> None:
    """Serves the page until the process is asked to stop (Ctrl-C).

    Args:
        shown: content of the page.
        host: address to listen on.
        port: to listen on (default: the first free one from 7860).
    """
    with running(shown, host, port) as url, Interrupt() as interrupt:
        console.print(f"the page is at {url} (Ctrl-C ends it)", soft_wrap=True)
        while interrupt.signum is None:
            time.sleep(0.1)


@contextmanager
def running(shown: RunChoice | SolidsExhibit, host: str, port: int | None) -> Iterator[str]:
    """The page's address, while it is served."""
    with tempfile.TemporaryDirectory(prefix="airjax-demo-") as folder:
        # read when gradio is imported; uploads arrive in the folder
        os.environ.update(PRIVATE | {"GRADIO_TEMP_DIR": folder})
        from gradio.themes import Default
        from starlette.middleware import Middleware

        from airjax.demo.page import page

        blocks = page(shown)
        _, address, _ = blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            prevent_thread_lock=True,
            quiet=True,
            footer_links=[],
            max_file_size=MAX_BYTES,
            theme=Default(font=FONTS, font_mono=["monospace"]).set(**READABLE),
            css_paths=[Path(__file__).with_name("page.css")],
            app_kwargs={"middleware": [Middleware(OwnAddressOnly)]},
        )
        try:
            yield address
        finally:
            blocks.close(verbose=False)


def check_address(host: str, port: int | None) -> None:
    """Checks, before any work, that a server can listen there.

    Raises:
        InputError: if not. Gradio would not say why.
    """
    try:
        family = socket.getaddrinfo(host, port or 0)[0][0]
        socket.create_server((host, port or 0), family=family).close()
    except OSError as error:
        if port is not None and error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise InputError("port", "must be free, and one that you may use", port) from None
        raise InputError("host", "must be an address of this machine", host) from None
