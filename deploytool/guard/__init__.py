"""Keeps the replica count of a guarded workload at one.

The decision is pure (`decision`); `keeper` remembers and acts through a port; `handlers` hears of changes through kopf.
Knows no client of Kubernetes: whoever wires it hands the port in.
"""
