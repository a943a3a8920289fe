# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 (cases side by side)
"""Cases that docker 26.1's BuildKit was asked about (scripts/golden-build): Dockerfiles with faults, words, ignore files."""

F = "FROM scratch\n"
FAULTS = [
    "", "# only\n", "RUN x\n", "ENV a=b\nFROM scratch\n", F + "ENV a\n", F + "ENV =b\n", F + "ENV a=b c\n", F + "ENV\n", F + "LABEL\n",
    F + "LABEL a\n", F + "COPPY a b\n", F + "COPY a\n", F + "COPY\n", F + "ADD a\n", F + "copy <<EOF /x\nabc\n", F + "COPY x <<EOF\nEOF\n",
    F + 'RUN ["a", 1]\n', F + 'SHELL bash -c\n', F + "SHELL []\n", F + "SHELL\n", F + "WORKDIR\n", F + "USER\n", F + "STOPSIGNAL\n",
    F + "STOPSIGNAL nope\n", F + "VOLUME\n", F + 'VOLUME [""]\n', F + "EXPOSE\n", F + "EXPOSE x\n", F + "EXPOSE 80/what\n", F + "EXPOSE 99999\n",
    F + "EXPOSE 90-80\n", F + "ARG\n", F + "ARG =x\n", F + "HEALTHCHECK\n", F + "HEALTHCHECK WHAT x\n", F + "HEALTHCHECK NONE x\n",
    F + "HEALTHCHECK CMD\n", F + "HEALTHCHECK --interval=1ns CMD x\n", F + "HEALTHCHECK --interval=x CMD x\n",
    F + "HEALTHCHECK --retries=-1 CMD x\n", F + "HEALTHCHECK --retries=a CMD x\n", F + "HEALTHCHECK --interval=1s --interval=2s CMD x\n",
    F + "ONBUILD\n", F + "ONBUILD ONBUILD RUN x\n", F + "ONBUILD FROM x\n", F + "ONBUILD MAINTAINER x\n", F + "MAINTAINER\n",
    "FROM\n", "FROM a b\n", "FROM scratch AS\n", "FROM scratch AS 1a\n", "FROM scratch AS a b\n", "FROM ${x}\n", "FROM ${x\n", "FROM scratch AS a$\n",
    "FROM --platform= scratch\n", "FROM --platform=$X scratch\n", "FROM --platform=a/b/c/d scratch\n", "FROM --what=x scratch\n",
    "ARG a=${b\nFROM scratch\n", "# escape=x\nFROM scratch\n", "# escape=`\n# escape=`\nFROM scratch\n",
    F + "RUN --network=what x\n", F + "RUN --security=what x\n", F + "RUN --mount=type=what,target=/x y\n", F + "RUN --mount=what=x y\n",
    F + "RUN --mount=from=$x,target=/a y\n", F + "RUN --mount=type=bind,target=/a,mode=7 y\n", F + "RUN --mount=type=cache,target=/a,sharing=x y\n",
    F + "RUN --mount=type=secret y\n", F + "RUN --mount=type=secret,id=a,source=b y\n", F + "RUN --mount=type=tmpfs,size=x,target=/a y\n",
    F + "RUN --mount=type=cache,target=/a,uid=x y\n", F + "RUN --mount=type=bind,required,target=/a y\n", F + "RUN --mount=foo y\n",
    F + "COPY --from=$x a b\n", F + "COPY --from=9 a b\n", F + "COPY --link=what file /b\n", F + "COPY --chown file /b\n", F + "COPY --chwon=a file /b\n",
    F + "COPY --from=0 a b\n", F + "COPY --from=later file b\nFROM scratch AS later\nCOPY file /\n",
    "FROM scratch AS a\nCOPY --from=b file /\nFROM scratch AS b\nCOPY --from=a file /\n",
    F + "LABEL a=${b\n", F + "LABEL a=${b:\n", F + "LABEL a='b\n", F + 'LABEL a="b\n', F + "LABEL a=${b:?no}\n", F + "LABEL a=${b?}\n",
    F + "LABEL a=${}\n", F + "LABEL a=${b:x}\n", F + "LABEL a=${:b}\n", F + "WORKDIR ${x:?why}\n", F + "ENV a=b \\\n  c\n", F + "ADD --checksum=sha256:1 file /\n",
    F + "COPY <<A <<B /d/\nA\nb\n", F + "FRON x\n", F + "LABEL x=y\nENTRIPOINT x\n",
]  # fmt: skip

