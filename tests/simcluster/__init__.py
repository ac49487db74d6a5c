"""A cluster on a laptop: an API server, controllers and a kubelet that starts processes for real."""
