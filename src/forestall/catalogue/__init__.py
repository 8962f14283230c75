"""What Forestall knows about tools: one reviewable file a server, beside the definitions that were reviewed."""

from forestall.catalogue.read import FileCatalogue, load

__all__ = ["FileCatalogue", "load"]
