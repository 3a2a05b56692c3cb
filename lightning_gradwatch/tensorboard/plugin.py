# SPDX-License-Identifier: Apache-2.0
"""The backend of the GradWatch tab: TensorBoard says which runs there are, their event files what they hold."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Any

from tensorboard import plugin_util
from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin
from werkzeug import Request, Response

from lightning_gradwatch.tensorboard.records import PLUGIN
from lightning_gradwatch.tensorboard.routes import ROUTES, Answer, RequestError, about, overview
from lightning_gradwatch.tensorboard.runs import LogDirectory, Run

_BUDGET = 0.4  # seconds of reading per request; the next one goes on
_NO_DIRECTORY = "GradWatch reads event files itself: start TensorBoard with --logdir and a directory on a local disk."


class GradWatchPlugin(base_plugin.TBPlugin):  # type: ignore[misc]  # tensorboard ships no types
    """Serves the page and its data."""

    plugin_name = PLUGIN

    def __init__(self, context: Any) -> None:  # noqa: ANN401  # tensorboard ships no types
        """Takes TensorBoard's `TBContext`; nothing is read before the first request."""
        local = context.logdir and "://" not in context.logdir
        self._directory = LogDirectory(Path(context.logdir).expanduser().absolute()) if local else None
        self._provider = context.data_provider
        self._lock = Lock()  # TensorBoard answers from many threads

    def is_active(self) -> bool:
        """False: TensorBoard itself turns a plugin on as soon as it has seen one of its records."""
        return False

    def frontend_metadata(self) -> Any:  # noqa: ANN401  # tensorboard ships no types
        """The tab and its script."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="GradWatch")

    def get_plugin_apps(self) -> dict[str, Any]:
        """The routes below ``data/plugin/gradwatch``."""
        apps = {f"/{name}": _as_json(self._about(name)) for name in ROUTES}
        return {"/index.js": _script, "/runs": _as_json(self._overview), **apps}

    def _overview(self, request: Request) -> Answer:
        with self._lock:
            return {"runs": [overview(name, run) for name, run in sorted(self._runs(request).items())]}

    def _about(self, route: str) -> Callable[[Request], Answer]:
        def answer(request: Request) -> Answer:
            with self._lock:
                run = self._runs(request).get(request.args.get("run", ""))
                return about(run, route, request.args)

        return answer

    def _runs(self, request: Request) -> dict[str, Run]:
        if self._directory is None:
            raise RequestError(404, _NO_DIRECTORY)
        context = plugin_util.context(request.environ)
        experiment = plugin_util.experiment_id(request.environ)
        listed = self._provider.list_tensors(context, experiment_id=experiment, plugin_name=PLUGIN)
        return self._directory.refresh(listed, _BUDGET)


def _as_json(answer: Callable[[Request], Answer]) -> Any:  # noqa: ANN401  # werkzeug's wrapper has no public type
    @Request.application
    def app(request: Request) -> Response:
        try:
            content, code = answer(request), 200
        except RequestError as error:
            content, code = {"error": str(error)}, error.code
        response: Response = http_util.Respond(request, content, "application/json", code=code)
        return response

    return app


@Request.application
def _script(request: Request) -> Response:
    script = files("lightning_gradwatch.tensorboard").joinpath("static/index.js").read_bytes()
    response: Response = http_util.Respond(request, script, "text/javascript")
    return response
