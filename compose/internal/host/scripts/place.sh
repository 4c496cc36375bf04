# Puts everything the job needs in place. In: id generation attempt tree
# claims ("a.b.c.d_28" a word) networks ("key subnet" a line); stdin: a tar of
# the control files. Once the job was started, by whomever, there is nothing to
# do.
enter
if [ ! -e "$job/pid" ]; then
	# all that comes over the link comes before the lock
	cat >"$dir/.control.$$"
	alone
fi

# claim_subnets makes a file for every block of 16 addresses, or none at all.
claim_subnets() {
	drop_claims
	set -C
	for claim in $claims; do
		echo "$id" 2>/dev/null >"$root/net/$claim" || { drop_claims; die 68 "a subnet was taken meanwhile"; }
	done
	set +C
}

copy_tree() {
	exec 7>>"$root/slots/cache"
	take 7 60 -s || die 75 "the cache is held"
	cached=$root/cache/src/$tree
	[ -d "$cached" ] || die 81 "the cached tree is gone"
	epoch >"$cached/used"
	rm -rf "$dir/src" "$dir/.src"
	cp -a --reflink=auto "$cached/tree" "$dir/.src" 2>/dev/null || {
		rm -rf "$dir/.src"
		cp -a "$cached/tree" "$dir/.src" || die 71 "cannot copy the tree: $root may be full"
	}
	exec 7>&-
	mv "$dir/.src" "$dir/src"
}

place() {
	claim_subnets
	copy_tree
	# an earlier try may have come this far
	rm -rf "$dir/complete" "$dir/pins"
	mkdir "$dir/pins"
	tar --no-same-owner -pxf "$dir/.control.$$" -C "$dir" && [ -f "$dir/complete" ] || die 79 "the control files arrived incomplete"
	if [ -s "$dir/mkdirs" ]; then
		(umask 022 && cd "$dir/src" && xargs -0 mkdir -p -- <"$dir/mkdirs") || die 71 "cannot create the directories that are bound"
	fi
	if [ -s "$dir/copies" ]; then
		# pairs of source and target; nothing has run yet, so no link can have been planted
		(cd "$dir/src" && xargs -0 -n 2 sh -c 'cp -a -- "./$2" "$1/$3"' sh "$dir" <"$dir/copies") || die 71 "cannot copy the files that are pinned"
	fi
	printf '%s\n' "$networks" >"$dir/networks" && : >"$dir/placed"
}

if [ ! -e "$job/pid" ] && [ ! -e "$dir/placed" ]; then place; fi
rm -f "$dir/.control.$$"
