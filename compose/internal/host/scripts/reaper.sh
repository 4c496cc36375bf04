# The host's own caretaker: one per root while it holds a sandbox, with no
# client alive. It looks at least every 30 seconds, by the host's clock.
exec 8>"$root/slots/reaper"
flock -n 8 || exit 0
echo "$$ $(started $$)" >"$root/slots/.reaper.pid.$$"
mv "$root/slots/.reaper.pid.$$" "$root/slots/reaper.pid"
cd / || exit 1
while :; do
	reap_expired
	reap_strays
	trim_cache
	dir=$root/sb/none
	rest
	next=30
	for lease in "$root"/sb/*/lease; do
		[ -e "$lease" ] || continue
		left=$(($(cat "$lease") - $(epoch)))
		[ "$left" -lt "$next" ] && next=$left
	done
	[ "$next" -lt 1 ] && next=1
	sleep "$next"
done
