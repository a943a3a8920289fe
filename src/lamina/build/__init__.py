# SPDX-License-Identifier: Apache-2.0
"""The builder: the Dockerfile language as docker/dockerfile:1 has it.

    source        the text with its name; errors that point into it
    lines         logical lines: parser directives, comments, continuation, here-documents
    instructions  what an instruction is: typed, checked, with its place
    flags         --flags of instructions
    mounts        RUN --mount and --device
    ports         EXPOSE
    parse         text -> stages of instructions
    variables     scopes of ARG and ENV, stage by stage
    graph         which stage needs which
    ignore        .dockerignore
    rules         the build checks by name
    check         what they find in a file
    report        how checks, outlines, targets and graphs are shown
    suggest       what was meant

Pure: reads no file and knows no store; configs of base images are handed in. What a newer BuildKit than docker 26.1's changed in texts
and rules is taken from moby/buildkit's Dockerfile reference of version 1.25.
"""
