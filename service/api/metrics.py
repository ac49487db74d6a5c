"""The route that Prometheus scrapes. It has no key, so it belongs on the admin socket alone."""

from __future__ import annotations

from litestar import Response, Router, get

from service.observability.metrics import CONTENT_TYPE, Metrics

__all__ = ("create_metrics_router",)


def create_metrics_router(metrics: Metrics) -> Router:
    """Return the route of the metrics of one instance."""

    @get("/metrics", summary="Metrics for Prometheus", media_type=CONTENT_TYPE)
    async def expose() -> Response[bytes]:
        """Answer in the text exposition format."""
        return Response(metrics.exposition(), media_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})

    return Router(path="/", route_handlers=[expose], tags=["observe"])
