# Shared by every script of the host protocol. Variables come from the client
# or, in the job and the reaper, from the head of their own file. Exit codes
# are the protocol:
#   65 gone or taken by another attempt    66 another generation is there
#   67 no free slot     68 subnet taken     69 something is left
#   71 not enough disk  72 being destroyed  73 newer generation
#   74 files only root can remove           75 lock not obtained
#   76 the job died     77 the job failed   78 the engine does not answer
#   79 an upload arrived incomplete         80 the root directory is not ours
#   81 the cached tree is gone              82 the firewall cannot be changed
#   83 the host takes no new sandboxes
# Descriptors: 3 the job's output, 4 a worker of the sandbox, 5 builds,
# 6 a lease, 7 the cache, images or the turn to look for a place, 8 admission or
# a place for heavy work, 9 the sandbox's lock.
set -u
umask 077

say() { printf '%s\n' "$*" >&2; }
die() { code=$1; shift; say "$*"; exit "$code"; }
pause() { sleep "$1" 2>/dev/null || sleep 1; }

if [ -z "${root:-}" ]; then
	if [ "$(id -u)" = 0 ]; then
		root=/var/lib/sandboxer
	else
		root=${XDG_STATE_HOME:-${HOME:-}/.local/state}/sandboxer/host
	fi
fi
dir=$root/sb/${id:-none}
job=$dir/jobs/up

