# Says the data directory of each server whose configuration is named, `dir=PATH`. Changes nothing.
for conf; do
  dir=$(awk 'tolower($1) == "dir" { gsub(/"/, "", $2); found = $2 } END { print found }' "$conf" 2>/dev/null)
  case $dir in /*) printf 'dir=%s\n' "$dir" ;; esac
done
