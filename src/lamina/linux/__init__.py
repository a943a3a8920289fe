# SPDX-License-Identifier: Apache-2.0
"""Thin wrappers of kernel calls that Python doesn't have: they raise OSError with a filename and decide nothing.

The only package that touches `_ctypes`. Every module here is on the hot path: no import beyond C modules and each other.
"""
