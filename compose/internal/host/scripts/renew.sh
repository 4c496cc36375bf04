# Moves the lease to later. In: id lease.
[ -d "$dir" ] || die 65 "the host does not hold the sandbox"
exec 6>"$dir/lease.lock"
flock -w 30 6 || die 75 "the lease is held"
[ -e "$dir/destroying" ] && die 72 "the sandbox is being destroyed"
have=$(cat "$dir/lease")
if [ "$lease" -gt "$have" ]; then
	echo "$lease" >"$dir/.lease" && mv "$dir/.lease" "$dir/lease" || die 80 "cannot write in $root"
fi
