# Starts the job unless it was started before. It stands on the lock as a
# worker and keeps it until it ends; the link to the client may break meanwhile.
if [ ! -e "$job/pid" ]; then
	: >"$job/out"
	launch "$job/run" "$job/pid" "$job/out"
fi
exec 4>&-
