# SPDX-License-Identifier: Apache-2.0
"""Named and anonymous volumes of the local driver."""
