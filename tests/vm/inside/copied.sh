#!/bin/sh
# In the virtual machine: copied.sh CHECKOUT COMMAND... Copies the shared checkout to the machine's own disk, since 9p takes no overlay
# upper directory and is slow, and runs COMMAND there.
set -eu
checkout=$1
shift
place=/var/lib/lamina-test
mkdir -p $place/main
cd "$checkout"
tar -c --exclude=.git --exclude=.venv --exclude=__pycache__ --exclude=.hypothesis --exclude='.*_cache' . | tar -x -C $place/main
[ ! -d "$checkout/../shared" ] || ln -s "$(cd "$checkout/.." && pwd)/shared" $place/shared
cd $place/main
grep -q ' /tmp tmpfs ' /proc/mounts && umount /tmp # pytest's directories hold the upper directories of overlays
PYTHONPATH=$place/main/src
export PYTHONPATH
exec "$@"
