"""The server of `sft-tui serve`: a page with a terminal, and for each tab a viewer in a process of its own.

Nothing is loaded from another site. A page of another site can neither connect to the server nor, by a name that it
lets point to this machine, pretend to be it: the Host and Origin of each request are checked. Other users of this
machine lack the key in the address that `sft-tui serve` prints; the browser keeps it as a cookie.
"""

import asyncio
import contextlib
import html
import ipaddress
import os
import secrets
import socket
import string
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import textual_serve
from aiohttp import WSMsgType, web

from engine.contract.child_command import module_command
from engine.contract.files import reason
from engine.contract.messages import InputError
from engine.contract.texts import Lang, say
from sft_tui.serving.tab_viewer import TabViewer

HERE = ("localhost", "127.0.0.1", "::1")
MOST_VIEWERS = 16  # each is a process of about 60 MB
TRY_LATER = 1013  # code of a refused connection
LARGEST_MESSAGE = 1 << 20  # bytes; a paste is one message
SMALLEST, LARGEST = 10, 500  # columns and lines of a viewer
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
STATIC = Path(textual_serve.__file__).parent / "static"
PAGE = Path(__file__).with_name("index.html")
SCRIPTS = ("focus.js", "title.js")  # of our own, next to it
COLOURS = {"light": ("#ffffff", "#24292f")}
DARK = ("#0e1116", "#c9d1d9")
TOKEN = "token"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Served:
    """What is served where."""

    host: str
    port: int
    logs: Path
    lang: Lang
    theme: str = "dark"
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def address(self) -> str:
        """What a browser opens."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{shown}:{self.port}/?{TOKEN}={self.token}"

    @property
    def cookie(self) -> str:
        """The name under which a browser keeps the token: cookies of one machine are not kept apart by port."""
        return f"sft-tui-{self.port}"

    def is_token(self, given: str) -> bool:
        """Whether this is the token, in a time that does not tell how much of it is right."""
        return secrets.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    @property
    def command(self) -> list[str]:
        """The command of a viewer, which ends with this process."""
        arguments = (str(self.logs.absolute()), self.lang, self.theme, str(os.getpid()))
        return module_command("sft_tui.serving.browser_viewer", *arguments)


def is_here(host: str) -> bool:
    """Whether only this machine reaches a server on this host."""
    return host in HERE


def is_allowed(name: str, served_host: str) -> bool:
    """Whether a request may name the server so: an address, this machine or the host given, and no other name.

    A site can let a name of its own point to this machine, but not an address.
    """
    if name in HERE or name == served_host:
        return True
    if is_here(served_host):
        return False
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return name.lower() == socket.gethostname().lower()


def host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


@dataclass
class BrowserServer:
    """The server, and the viewers behind its open tabs."""

    served: Served
    viewers: set[TabViewer] = field(default_factory=set)

    def app(self) -> web.Application:
        """The application that aiohttp runs."""

        @web.middleware
        async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._check(request, handler)

        app = web.Application(middlewares=[checked])
        app.router.add_get("/", self._page)
        for name in SCRIPTS:
            app.router.add_get(f"/{name}", _script)
        app.router.add_get("/ws", self._connect)
        app.router.add_static("/static", STATIC)
        app.on_shutdown.append(self._end)
        return app

    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses requests that another site sent; forbids the page to load anything from elsewhere."""
        origin = request.headers.get("Origin")
        own = origin in (None, f"http://{request.host}", f"https://{request.host}")
        if not own or not is_allowed(host_name(request.host), self.served.host):
            raise web.HTTPForbidden(text="403: this server answers only to its own page and name\n")
        if request.path == "/" and self.served.is_token(request.query.get(TOKEN, "")):
            self._admitted(request)
        if not self.served.is_token(request.cookies.get(self.served.cookie, "")):
            raise web.HTTPForbidden(text=f"403: {say('serve.no_token', self.served.lang)}\n")
        response = await handler(request)
        if not response.prepared:
            response.headers["Content-Security-Policy"] = POLICY
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers["Referrer-Policy"] = "no-referrer"
        return response

    def _admitted(self, request: web.Request) -> NoReturn:
        """Gives the browser the cookie, and the page's address without the token, which histories would keep."""
        answer = web.HTTPFound(request.rel_url.without_query_params(TOKEN))
        answer.headers["Cache-Control"] = "no-store"
        answer.set_cookie(self.served.cookie, self.served.token, httponly=True, samesite="Lax")
        raise answer

    @property
    def _too_many(self) -> str:
        """Why no further tab is served; a connection that is closed can say at most 123 bytes."""
        return say("serve.too_many", self.served.lang, most=MOST_VIEWERS)

    async def _page(self, request: web.Request) -> web.Response:
        if len(self.viewers) >= MOST_VIEWERS:
            return web.Response(status=503, text=self._too_many + "\n")
        back, fore = COLOURS.get(self.served.theme, DARK)
        scheme = "wss" if request.headers.get("X-Forwarded-Proto") == "https" else "ws"
        shown = {
            "lang": self.served.lang,
            "ended": say("serve.ended", self.served.lang),
            "again": say("serve.again", self.served.lang),
            "socket": f"{scheme}://{request.host}/ws",
            "font": str(_bounded(request.query.get("fontsize", ""), 16, 6, 60)),
        }
        values = {name: html.escape(value) for name, value in shown.items()}
        page = string.Template(PAGE.read_text(encoding="utf-8")).substitute(values, back=back, fore=fore)
        return web.Response(text=page, content_type="text/html")

    async def _connect(self, request: web.Request) -> web.WebSocketResponse:
        """Runs a viewer for as long as its tab is open."""
        tab = web.WebSocketResponse(heartbeat=15, max_msg_size=LARGEST_MESSAGE)
        await tab.prepare(request)
        if len(self.viewers) >= MOST_VIEWERS:
            await tab.close(code=TRY_LATER, message=self._too_many.encode())
            return tab
        viewer = TabViewer(self.served.command, tab)
        self.viewers.add(viewer)
        try:
            width, height = (request.query.get(name, "") for name in ("width", "height"))
            await viewer.start(_bounded(width, 80, SMALLEST, LARGEST), _bounded(height, 24, SMALLEST, LARGEST))
            await _pass_on(tab, viewer)
        finally:
            await asyncio.shield(self._end_one(viewer))  # also if this connection is cancelled
        return tab

    async def _end_one(self, viewer: TabViewer) -> None:
        try:
            await viewer.end()
        finally:  # until then the server's own end ends it too
            self.viewers.discard(viewer)

    async def _end(self, _app: web.Application) -> None:
        """Ends the viewers of all open tabs."""
        await asyncio.gather(*(viewer.end() for viewer in tuple(self.viewers)))


