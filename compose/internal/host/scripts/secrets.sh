# Brings the values of the sandbox's secrets into place, before its job starts.
# In: id generation attempt; stdin: a tar of the files and, as proof that all
# arrived, an empty one called .complete. No value is a variable or an argument
# of anything. Once the job was started, by whomever, there is nothing to do.
enter
know_secrets
if [ -e "$job/pid" ]; then exit 0; fi
stage=${secrets%/*}/.new.$id.$$
trap 'rm -rf "$stage"' EXIT
trap 'exit 79' HUP INT TERM PIPE # nobody may be there to hear what went wrong

# another teardown may take the directory away when it has become empty
open_vault() {
	[ "$secrets" != "$dir/secrets" ] || return 0
	mkdir "$vault" 2>/dev/null || own_vault || die 80 "$vault belongs to another account: remove it on the host"
}
n=0
until open_vault && mkdir "$stage" 2>/dev/null; do
	n=$((n + 1))
	[ "$n" -lt 5 ] || die 71 "cannot write in ${secrets%/*}: it may be full"
done
tar --numeric-owner -pxf - -C "$stage" || die 79 "the secrets arrived incomplete, or ${secrets%/*} is full"
[ -f "$stage/.complete" ] && rm -f "$stage/.complete" || die 79 "the secrets arrived incomplete"
alone
if [ ! -e "$job/pid" ]; then
	# an earlier try may have come this far
	rm -rf "$secrets" && mv "$stage" "$secrets" || die 71 "cannot write in ${secrets%/*}"
fi
