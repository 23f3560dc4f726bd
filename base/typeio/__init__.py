"""Input and output of every type, text and binary, as PostgreSQL 15 does it.

    text_in, text_out                 one value
    text_parser, text_renderer        functions over str, for casts
    text_decoder, text_encoder        functions over bytes, for the wire and COPY
    binary_decoder, binary_encoder    typreceive and typsend
    apply_typmod, typmod_from_args    varchar(10), numeric(10,2), timestamp(3)
    type_name                         format_type()

How a datum looks is in ``base.types``.  Encoders are looked up once per column and plan, then
called per value; they are cached per ``IoSettings``.  Nothing here knows the time: readers of
'now' take ``now_us``.
"""

from __future__ import annotations

from base.typeio.registry import (
    binary_decoder,
    binary_encoder,
    text_decoder,
    text_encoder,
    text_in,
    text_out,
    text_parser,
    text_renderer,
)
from base.typeio.settings import IoSettings, NowUs, RegResolver, datestyle_from_text, no_time
from base.typeio.typmods import apply_typmod, column_type_name, has_typmod, interval_suffix, type_name, typmod_from_args

__all__ = [
    "IoSettings",
    "NowUs",
    "RegResolver",
    "apply_typmod",
    "binary_decoder",
    "binary_encoder",
    "column_type_name",
    "datestyle_from_text",
    "has_typmod",
    "interval_suffix",
    "no_time",
    "text_decoder",
    "text_encoder",
    "text_in",
    "text_out",
    "text_parser",
    "text_renderer",
    "type_name",
    "typmod_from_args",
]
