#!/bin/sh
# Brings this folder up to date with the study's archive: sh docs/cifar10-study/refresh.sh ARCHIVE
set -e
here=$(dirname "$0")
study="$1/cifar10-study"
ppodd=${PPODD:-ppodd}
python=${PYTHON:-python}
results() { $ppodd results "$@" --archive "$(dirname "$study")" --sweep cifar10-study; }

results sync
{
  echo "# What is measured so far"
  echo
  echo "Written by \`refresh.sh\` out of the archive. Test accuracy in percent after 200 training steps, CIFAR-10 at 16×16 px."
  for asked in "table" "compare --by method --at cumulative_ipc" "compare --by method --at poster_ipc" "compare --by method --at meta_steps"; do
    echo
    echo "## \`ppodd results $asked\`"
    echo
    echo '```'
    results $asked 2>&1 || true
    echo '```'
  done
} > "$here/results.md"
results curve --x cumulative_ipc --by method --width page -o "$here/curve.png" || true
results report -o "$here/report.html" || true
$python "$here/../example/pack.py" "$study" "$here/archive.jsonl.gz"

# where the data lay on one machine is nobody's business
data=$(sed -n 's/.*"root": *"\([^"]*\)".*/\1/p' "$study"/*/config.json | head -n 1)
sed -i "s#$data#DATA#g" "$here/report.html"
gzip -dc "$here/archive.jsonl.gz" | sed "s#$data#DATA#g" | gzip -9n > "$here/archive.tmp"
mv "$here/archive.tmp" "$here/archive.jsonl.gz"
