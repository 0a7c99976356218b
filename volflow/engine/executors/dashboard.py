"""Dask's dashboard, loaded when it is first opened.

Importing bokeh and building its pages takes a second of every run, and most runs are not looked at.
The scheduler's web server, and so the address of the dashboard, is there from the beginning.
"""

from __future__ import annotations

from typing import Any


def load_on_request(scheduler: Any) -> None:
    """Have a scheduler without a dashboard load it at the first request of one of its pages."""
    from tornado.web import Application

    class OnRequest(Application):
        """Asked for every page that the scheduler's own routes do not have."""

        def find_handler(self, request: Any, **options: Any) -> Any:
            from distributed.dashboard.scheduler import connect

            application = scheduler.http_application
            if self in application.applications:
                application.applications.remove(self)
                connect(application, scheduler.http_server, scheduler)
            return application.find_handler(request, **options)

    scheduler.http_application.add_application(OnRequest())
