"""The API server: the one package that talks to Kubernetes, in raw dictionaries and with a limit on every request."""