# find_socket looks where engines listen. Every script has to find the same
# one, whatever context the account's docker command prefers; and as long as
# the root holds sandboxes, the one that they are on, also when it is stopped
# and another is not.
find_socket() {
	read -r pinned 2>/dev/null <"$root/slots/engine" && socket=$pinned
	[ -z "${socket:-}" ] || return 0
	for socket in "${DOCKER_HOST:-}" /var/run/docker.sock "${XDG_RUNTIME_DIR:+$XDG_RUNTIME_DIR/docker.sock}"; do
		socket=${socket#unix://}
		[ -S "$socket" ] && return
	done
	socket=/run/user/$(id -u)/docker.sock
	[ -S "$socket" ] || socket=/var/run/docker.sock
}
find_socket
DOCKER_HOST=unix://$socket
export DOCKER_HOST

# open_root makes the layout, once, and refuses one that somebody else owns.
open_root() {
	[ -e "$root" ] || [ -L "$root" ] || mkdir -p "$root" 2>/dev/null ||
		die 80 "cannot create $root: give the account a directory it may write (root: in the host configuration)"
	if [ -L "$root" ] || [ ! -O "$root" ]; then
		die 80 "$root is a link or belongs to another account: choose another directory (root: in the host configuration)"
	fi
	[ -e "$root/host.json" ] && return
	chmod 700 "$root" && mkdir -p "$root/lock" "$root/slots" "$root/net" "$root/sb" "$root/cache/src" "$root/cache/steps" ||
		die 80 "cannot write in $root"
	new=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
	printf '{"schema":1,"root":"%s"}\n' "$new" >"$root/.host.json.$$"
	# a hard link loses the race quietly where a rename would win it twice
	ln "$root/.host.json.$$" "$root/host.json" 2>/dev/null
	rm -f "$root/.host.json.$$"
}

# know_root sets root_id to the random name of this root.
know_root() {
	root_id=
	read -r root_id 2>/dev/null <"$root/host.json" || return
	root_id=${root_id#*'"root":"'}
	root_id=${root_id%%'"'*}
}

# know_secrets sets secrets to where the secrets of the sandbox lie: in vault,
# the directory of this root on a file system in memory, or, where the host has
# none that the account can use, in the sandbox's own; vault is empty then.
know_secrets() {
	vault= secrets=$dir/secrets
	know_root && [ -n "$root_id" ] && in_memory || return 0
	vault=/dev/shm/sandboxer-$root_id
	if [ -e "$vault" ] || [ -L "$vault" ]; then
		own_vault || { vault= && return; }
	fi
	secrets=$vault/${id:-none}
}

in_memory() {
	[ "$(awk '$2 == "/dev/shm" { type = $3 } END { print type }' /proc/self/mounts)" = tmpfs ] && [ -w /dev/shm ]
}

# own_vault: the directory is there and nobody else's.
own_vault() { [ -d "$vault" ] && [ ! -L "$vault" ] && [ -O "$vault" ]; }

# take FD SECONDS [-s] waits for a lock. Busybox's flock has no bound of its own.
take() { flock -n ${3:-} "$1" || timeout "$2" flock ${3:-} "$1"; }

# same FD: the sandbox's lock file is still the one that was opened.
same() { [ "$root/lock/$id" -ef "/proc/self/fd/$1" ]; }

# hold takes the sandbox's lock. A teardown removes the file while it holds the
# lock, which is then worthless to whoever waited for it.
hold() {
	while :; do
		exec 9>>"$root/lock/$id"
		take 9 "$1" || return 75
		same 9 && return
	done
}

# let_go leaves no lock file behind where there is no sandbox.
let_go() {
	[ -d "$dir" ] || rm -f "$root/lock/$id"
	exec 9>&-
}

# enter lets only the attempt that holds the reservation go on, and makes it a
# worker: a process that has the lock file open as descriptor 4, as its
# children do. A teardown marks the directory and then ends all workers; so a
# worker that saw no mark is seen by the teardown.
enter() {
	[ -d "$dir" ] || die 65 "the sandbox was removed meanwhile"
	exec 4>>"$root/lock/$id"
	[ -d "$dir" ] || { flock -n 4 && [ ! -d "$dir" ] && same 4 && rm -f "$root/lock/$id"; }
	guard
}

guard() {
	[ -d "$dir" ] || die 65 "the sandbox was removed meanwhile"
	[ -e "$dir/destroying" ] && die 72 "the sandbox is being destroyed"
	read -r have holder 2>/dev/null <"$dir/attempt" && [ "$have $holder" = "$generation $attempt" ] && same 4 ||
		die 65 "another attempt holds the sandbox"
}

# alone waits for the sandbox's lock, unless the job was started, by whomever.
alone() {
	n=0
	until flock -n 4 || [ -e "$job/pid" ]; do
		listening && [ "$n" -lt 1200 ] || die 75 "another client is preparing the sandbox"
		n=$((n + 1))
		pause 0.1
	done
	guard
}

# started sets start to the start time of a process that runs: a PID alone may
# have been used again.
started() {
	start=
	read -r stat 2>/dev/null <"/proc/$1/stat" || return
	set -- ${stat##*) }
	case $1 in Z | X) return 1 ;; esac
	start=${20}
}

# alive FILE: the process that is written in FILE as "pid start" still runs.
alive() {
	read -r apid astart 2>/dev/null <"$1" && started "$apid" && [ "$start" = "$astart" ]
}

# launch SCRIPT PIDFILE OUTPUT [ARGUMENT] starts a shell in a session of its
# own, with root and socket in its environment. Its pid is on file when launch
# returns.
launch() {
	root=$root socket=$socket setsid sh -c '
		sh "$1" "${4:-}" </dev/null >>"$3" 2>&1 &
		read -r stat <"/proc/$!/stat" || exit
		pid=$! file=$2
		set -- ${stat##*) }
		echo "$pid ${20}" >"$file.$pid" && mv "$file.$pid" "$file"
	' sh "$@"
}

# myself sets me to "pid start" of the shell that runs; $$ is another's where
# this one is a part of it.
myself() {
	read -r stat </proc/self/stat
	me=${stat%% *}
	set -- ${stat##*) }
	me="$me ${20}"
}

# wake FILE ends the doze of the process that is written in it.
wake() { alive "$1" && kill -s USR1 "$apid" 2>/dev/null; return 0; }

# A doze is a pause that wake ends. It begins before one looks whether there is
# something to wait for, so that no waking is missed.
dozing= woken=
begin_doze() {
	sleep "$1" >/dev/null 2>&1 3>&- 4>&- &
	dozing=$!
}
end_doze() {
	kill "$dozing" 2>/dev/null
	dozing=
}
doze() {
	wait "$dozing" 2>/dev/null # shells tell that it was killed
	end_doze
}
wakeable() { trap 'woken=1; [ -z "$dozing" ] || kill "$dozing" 2>/dev/null' USR1; }

# wake_followers has those who stream the job's output look at once.
wake_followers() {
	for follower in "$job"/follower.*; do wake "$follower"; done
}

# listening: the client, or its link, is still there, as far as the account
# may see that.
watched=
[ ! -d "/proc/$PPID" ] || watched=1
listening() { [ -z "$watched" ] || [ -d "/proc/$PPID" ]; }

epoch() { date +%s; }

# drop_claims gives back the sandbox's subnets.
drop_claims() {
	for claim in "$root"/net/*; do
		read -r owner 2>/dev/null <"$claim" && [ "$owner" = "$id" ] && rm -f "$claim"
	done
}

# wake_reaper has the reaper look at once, for instance to find that nothing is
# left to wait for.
wake_reaper() { wake "$root/slots/reaper.pid"; }
