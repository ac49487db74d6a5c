"""The WebSocket edge: the route and its transports."""
