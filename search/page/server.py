"""The server of the page: Gradio with the addresses of the sounds, on one port."""

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from importlib import resources
from typing import TYPE_CHECKING, Any

from .blocks import build_page, import_gradio
from .media import ShownSounds
from .routes import SoundFiles, add_routes


if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..sound_index import SoundIndex

HOST, PORT = "127.0.0.1", 7860


def page_app(
    index: "SoundIndex", max_upload_mb: float = 25.0, sounds: str | None = None, follow_links: bool = False
) -> "FastAPI":
    """The page with its sounds and its API as an ASGI application, for `uvicorn` and other servers.

    Args:
        index: the index. Sounds that another process adds to it are found without a restart.
        max_upload_mb (`float`, *optional*, defaults to 25.0): size of the largest sound that can be uploaded, in
            megabytes.
        sounds (`str`, *optional*): folder that holds the sounds now, if it is not the one that was indexed.
        follow_links (`bool`, *optional*, defaults to `False`): whether to serve files outside the indexed folder that
            links in it lead to.

    Raises:
        ImportError: Gradio is not installed.
    """
    gradio = import_gradio()
    from fastapi import FastAPI

    files = SoundFiles(index, ShownSounds(), sounds, follow_links)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_routes(app, files)
    assets = resources.files("modeling_atri.search.page") / "assets"
    blocks = build_page(index, files)
    # Only then does Gradio refuse files that were not uploaded. `launch` sets it, but `mount_gradio_app` does not.
    blocks.has_launched = True
    mounted: FastAPI = gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        max_file_size=f"{max(1, round(1000 * max_upload_mb))}kb",
        footer_links=["api"],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=True,
        theme=_theme(gradio),
        css=(assets / "page.css").read_text("utf-8"),
        head=f"<script>{(assets / 'page.js').read_text('utf-8')}</script>",
    )
    return mounted


def serve(
    index: "SoundIndex",
    host: str = HOST,
    port: int = PORT,
    max_upload_mb: float = 25.0,
    sounds: str | None = None,
    follow_links: bool = False,
    on_ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve the page until the process is interrupted.

    Args:
        index, max_upload_mb, sounds, follow_links: as in [`page_app`].
        host (`str`, *optional*, defaults to `"127.0.0.1"`): address to listen on. The default is reached from this
            machine only, and `"0.0.0.0"` from every machine that reaches this one.
        port (`int`, *optional*, defaults to 7860): port to listen on; 0 for any that is free.
        on_ready (*optional*): is called with the URL of the page when it is about to be served.

    Raises:
        ImportError: Gradio is not installed.
        ValueError: the port is in use or may not be used, or the host is not an address of this machine.
    """
    listener = _listen(host, port)
    with listener:
        app = page_app(index, max_upload_mb, sounds, follow_links)
        import uvicorn

        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        on_ready(f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}")
        with suppress(KeyboardInterrupt):  # uvicorn has ended when it raises the signal again
            uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """A socket that is bound to a port."""
    if not 0 <= port <= 65535:
        raise ValueError(f"A port is a number from 0 to 65535, got {port}.")
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)  # who asks as soon as the URL is announced has to wait, but is answered
    except OSError as error:
        if listener is not None:
            listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ValueError(
                f"Port {port} of {host} is in use, perhaps by another page. Choose another port, such as --port "
                f"{port + 1 if port < 65535 else PORT}."
            ) from error
        if error.errno == errno.EACCES:
            raise ValueError(f"Port {port} may only be used by an administrator. Choose one above 1023.") from error
        raise ValueError(
            f"The page cannot listen on {host!r}: {error.strerror}. Use an address of this machine."
        ) from error
    return listener


def _theme(gradio: Any) -> Any:
    """Calm colours, and fonts of the system, so that nothing is fetched from elsewhere."""
    theme = gradio.themes.Default(
        primary_hue="indigo",
        secondary_hue="indigo",
        neutral_hue="slate",
        radius_size="lg",
        font=["ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_600",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
        block_shadow="none",
    )
