# Puts everything the job needs in place. In: id generation attempt tree
# networks ("key subnet" a line); stdin: a tar of the control files. Once the
# job was started, by whomever, there is nothing to do.
open_root
job=$dir/jobs/up
locked=
n=0
until [ -e "$job/pid" ]; do
	if lock 0; then locked=1 && break; fi
	[ -d "$dir" ] || break
	n=$((n + 1))
	[ "$n" -lt 600 ] || die 75 "another operation holds the sandbox"
	sleep 0.2 2>/dev/null || sleep 1
done
guard
if [ -n "$locked" ] && [ ! -e "$dir/placed" ]; then
	printf '%s\n' "$networks" | while read -r key subnet; do
		[ -n "$key" ] || continue
		claim=$root/net/$(printf %s "$subnet" | tr / _)
		[ "$(cat "$claim" 2>/dev/null)" = "$id" ] && continue
		(set -C && echo "$id" >"$claim") 2>/dev/null || exit 68
	done || {
		for claim in "$root"/net/*; do [ "$(cat "$claim" 2>/dev/null)" = "$id" ] && rm -f "$claim"; done
		die 68 "a subnet was taken meanwhile"
	}
	printf '%s\n' "$networks" >"$dir/networks"
	exec 7>"$root/slots/cache"
	flock -s -w 60 7 || die 75 "the cache is held"
	[ -d "$root/cache/src/$tree" ] || die 81 "the cached tree is gone"
	rm -rf "$dir/src" "$dir/.src"
	cp -a --reflink=auto "$root/cache/src/$tree" "$dir/.src" 2>/dev/null || cp -a "$root/cache/src/$tree" "$dir/.src" || die 80 "cannot copy the tree: $root may be full"
	chmod 755 "$dir/.src" && mv "$dir/.src" "$dir/src"
	exec 7>&-
	tar --no-same-owner -pxf - -C "$dir" || die 79 "the control files arrived incomplete"
	[ -f "$dir/complete" ] || die 79 "the control files arrived incomplete"
	if [ -s "$dir/mkdirs" ]; then
		(umask 022 && cd "$dir/src" && xargs -0 mkdir -p -- <"$dir/mkdirs") || die 80 "cannot create the directories that are bound"
	fi
	if [ -s "$dir/copies" ]; then
		# pairs of source and target; nothing has run yet, so no link can have been planted
		(cd "$dir/src" && xargs -0 -n 2 sh -c 'cp -a -- "./$2" "$1/$3"' sh "$dir" <"$dir/copies") || die 80 "cannot copy the files that are pinned"
	fi
	: >"$dir/placed"
else
	cat >/dev/null
fi
