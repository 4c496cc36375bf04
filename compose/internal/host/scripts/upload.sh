# Receives a tree into the cache, all of it or what differs from the cached
# tree base. In: id generation attempt tree source base (or empty) delete (paths
# to remove from base, one a line) owner entries; stdin: a gzip tar whose last
# entry is the manifest. Only a complete tree gets its name.
enter
[ ! -d "$root/cache/src/$tree" ] || exit 0
stage=$root/cache/src/.stage.$id.$$
trap 'cd / && rm -rf "$stage"' EXIT
trap 'exit 79' HUP INT TERM PIPE # nobody may be there to hear what went wrong
mkdir "$stage" || die 71 "cannot write in $root: the disk may be full"

if [ -n "$base" ]; then
	exec 7>>"$root/slots/cache"
	take 7 60 -s || die 75 "the cache is held"
	# links will do: no file of a cached tree is ever written in place
	cp -al "$root/cache/src/$base/tree" "$stage/tree" 2>/dev/null || {
		rm -rf "$stage/tree"
		cp -a "$root/cache/src/$base/tree" "$stage/tree" 2>/dev/null || die 81 "the base tree is gone"
	}
	exec 7>&-
	cd "$stage/tree" || die 79 "cannot prepare the upload"
	[ -z "$delete" ] || printf '%s' "$delete" | tr '\n' '\0' | xargs -0 rm -rf -- || die 79 "cannot prepare the upload"
else
	(umask 022 && mkdir "$stage/tree") && cd "$stage/tree" || die 71 "cannot write in $root"
fi

umask 022
tar --no-same-owner --no-same-permissions -xzf - || die 79 "the upload arrived incomplete"
umask 077
mv .sandboxer-manifest "$stage/manifest" 2>/dev/null || die 79 "the upload arrived incomplete"
sum=$(sha256sum <"$stage/manifest")
[ "${sum%% *}" = "$tree" ] || die 79 "the upload arrived damaged"
[ "$(find . | wc -l)" -eq "$((entries + 1))" ] || die 79 "the upload arrived incomplete"
if [ "$owner" != 0:0 ] && [ "$(id -u)" = 0 ]; then chown -R -h "$owner" .; fi

echo "$source" >"$stage/source" && epoch >"$stage/used" || die 71 "cannot write in $root: the disk may be full"
exec 7>>"$root/slots/cache"
take 7 60 || die 75 "the cache is held"
[ -d "$root/cache/src/$tree" ] || mv "$stage" "$root/cache/src/$tree" || die 80 "cannot write in $root"
