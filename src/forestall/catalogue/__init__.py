"""What Forestall knows about tools: one reviewable file a server, beside the definitions that were reviewed."""

from forestall.catalogue.declared import load_all
from forestall.catalogue.read import FileCatalogue, load

__all__ = ["FileCatalogue", "load", "load_all"]
