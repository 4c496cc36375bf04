# Removes the sandbox and everything that carries its id. In: id generation
# (0: whatever is there). Out: "removed|left kind id name" a line.
open_root
if [ "$generation" -gt 0 ] && [ -f "$dir/attempt" ]; then
	read -r have _ <"$dir/attempt"
	[ "$have" -le "$generation" ] || die 73 "the host holds generation $have of the sandbox"
fi
destroy
exit $?
