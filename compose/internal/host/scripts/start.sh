# Starts the job unless it was started before. It inherits the lock, on
# descriptor 4, and keeps it until it ends; the link to the client may break
# meanwhile.
if [ -n "$locked" ]; then
	if [ ! -e "$job/pid" ]; then
		: >"$job/out"
		setsid sh "$job/run" </dev/null >>"$job/out" 2>&1 4>&9 9>&- &
		n=0
		while [ ! -e "$job/pid" ] && [ "$n" -lt 100 ]; do sleep 0.02 2>/dev/null || sleep 1; n=$((n + 1)); done
	fi
	exec 9>&-
fi
