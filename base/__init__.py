"""The bottom layer: time, keys, rows, datums, errors and the four seams.

Imports nothing else of the project.  Everything here is either plain data or a
pure function, except the seam interfaces in ``base.seams``, which others implement.
"""
