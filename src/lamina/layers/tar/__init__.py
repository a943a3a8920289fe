# SPDX-License-Identifier: Apache-2.0
"""Tar, as layers need it: read, extract beneath a directory, pack a change set, and give an ingested archive back byte for byte.

header, sparse, acl               one record each: bytes <-> values, no I/O
source, hashing, reader           a stream becomes members; hashing runs beside it
names, beneath, lower, removal    where a member may go: never outside the root
extract, attributes               members become a tree (OCI whiteouts become overlay ones, or are applied)
output, writer, pack              a tree becomes a tar (deterministic)
changes, packdiff                 two trees become a list of changes as `docker diff` shows it, or a layer
tarmap                            what the tree can't say, so that the exact tar can be given back
compress, zstdprogram             gzip, bzip2, xz, zstd by their magic
"""
