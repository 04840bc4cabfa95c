"""The images of one daemon: on disk as Docker lays them out, and in memory.

`D/image/<driver>/repositories.json` names them, `imagedb/content/sha256/<hex>` holds
their configurations, `layerdb` their layers.

Rule: memory changes only on the event loop, between two awaits; the slow work (a
body to disk, a layer to the graph driver) is done before, in a thread, under one lock.
"""

from startkit.daemon.images.images import Images
from startkit.daemon.images.model import Image, ImageConfig

__all__ = ["Image", "ImageConfig", "Images"]
