# Says what there is on this host, a `name=value` a line. Changes nothing. $1: the SSH_CONNECTION of the caller.
say() { printf '%s=%s\n' "$1" "$2"; }
say name "$(hostname -s 2>/dev/null || cat /proc/sys/kernel/hostname)"
say arch "$(uname -m)"
say address "$(printf '%s' "$1" | cut -d' ' -f3)"
if [ -d /run/systemd/system ]; then say systemd yes; fi
if command -v dpkg >/dev/null; then say packages deb
elif command -v rpm >/dev/null; then say packages rpm
fi
if command -v baton-agent >/dev/null; then say agent "$(baton-agent --version 2>/dev/null)"; fi
if grep -qs '^ *\[\[instance\]\]' /etc/baton/agent.toml; then
  say config written
  say listen "$(sed -n 's/^listen *= *"\(.*\)".*/\1/p' /etc/baton/agent.toml)"
fi
# The certificates alone of the identity, and of what it was renewed by: in one line, and no key.
for bundle in /etc/baton/identity.pem /var/lib/baton/identity.pem; do
  if [ -s "$bundle" ]; then
    say identity "$(awk '/BEGIN CERT/ { inside = 1 } inside { printf "%s|", $0 } /END CERT/ { inside = 0 }' "$bundle")"
  fi
done
if command -v ufw >/dev/null && ufw status 2>/dev/null | grep -q '^Status: active'; then say firewall ufw
elif command -v firewall-cmd >/dev/null && firewall-cmd --state >/dev/null 2>&1; then say firewall firewalld
fi
