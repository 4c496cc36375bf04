# What this host is and has, one fact a line. Starts the reaper on the way where
# that is missing, for instance after a reboot: every connection does.
fact() { printf '%s %s\n' "$1" "$2"; }
for tool in tar gzip flock setsid timeout sha256sum awk sed grep find xargs cut sort df dd; do
	command -v "$tool" >/dev/null 2>&1 || fact missing "$tool"
done
[ -r /proc/self/stat ] || fact missing /proc
fact uid "$(id -u)"
fact user "$(id -un)"
fact kernel "$(uname -s) $(uname -r)"
fact machine "$(uname -m)"
fact cpus "$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null)"
fact clock "$(epoch)"
open_root
know_root
fact root "$root"
fact root_id "$root_id"
know_secrets
[ -z "$vault" ] || fact memory yes
fact free_kb "$(df -Pk "$root" | awk 'NR == 2 { print $4 }')"
# those that a container can ask, too; the local ones of systemd-resolved pass questions on to others
outside() { awk '$1 == "nameserver" && $2 !~ /^127\.|^::1$|%/ { print $2 }' "$1" 2>/dev/null; }
fact resolvers "$({ outside /etc/resolv.conf; outside /run/systemd/resolve/resolv.conf; } | awk '!seen[$0]++' | head -n 3 | tr '\n' ' ')"
set -- "$root"/sb/*
[ -e "$1" ] || shift
fact sandboxes "$#"
[ ! -e "$root/slots/cordoned" ] || fact cordoned yes
# what containers could reach of the host: its addresses, and ports where it listens on all of them
awk '/32 host LOCAL/ && a !~ /^127\./ { print "address " a } { a = $2 }' /proc/net/fib_trie 2>/dev/null | sort -u | head -n 32
awk '$4 == "0A" && $2 ~ /^00000000:/ { print "listens " substr($2, 10) }' /proc/net/tcp 2>/dev/null | sort -u | head -n 3
if ! command -v docker >/dev/null 2>&1; then
	fact docker absent
	exit 0
fi
fact socket "$socket"
if [ ! -S "$socket" ]; then
	fact socket_state absent
elif [ ! -w "$socket" ]; then
	fact socket_state refused
fi
fact firewall "$(firewall_state)" &
version=$(docker compose version --short 2>/dev/null)
fact compose "$version"
case $version in
v[0-9]* | [0-9]*) ;; # else what it can tells more
*) if docker compose --help 2>/dev/null | grep -q -e '--progress'; then fact compose_progress yes; fi ;;
esac
wait

# with no sandbox to watch the reaper looks around once and ends
missing_reaper() {
	[ -f "$root/slots/reaper.sh" ] && ! alive "$root/slots/reaper.pid" || return
	[ "$1" -gt 0 ] || [ -z "$(find "$root/slots/swept" -mmin -1 2>/dev/null)" ]
}
if missing_reaper "$#"; then
	exec 8>>"$root/slots/admit"
	if flock -n 8 && missing_reaper "$#"; then
		launch "$root/slots/reaper.sh" "$root/slots/reaper.pid" /dev/null sweep 8>&-
	fi
	exec 8>&-
fi
exit 0
