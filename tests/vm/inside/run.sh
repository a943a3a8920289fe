#!/bin/sh
# In the virtual machine: run.sh CHECKOUT [pytest arguments]. Copies the shared checkout to the machine's own disk, since 9p takes no
# overlay upper directory and is slow, and runs pytest there.
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
# Not part of the image: debootstrap can't configure it.
python3 -c 'import zstandard' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-zstandard; } >/dev/null
exec python3 -m pytest -p no:cacheprovider "$@"
