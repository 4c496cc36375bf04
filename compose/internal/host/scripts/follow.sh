# Streams the job's output from an offset until it ends. In: id offset.
job=$dir/jobs/up
while :; do
	if [ ! -d "$dir" ] || [ -e "$dir/destroying" ]; then die 72 "the sandbox is being destroyed"; fi
	ended=
	if [ -e "$job/rc" ]; then ended=1; elif ! alive "$job/pid"; then [ -e "$job/rc" ] || ended=died; fi
	size=$(wc -c <"$job/out" 2>/dev/null || echo 0)
	if [ "$size" -gt "$offset" ]; then
		tail -c "+$((offset + 1))" "$job/out" | head -c "$((size - offset))"
		offset=$size
	fi
	case $ended in
	1) break ;;
	died) die 76 "the job was killed on the host" ;;
	esac
	sleep 0.1 2>/dev/null || sleep 1
done
[ "$(cat "$job/rc")" = 0 ] || die 77 "$(cat "$job/stage")"
