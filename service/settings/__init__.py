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
    Database,
    Drain,
    Http,
    Limits,
    Lock,
    LogFormat,
    LogLevel,
    Logs,
    Mode,
    Origins,
    Outbox,
    Process,
    Setting,
    Settings,
    Tokens,
    settings_of,
)
from service.settings.kinds import Kind, Network
from service.settings.loading import load, load_database

__all__ = (
    "GROUPS",
    "Admin",
    "Api",
    "Channels",
    "Database",
    "Drain",
    "Http",
    "Kind",
    "Limits",
    "Lock",
    "LogFormat",
    "LogLevel",
    "Logs",
    "Mode",
    "Network",
    "Origins",
    "Outbox",
    "Process",
    "Secret",
    "Setting",
    "Settings",
    "Tokens",
    "load",
    "load_database",
    "settings_of",
)
