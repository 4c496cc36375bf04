# Removes the sandbox and everything that carries its id. In: id generation
# (0: whatever is there). Out: "removed|left kind id name" a line.
open_root
destroy
exit $?
