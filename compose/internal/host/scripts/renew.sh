# Moves the lease to later. In: id lease.
{ command exec 6>>"$dir/lease.lock"; } 2>/dev/null || die 65 "the host does not hold the sandbox"
take 6 30 || die 75 "the lease is held"
[ -e "$dir/destroying" ] && die 72 "the sandbox is being destroyed"
read -r have 2>/dev/null <"$dir/lease" || die 65 "the host does not hold the sandbox"
if [ "$lease" -gt "$have" ]; then
	echo "$lease" >"$dir/.lease" && mv "$dir/.lease" "$dir/lease" || die 71 "cannot write in $root: the disk may be full"
fi
