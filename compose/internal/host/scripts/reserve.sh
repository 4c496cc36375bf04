# Claims sb/<id> for one attempt, before anything of it exists on the engine.
# In: id generation attempt lease slots disk_kb cache_ttl tree source meta;
# stdin: the reaper's text. Out: what is already there, one fact a line.
refuse() {
	let_go
	die "$@"
}

claim() {
	# one that is recreated was here before
	[ ! -e "$root/slots/cordoned" ] || [ "$generation" -gt 1 ] || refuse 83 "the host is cordoned: it takes no new sandboxes"
	free_kb=$(df -Pk "$root" | awk 'NR == 2 { print $4 }')
	[ "$free_kb" -ge "$disk_kb" ] || refuse 71 "$root has $((free_kb / 1024)) MiB free, $((disk_kb / 1024)) MiB are needed"
	set -- "$root"/sb/*
	[ -e "$1" ] || shift
	[ "$slots" = 0 ] || [ "$#" -lt "$slots" ] || refuse 67 "all $slots slots of the host are taken"
	for stale in "$root"/sb/.new.*; do [ ! -e "$stale" ] || rm -rf "$stale"; done
	new=$root/sb/.new.$id
	mkdir -p "$new/jobs/up" "$new/pins" "$new/docker" &&
		printf '%s\n' "$meta" >"$new/meta.json" &&
		echo "$generation $attempt" >"$new/attempt" &&
		echo "$lease" >"$new/lease" &&
		echo "$tree" >"$new/tree" &&
		echo '{}' >"$new/docker/config.json" &&
		echo "$cache_ttl" >"$root/cache/ttl" &&
		echo "$socket" >"$root/slots/engine" || refuse 71 "cannot write in $root: the disk may be full"
	# plugins are found where the account's docker command finds them
	plugins=${DOCKER_CONFIG:-${HOME:-}/.docker}/cli-plugins
	if [ -d "$plugins" ]; then ln -s "$plugins" "$new/docker/cli-plugins"; fi
	mv "$new" "$dir" || refuse 80 "cannot write in $root"
}

open_root
know_root
# A directory that is there belongs to an earlier try, whose job may hold the
# lock: looking needs none. One that is not is made under the lock, which a
# teardown holds to its end.
locked=
if [ ! -d "$dir" ]; then
	hold 60 || die 75 "another operation holds the sandbox"
	locked=1
fi
exec 8>>"$root/slots/admit"
take 8 60 || die 75 "the host's admission lock is held"
if [ ! -d "$dir" ]; then
	[ -n "$locked" ] || die 65 "the sandbox was removed meanwhile"
	claim
fi
exec 9>&-

[ -e "$dir/destroying" ] && die 72 "the sandbox is being destroyed"
read -r have attempt 2>/dev/null <"$dir/attempt" && read -r tree 2>/dev/null <"$dir/tree" || die 65 "the sandbox was removed meanwhile"
[ "$have" = "$generation" ] || die 66 "the host holds generation $have of the sandbox"

if alive "$root/slots/reaper.pid"; then
	[ "$lease" -ge "$(($(epoch) + 30))" ] || wake_reaper
else
	cat >"$root/slots/.reaper.sh" && mv "$root/slots/.reaper.sh" "$root/slots/reaper.sh" &&
		launch "$root/slots/reaper.sh" "$root/slots/reaper.pid" /dev/null 8>&- && alive "$root/slots/reaper.pid" ||
		die 80 "cannot start the reaper in $root"
fi

echo "attempt $attempt"
echo "root $root"
echo "root_id $root_id"
echo "tree $tree"
know_secrets
echo "secrets $secrets"
[ -z "$vault" ] || echo "memory yes"
if [ -d "$root/cache/src/$tree" ]; then
	echo "cached yes"
else
	base=
	for file in $(cd "$root/cache/src" && grep -lxsF -e "$source" -- */source); do
		file=${file%/source}
		if [ -z "$base" ] || [ "$root/cache/src/$file/used" -nt "$root/cache/src/$base/used" ]; then base=$file; fi
	done
	[ -z "$base" ] || echo "base $base"
fi
if [ -e "$dir/placed" ]; then
	while read -r line; do echo "network $line"; done <"$dir/networks"
fi
for claim in "$root"/net/*; do
	[ ! -e "$claim" ] || echo "taken ${claim##*/}"
done
exit 0
