"""Bounded real traffic against the service's public address.

A probe brings tokens that open one channel which nobody else can enter, takes at most a tenth of the connections that
the service allows, refuses to run where there is not twice as much room, ends by itself, and closes what it opened.
"""
