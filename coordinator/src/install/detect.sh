# Says which units run a Redis or Valkey server: `unit=NAME<tab>CONFIG`. Changes nothing.
units=$( { systemctl list-unit-files --no-legend --plain --type=service 'redis*' 'valkey*'
           systemctl list-units --all --no-legend --plain --type=service 'redis*' 'valkey*'; } 2>/dev/null |
  awk '$2 != "alias" { print $1 }' | grep -vE '@\.service$|sentinel' | sort -u)
for unit in $units; do
  conf=$(systemctl show -p ExecStart --value "$unit" 2>/dev/null | grep -oE '/[^ ;]+\.conf' | head -n 1)
  if [ -n "$conf" ] && [ -e "$conf" ]; then printf 'unit=%s\t%s\n' "$unit" "$conf"; fi
done
