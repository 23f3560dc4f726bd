"""Names, types and scopes: from parsed statements to typed plans."""

from __future__ import annotations

from sql.binder.binder import Binder, Scalar, result_columns
from sql.binder.catalog_view import CatalogView, NullCatalog, VirtualRelation
from sql.binder.context import Usage

__all__ = ["Binder", "CatalogView", "NullCatalog", "Scalar", "Usage", "VirtualRelation", "result_columns"]
