#!/bin/sh
# Brings this folder up to date with an archive: sh docs/cifar10-study/refresh.sh ARCHIVE [study | longer | longest | course]
set -e
here=$(dirname "$0")
part=${2:-study}
study="$1/cifar10-$part"
of= # in the names of files
[ "$part" = study ] || of="$part-"
ppodd=${PPODD:-ppodd}
python=${PYTHON:-python}
results() { $ppodd results "$@" --archive "$(dirname "$study")" --sweep "cifar10-$part"; }

results sync
{
  echo "# What is measured so far"
  echo
  echo "Written by \`refresh.sh\` out of the archive of \`$part.yaml\`. Test accuracy in percent after 200 training steps, CIFAR-10 at 16×16 px."
  for asked in "table" "compare --by method --at cumulative_ipc" "compare --by method --at poster_ipc" "compare --by method --at meta_steps"; do
    case "$part$asked" in coursecompare*) continue ;; esac # one method
    echo
    echo "## \`ppodd results $asked\`"
    echo
    echo '```'
    results $asked 2>&1 || true
    echo '```'
  done
} > "$here/${of}results.md"
[ "$part" = course ] || results curve --x cumulative_ipc --by method --by num_stages --width page -o "$here/${of}curve.png" || true
[ "$of" ] || results report -o "$here/report.html" || true
$python "$here/../example/pack.py" "$study" "$here/${of}archive.jsonl.gz"

# where the data lay on one machine is nobody's business
data=$(sed -n 's/.*"root": *"\([^"]*\)".*/\1/p' "$study"/*/config.json | head -n 1)
[ "$of" ] || sed -i "s#$data#DATA#g" "$here/report.html"
gzip -dc "$here/${of}archive.jsonl.gz" | sed "s#$data#DATA#g" | gzip -9n > "$here/${of}archive.tmp"
mv "$here/${of}archive.tmp" "$here/${of}archive.jsonl.gz"
