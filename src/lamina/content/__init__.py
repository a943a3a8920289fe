# SPDX-License-Identifier: Apache-2.0
"""Blobs by digest: one ingest transaction in, verified bytes out."""
