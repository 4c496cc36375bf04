# What this host is and has, one fact a line. Sweeps what is overdue on the
# way, in the background: every connection does.
fact() { printf '%s %s\n' "$1" "$2"; }
for tool in tar gzip flock setsid sha256sum awk sed find xargs timeout cut df; do
	command -v "$tool" >/dev/null 2>&1 || fact missing "$tool"
done
fact uid "$(id -u)"
fact user "$(id -un)"
fact kernel "$(uname -s) $(uname -r)"
fact machine "$(uname -m)"
fact cpus "$(getconf _NPROCESSORS_ONLN 2>/dev/null)"
fact clock "$(epoch)"
open_root
fact root "$root"
fact root_id "$(root_id)"
fact free_kb "$(df -Pk "$root" | awk 'NR==2 {print $4}')"
fact sandboxes "$(ls "$root/sb" | wc -l | tr -d ' ')"
if ! command -v docker >/dev/null 2>&1; then
	fact docker absent
	exit 0
fi
fact docker "$(command -v docker)"
if [ -z "${socket:-}" ]; then
	socket=/var/run/docker.sock
	for candidate in "${DOCKER_HOST:-}" "$socket" "${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/docker.sock"; do
		candidate=${candidate#unix://}
		if [ -S "$candidate" ]; then socket=$candidate && break; fi
	done
fi
fact socket "$socket"
if [ ! -S "$socket" ]; then
	fact socket_state absent
elif [ ! -w "$socket" ]; then
	fact socket_state refused
fi
fact compose "$(docker compose version --short 2>/dev/null)"
if docker compose --help 2>/dev/null | grep -q -e '--progress'; then fact compose_progress yes; fi
if [ -n "$(ls "$root/sb")" ] && ! alive "$root/slots/reaper.pid"; then
	(reap_expired && reap_strays) </dev/null >/dev/null 2>&1 &
fi
exit 0
