# Streams the job's output from an offset until it ends. In: id offset.
{ command exec 3<"$job/out"; } 2>/dev/null || die 65 "the sandbox was removed meanwhile"
dd bs=1 skip="$offset" count=0 <&3 2>/dev/null

# The job wakes whoever is written in follower.*; what that file's time tells is
# when this one last read.
myself
follower=$job/follower.${me%% *}
wakeable
echo "$me" 2>/dev/null >"$follower"
news=1
while listening; do
	begin_doze 1
	if [ ! -d "$dir" ] || [ -e "$dir/destroying" ]; then
		end_doze
		die 72 "the sandbox is being destroyed"
	fi
	alive "$job/pid" || died=1
	rc=
	read -r rc blamed 2>/dev/null <"$job/rc"
	# both times may be of one tick of the clock: as old as the reading is news
	[ "$job/out" -ot "$follower" ] || news=1
	if [ -n "$news" ]; then
		{ echo >>"$follower"; } 2>/dev/null
		cat <&3
		news=
	fi
	[ -z "$rc${died:-}" ] || end_doze
	case $rc in
	0) exit 0 ;;
	?*) read -r stage <"$job/stage" && die 77 "${blamed:-$stage} $rc" ;;
	esac
	[ -z "${died:-}" ] || die 76 "the job was killed on the host"
	doze
done
exit 137 # nobody learns of it
