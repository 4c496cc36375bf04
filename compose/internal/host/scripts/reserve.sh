# Claims sb/<id> for one attempt, before anything of it exists on the engine.
# In: id generation attempt lease slots disk_kb cache_ttl tree source meta;
# stdin: the reaper's text. Out: what is already there, one fact a line.
open_root
claim() {
	free_kb=$(df -Pk "$root" | awk 'NR==2 {print $4}')
	if [ "$free_kb" -lt "$disk_kb" ]; then
		rm -f "$root/lock/$id"
		die 71 "$root has $((free_kb / 1024)) MiB free, $((disk_kb / 1024)) MiB are needed"
	fi
	if [ "$slots" -gt 0 ] && [ "$(ls "$root/sb" | wc -l)" -ge "$slots" ]; then
		rm -f "$root/lock/$id"
		die 67 "all $slots slots of the host are taken"
	fi
	stage=$root/sb/.$id.$attempt
	rm -rf "$stage"
	mkdir -p "$stage/jobs/up" "$stage/pins" "$stage/docker" || die 80 "cannot write in $root"
	printf '%s\n' "$meta" >"$stage/meta.json"
	echo "$generation $attempt" >"$stage/attempt"
	echo "$lease" >"$stage/lease"
	echo "$tree" >"$stage/tree"
	echo "$cache_ttl" >"$root/cache/ttl"
	printf '{}\n' >"$stage/docker/config.json"
	if [ -d "$HOME/.docker/cli-plugins" ]; then ln -s "$HOME/.docker/cli-plugins" "$stage/docker/cli-plugins"; fi
	mv "$stage" "$dir" || die 80 "cannot write in $root"
}
# a directory that is there already belongs to an earlier try, whose job may
# hold the lock: looking needs none
if [ ! -d "$dir" ]; then
	lock 60 || die 75 "another operation holds the sandbox"
fi
exec 8>"$root/slots/admit"
flock -w 60 8 || die 75 "the host's admission lock is held"
[ -d "$dir" ] || claim
exec 9>&-
[ -e "$dir/destroying" ] && die 72 "the sandbox is being destroyed"
read -r have attempt <"$dir/attempt"
[ "$have" = "$generation" ] || die 66 "the host holds generation $have of the sandbox"
tree=$(cat "$dir/tree")
if alive "$root/slots/reaper.pid"; then
	cat >/dev/null
else
	cat >"$root/slots/.reaper.$attempt" && mv "$root/slots/.reaper.$attempt" "$root/slots/reaper.sh"
	setsid sh "$root/slots/reaper.sh" </dev/null >/dev/null 2>&1 8>&- &
	# the reaper is on duty before anything it may have to reap
	n=0
	while ! alive "$root/slots/reaper.pid" && [ "$n" -lt 50 ]; do sleep 0.02 2>/dev/null || sleep 1; n=$((n + 1)); done
fi
echo "attempt $attempt"
echo "root $root"
echo "root_id $(root_id)"
echo "tree $tree"
if [ -d "$root/cache/src/$tree" ]; then
	echo "cached yes"
elif [ -f "$root/cache/src/base.$source" ]; then
	base=$(cat "$root/cache/src/base.$source")
	[ -d "$root/cache/src/$base" ] && echo "base $base"
fi
[ -f "$dir/networks" ] && sed 's/^/network /' "$dir/networks"
ls "$root/net" | sed 's/^/taken /'
exit 0
