#!/bin/sh
# What the validator does, with nothing but the sandbox command, a POSIX shell
# with its usual tools, and curl or wget:
#
#   validate.sh DIR SERVICE:PORT/PATH...
#
# brings up the environment of the working tree DIR, asks each path until it
# answers with success or patience runs out, has the environment taken away and
# reads the proof of that. Exit codes: 0 every path answered, 1 the repository
# is at fault, 2 it is not, and nothing is known of the repository.
#
# SANDBOX is the command, with options if need be (sandbox); PATIENCE how many
# seconds each path may take (30).
set -u
[ $# -ge 2 ] || { echo "usage: validate.sh DIR SERVICE:PORT/PATH..." >&2; exit 2; }
repo=$1
shift
sandbox=${SANDBOX:-sandbox}
patience=${PATIENCE:-30}
scratch=$(mktemp -d) || exit 2
id= forward=

say() { printf 'validate.sh: %s\n' "$*" >&2; }
pause() { sleep 0.2 2>/dev/null || sleep 1; }

# The documents of the command are indented by two: a member of the document
# itself stands on a line that begins with two spaces, and one of a member of
# it on one that begins with four.
field() { sed -n 's/^  "'"$1"'": "\(.*\)",\{0,1\}$/\1/p'; }
field_in() { sed -n '/^  "'"$1"'": {/,/^  }/s/^    "'"$2"'": "\(.*\)",\{0,1\}$/\1/p'; }

stop_forward() {
	[ -n "$forward" ] || return 0
	kill "$forward" 2>/dev/null
	wait "$forward"
	forward=
}

# finish takes the environment away, whatever happened, and reads the proof.
finish() {
	status=$?
	trap - EXIT
	stop_forward
	# a signal may come between the end of create and the next line
	if [ -z "$id" ] && [ "$(field state 2>/dev/null <"$scratch/box")" = ready ]; then id=$(field id <"$scratch/box"); fi
	if [ -n "$id" ]; then
		$sandbox destroy "$id" --json >"$scratch/end"
		proved=$(field_in removal verified_at <"$scratch/end")
		if [ "$(field state <"$scratch/end")" = destroyed ] && [ -n "$proved" ]; then
			echo "absent  sandbox $id, proved at $proved"
		else
			say "sandbox $id is not proved absent: try sandbox reconcile"
			status=2
		fi
	fi
	rm -rf "$scratch"
	exit "$status"
}
trap finish EXIT
trap 'exit 2' HUP INT TERM

fetch() {
	if command -v curl >/dev/null; then
		curl --fail --silent --show-error --max-time 10 --output /dev/null "$1"
	else
		wget -q -T 10 -O /dev/null "$1"
	fi
}

# answers SERVICE:PORT /PATH: it says in $scratch/why what is wrong.
answers() {
	if [ -z "$forward" ]; then
		: >"$scratch/address"
		$sandbox forward "$id" "$1" >"$scratch/address" 2>"$scratch/why" &
		forward=$!
		until [ -s "$scratch/address" ]; do
			kill -0 "$forward" 2>/dev/null || { stop_forward; return 1; } # nobody listens there yet
			pause
		done
	fi
	fetch "http://$(cat "$scratch/address")$2" 2>"$scratch/why"
}

$sandbox create --profile profile.compose-e2e --input "repo=$repo" --project wise-validator --actor-type atm --actor validate.sh --json >"$scratch/box"
case $? in
0) id=$(field id <"$scratch/box") ;;
4) exit 1 ;; # refused by admission
1)
	# the environment did not come up, and what was made of it is removed
	case $(field_in failure code <"$scratch/box") in
	provision | not_ready | ready_timeout) exit 1 ;;
	esac
	exit 2
	;;
*) exit 2 ;;
esac

failed=0
for target; do
	end=$(($(date +%s) + patience))
	until answers "${target%%/*}" "/${target#*/}"; do
		if [ "$(date +%s)" -ge "$end" ]; then
			echo "failed  $target: $(head -n 1 "$scratch/why")"
			failed=1
			stop_forward
			continue 2
		fi
		pause
	done
	echo "passed  $target"
	stop_forward
done
exit "$failed"
