"""Register the typed configuration, so that composing rejects an unknown key or a wrong type."""

from lrrt.compose import register_schema

register_schema()