# The words of a LABEL in a stage with v=foo.tar.gz p=a/b/c e= s="x y" u unset. `${v#}` is not among them: it ends the daemon.
WORDS = [
    "$v", "${v}", "'$v'", '"$v"', '"\\$v"', "\\$v", "a\\ b", "$s", '"$s"', "${u}", "${u:-d}", "${u-d}", "${e:-d}", "${e-d}", "${e:+d}", "${e+d}", "${v:+d}",
    "${u:-$v}", "${u:-${v}}", "${u:-${e:-z}}", "${v#*.}", "${v##*.}", "${v%.*}", "${v%%.*}", "${p/\\//-}", "${p//\\//-}", "${p//?/x}", "${v/o/0}", "${v//o/0}",
    "${v/nope/x}", "${v#nope}", "${v%nope}", "${v#foo}", "${v%gz}", "${v#?}", "${v%?}", "${v##*}", "${v%%*}", "${v/*/x}", "${v//*/x}",
    "${v/o*r/X}", "${p##*/}", "${p%/*}", "${p%%/*}", "${p#*/}", "$", "a$", "$$", "$1", "$12x", "${1}", "$@", "$#", "$-", "\"a'b\"", "'a\"b'",
    "''", '""', "a''b", "\\\\", "a\\nb", '"a\\nb"', '"a\\\\b"', "<<x", "a<b", "${v//[o]/x}", "${v/./-}", "${v//./-}", "${v/\\*/x}", "${u:+x}y", "${v}${p}", "$v$p",
    "$v_x", "${u:-'ab'}", '${u:-"ab"}', "${v}_x", "é$v", "${v/o/\\/}", "~", "*", "`x`", "$(x)", "\"${u:-a b}\"", "${v:?no}", "${v?no}",
]  # fmt: skip


def words_file(words: list[str]) -> str:
    return 'FROM scratch\nENV v=foo.tar.gz p=a/b/c e= s="x y"\n' + "".join(f"LABEL l{number}={word}\n" for number, word in enumerate(words))


TREE = [
    "a", "b.txt", "c.md", "README.md", "dir/a", "dir/b.txt", "dir/sub/a", "dir/sub/c.md", "dir/sub/deep/x.go", "foo/bar/baz", "foo/bar/foo", "foobar", "xfoo",
    "x/foo", "x/y/foo", ".hidden", "dir/.hidden", "a b", "[c]", "x.tmp", "dir/x.tmp", "dir2/a", "node_modules/m/i.js", "src/node_modules/k/i.js", "src/main.js",
    "temp1", "tempab", "d1", "dd", "#hash", "!bang", "star*", "foo.d/x", "README-secret.md", "dir/README.md", "back\\slash",
]  # fmt: skip
IGNORES = [
    "", "a", "/a", "./a", "a/", "*", "**", "*/*", "**/*", "*.md", "**/*.md", "*.md\n!README.md", "*.md\n!README*.md\nREADME-secret.md", "*\n!dir",
    "*\n!dir/sub", "dir\n!dir/sub/a", "dir/*\n!dir/sub", "**/a", "**a", "**foo", "foo**", "foo/**", "**/foo/**", "dir/**/a", "dir/**/*.go", "**/sub/**", "dir/sub/../a",
    "../a", "dir//a", "# a\na", " a ", "\ta\t", "!a", "a\n!a", "a\n!a\na", "temp?", "temp??", "d[0-9]", "d[^0-9]", "[a-c]", "\\[c\\]", "[[]c[]]", "a\\ b", "a b",
    "\\#hash", "#hash", "\\!bang", "star\\*", "star*", ".*", "**/.*", "**/node_modules", "**/node_modules/**", "node_modules", "*/node_modules", "src/*\n!src/main.js",
    "*\n!**/*.md", "**/*.tmp\n!dir/x.tmp", "dir/\n!dir/a", "/dir/a\n/x", "foo*", "*foo", "**/*foo", "f*o*", "**/**/a", "dir/***/a", "dir/sub/**", "dir/**/deep",
    "dir/**/x.go", ".", "/", "!", "[", "a[", "[]a]", "\\", "[a-]", "[*]", "a*b", "\\d1", "d\\1", "x/**/foo", "\ufeffa\nb.txt", "a\r\nb.txt\r\n", "*.{md,txt}", "foo.d", "foo+",
    "dir*\n!dir/*.txt", "**\n!dir/a", "**\n!**/a", "*\n!*/a", "\n\n  \na\n", "back\\\\slash", "!*\na", "a*a*a*a*", "**/d*r/**/?.md",
]  # fmt: skip
