# SPDX-License-Identifier: Apache-2.0
"""Layers: change sets, each with one parent, and the union of a stack of them.

A *layer* is what one tar says: paths that are there now, and paths that are gone. Three names belong to it:

    diff id    sha256 of the uncompressed tar: the change set by itself
    chain id   the diff id of the lowest layer; above it sha256("<parent's chain id> <diff id>"): the change set in its place
    data key   the directory below layers/ that holds it: hex of the diff id, or of the chain id where the parents shaped the data

Rows (table `layers`) are keyed by chain id, data (`layer_data`) by (data key, driver): two images that put the same tar on different
bases share the directory. Example: `debian` is layer A, alone: chain id = A. A container of it runs apt-get, is committed:
change set B. The image then has diff ids [A, B], and its top is sha256("A B"). On disk, with the overlay driver:

    layers/<A>/diff        bin boot dev etc ...            layers/<A>/tarmap.z   order and headers of A's tar
    layers/<B>/diff        dev etc lib tmp usr var ...     only what apt-get changed; a removed /x is a character device 0:0 named x

and the union that a container of the new image sees is, top first,

    containers/<id>/rw/diff   (its own writes)   layers/init-<top>/diff   layers/<B>/diff   layers/<A>/diff

The *init layer* (W2.2) holds the places over which the engine mounts its own files (/etc/hosts, /etc/resolv.conf, /dev/console ...),
as far as
the image hasn't got them. Being a layer of its own below the container's, it is in nobody's diff and nobody's commit, and since it
depends on the image alone, all containers of an image share it.

With `vfs` there are no unions: each layer's directory is the whole tree, a copy of its parent's with the tar applied; its key is
the chain id. Kinds may mix below one container: a stack ends at the first whole tree.

    chain     ids, and the directories of a stack [hot]         store     LayerStore: rows, data, containers' mounts [hot]
    driver    what a driver must do; drivers/ are ours          choice    which driver this store uses: probed once
    ingest    a tar or an upper directory becomes a layer       initlayer the layer between image and container
    export    the exact tar again, and verification             removal   rows first, then data; who still needs what
    tar/      our own tar                                       copytree  a tree copied with all that it has (reflink or bytes)
"""
