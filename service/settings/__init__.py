"""What an operator can choose, read once from the environment and checked as a whole.

``load`` reads nothing but the mapping it is given and the files that the mapping
names, and reports everything that is wrong at once, by the name of the setting.
"""

from service.core.secret import Secret
from service.settings.groups import (
    GROUPS,
    Admin,
    Api,
    Channels,
    Drain,
    Http,
    Limits,
    LogFormat,
    LogLevel,
    Logs,
    Mode,
    Origins,
    Process,
    Setting,
    Settings,
    Tokens,
    settings_of,
)
from service.settings.kinds import Kind, Network
from service.settings.loading import load

__all__ = (
    "GROUPS",
    "Admin",
    "Api",
    "Channels",
    "Drain",
    "Http",
    "Kind",
    "Limits",
    "LogFormat",
    "LogLevel",
    "Logs",
    "Mode",
    "Network",
    "Origins",
    "Process",
    "Secret",
    "Setting",
    "Settings",
    "Tokens",
    "load",
    "settings_of",
)
