# SPDX-License-Identifier: Apache-2.0
"""Images as files: `save` writes them, `load` reads them.

    bundle    an archive, or a directory, as names with bytes: nothing is unpacked to look into it
    docker    docker's manifest.json, skopeo's dir:, and the layer directories of docker before 1.10
    oci       an OCI layout: index.json, oci-layout, blobs
    plan      what any of these holds, as images to load; everything is checked before a byte is written
    load      the plan's layers come in side by side, then one transaction makes all images, or none
    build     the documents of an archive that is to be written: manifests, configs, where each layer's bytes come from
    save      the files of the four formats
    sink      where they go: a tar, always the same bytes for the same images, or a directory
"""
