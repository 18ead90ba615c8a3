"""The Redis door: weights by digest, who may publish them, which version answers whom. Nothing else imports redis."""

from wire.store.collect import Contents
from wire.store.lease import Lease
from wire.store.store import Store
from wire.store.watch import Watch

__all__ = ["Contents", "Lease", "Store", "Watch"]
