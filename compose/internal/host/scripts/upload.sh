# Receives a tree into the cache. In: id generation attempt tree source delta
# owner entries; stdin: a gzip tar whose last entry is the manifest. Only a
# complete tree gets its name; a cut upload leaves a stage that is swept.
guard
stage=$root/cache/src/.stage.$attempt
[ "$delta" = 1 ] || rm -rf "$stage"
mkdir -p "$stage" && cd "$stage" || die 80 "cannot write in $root"
umask 022
tar --no-same-owner --no-same-permissions -xzf - || die 79 "the upload arrived incomplete"
umask 077
[ -f .sandboxer-manifest ] || die 79 "the upload arrived incomplete"
[ "$(sha256sum <.sandboxer-manifest | cut -d' ' -f1)" = "$tree" ] || die 79 "the upload arrived damaged"
mv .sandboxer-manifest "$root/cache/src/.manifest.$attempt"
[ "$(find . -mindepth 1 -printf x 2>/dev/null | wc -c)" = "$entries" ] || [ "$(find . | sed 1d | wc -l)" = "$entries" ] || die 79 "the upload arrived incomplete"
if [ "$(id -u)" = 0 ] && [ "$owner" != 0:0 ]; then chown -R -h "$owner" .; fi
cd /
exec 7>"$root/slots/cache"
flock -w 60 7 || die 75 "the cache is held"
if [ -d "$root/cache/src/$tree" ]; then
	rm -rf "$stage" "$root/cache/src/.manifest.$attempt"
else
	mv "$root/cache/src/.manifest.$attempt" "$root/cache/src/$tree.manifest" && mv "$stage" "$root/cache/src/$tree" || die 80 "cannot write in $root"
fi
touch "$root/cache/src/$tree"
echo "$tree" >"$root/cache/src/.base.$attempt" && mv "$root/cache/src/.base.$attempt" "$root/cache/src/base.$source"
