"""How the station is: figures for its topic and for Prometheus, and signs of life for systemd."""

from lineside.health.exposition import expose
from lineside.health.figures import HealthBroker, HealthModel, HealthSources
from lineside.health.monitor import HealthMonitor, HealthSnapshot
from lineside.health.notify import Notifier
from lineside.health.opening import Health, open_health
from lineside.health.server import HealthServer
from lineside.health.settings import HealthSettings
from lineside.health.watchdog import Watchdog

__all__ = [
    "Health",
    "HealthBroker",
    "HealthModel",
    "HealthMonitor",
    "HealthServer",
    "HealthSettings",
    "HealthSnapshot",
    "HealthSources",
    "Notifier",
    "Watchdog",
    "expose",
    "open_health",
]
