# SPDX-License-Identifier: Apache-2.0
"""Images: a config (whose sha256 is the id) and a chain of layers, found by names.

`store` finds images and is all that `run` needs; `import_` and `commit` make them; `tagging`, `remove` and `prune` change what points
to them; `listing`, `inspect` and `history` show them in the Docker Engine API's shapes. Repositories are kept in full form
("docker.io/library/ubuntu") and shown in familiar form ("ubuntu").
"""
