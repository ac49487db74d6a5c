"""The deploy tool of Slackwater: keeps one replica safe.

Knows nothing of the service's code; the two meet at the admin API and at the manifests.
"""
