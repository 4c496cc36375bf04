# Streams the job's output from an offset until it ends. In: id offset.
{ command exec 3<"$job/out"; } 2>/dev/null || die 65 "the sandbox was removed meanwhile"
dd bs=1 skip="$offset" count=0 <&3 2>/dev/null
ticks=0
while listening; do
	if [ ! -d "$dir" ] || [ -e "$dir/destroying" ]; then die 72 "the sandbox is being destroyed"; fi
	alive "$job/pid" || died=1
	rc=
	read -r rc 2>/dev/null <"$job/rc"
	cat <&3
	case $rc in
	0) exit 0 ;;
	?*) read -r stage <"$job/stage" && die 77 "$stage $rc" ;;
	esac
	[ -z "${died:-}" ] || die 76 "the job was killed on the host"
	# a short job is soon noticed, a long one costs little
	ticks=$((ticks + 1))
	if [ "$ticks" -lt 50 ]; then pause 0.1; else pause 0.4; fi
done
exit 137 # nobody learns of it