async def _script(request: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE.with_name(next(name for name in SCRIPTS if request.path == f"/{name}")))


async def _pass_on(tab: web.WebSocketResponse, viewer: TabViewer) -> None:
    """Passes what the page sends to the viewer; a message that is not one of the page's is ignored."""
    async for message in tab:
        if message.type != WSMsgType.TEXT:
            continue
        with contextlib.suppress(ValueError, TypeError, KeyError, IndexError, AttributeError):
            kind, *rest = message.json()
            match kind:
                case "stdin":
                    await viewer.type(rest[0])
                case "resize":
                    columns, lines = (_bounded(rest[0][name], 80, SMALLEST, LARGEST) for name in ("width", "height"))
                    await viewer.tell("resize", width=columns, height=lines)
                case "ping":
                    await tab.send_json(["pong", rest[0]])
                case "blur" | "focus":
                    await viewer.tell(kind)


def _bounded(value: object, otherwise: int, low: int, high: int) -> int:
    """A whole number that a page sent, within bounds."""
    try:
        return min(max(int(str(value)), low), high)
    except ValueError:
        return otherwise


def listening(host: str, port: int) -> socket.socket:
    """A socket on which the server listens; raises InputError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise InputError("serve_failed", host=host, port=port, why=why) from None


def serve(served: Served, listener: socket.socket) -> None:
    """Serves until it is interrupted or terminated; then ends its viewers. Runs are not affected."""
    web.run_app(BrowserServer(served).app(), sock=listener, print=None, access_log=None, shutdown_timeout=1.0)
