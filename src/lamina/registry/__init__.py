# SPDX-License-Identifier: Apache-2.0
"""Registries: the client of OCI distribution 1.1 and Docker's registry API v2. Knows no store and no layer.

Bytes of strangers come in here; what is believed of them is a digest that was checked. Off the hot path: `urllib3` does connections,
TLS and proxies (blocking, with threads: half the import time of an asyncio client, and what takes the bytes blocks anyway); what is
asked, who is given credentials, what is retried and where a redirect may lead is decided here.
"""
