"""The rows of an index whose vectors are nearest to those of a question: all compared in memory, or a vector index."""

from .figures import SearchFigures as SearchFigures
from .figures import figures as figures
from .searching import search as search
from .upkeep import refresh as refresh
from .vector_index import build as build
