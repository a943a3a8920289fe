# SPDX-License-Identifier: Apache-2.0
"""Pure data of the OCI and Docker worlds: references, platforms, media types, manifests, image configs. No I/O, no state.

Everything here is hot or cheap: no module imports more than errors and util.
"""
