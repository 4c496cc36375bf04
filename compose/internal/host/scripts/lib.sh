# Shared by every script of the host protocol. Variables come from the client
# or, in the job and the reaper, from the head of their own file. Exit codes
# are the protocol:
#   65 gone or taken by another attempt    66 another generation is there
#   67 no free slot     68 subnet taken     69 something is left
#   70 a tool is missing                    71 not enough disk
#   72 being destroyed  73 newer generation 74 files only root can remove
#   75 lock not obtained 76 the job died    77 the job failed
#   78 the engine does not answer           79 an upload arrived incomplete
#   80 the root directory is not ours       81 the cached tree is gone
# Descriptors: 3 the job's output, 4 a worker of the sandbox, 5 builds,
# 6 a lease, 7 the cache or images, 8 admission or a place for heavy work,
# 9 the sandbox's lock.
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

# listening: the client, or its link, is still there.
listening() { [ -d "/proc/$PPID" ]; }

epoch() { date +%s; }

# objects LABEL lists "kind id name" of everything on the engine that carries
# it, newest first, and a line "!" where the engine did not answer.
objects() {
	listing container docker ps -a --no-trunc --filter "label=$1" --format '{{.ID}} {{.Names}}' &
	listing network docker network ls --no-trunc --filter "label=$1" --format '{{.ID}} {{.Name}}' &
	listing volume docker volume ls --filter "label=$1" --format '{{.Name}} {{.Name}}' &
	listing image docker image ls -a --no-trunc --filter "label=$1" --format '{{.ID}} {{.Repository}}:{{.Tag}}' &
	wait
}

# listing writes line by line, so that parallel ones do not mix.
listing() {
	kind=$1
	shift
	{ "$@" || echo '!'; } | while read -r object; do
		case $object in
		'!') echo '!' ;;
		*) printf '%s\n' "$kind $object" ;;
		esac
	done
}

# look sets found to what carries the sandbox's id, and the ids by kind.
look() {
	found=$(objects "dev.sandboxer.id=$id")
	containers= networks= volumes= images=
	while read -r kind object name; do
		case $kind in
		container) containers="$containers $object" ;;
		network) networks="$networks $object" ;;
		volume) volumes="$volumes $object" ;;
		image) case "$images " in *" $object "*) ;; *) images="$images $object" ;; esac ;;
		'!') return 78 ;;
		esac
	done <<-END
		$found
	END
}

# remove_objects takes away what look found. Errors are not read: what counts
# is the next look.
remove_objects() {
	[ -z "$containers" ] || docker rm -f -v $containers
	[ -z "$networks" ] || remove_networks &
	[ -z "$volumes" ] || docker volume rm -f $volumes &
	[ -z "$images" ] || remove_images &
	wait
}

# remove_images spares the images that these were made of while a build of this
# root may be standing on them; see steps.sh.
remove_images() {
	if no_builds; then docker rmi -f $images; else docker rmi -f --no-prune $images; fi
}

# no_builds waits for others that remove images, and then holds off builds of
# this root unless one is running.
no_builds() {
	exec 7>>"$root/slots/images"
	take 7 60 || return
	exec 5>>"$root/slots/build"
	flock -n 5
}

remove_networks() {
	docker network rm $networks && return
	for network in $networks; do
		for foreign in $(docker network inspect --format '{{range $k, $v := .Containers}}{{$k}} {{end}}' "$network"); do
			docker network disconnect -f "$network" "$foreign"
		done
		docker network rm "$network"
	done
}

# sweep_engine removes everything that carries the sandbox's id and looks
# again, up to three times. It prints what it removed and what it could not.
sweep_engine() {
	round=0
	while :; do
		look || return
		[ -n "$found" ] || return 0
		swept=1
		if [ "$round" = 3 ]; then
			printf '%s\n' "$found" | sed 's/^/left /'
			return 69
		fi
		printf '%s\n' "$found" | sed 's/^/removed /'
		remove_objects >/dev/null 2>&1
		round=$((round + 1))
	done
}

# settle sweeps until two more looks, half a second apart, found nothing: what
# the engine was doing for a killed job comes to light late.
settle() {
	quiet=0
	until [ "$quiet" = 2 ]; do
		pause 0.5
		swept=
		sweep_engine || return
		quiet=$((quiet + 1))
		[ -z "$swept" ] || quiet=0
	done
}

# mark says in the directory itself that it is being destroyed: its name may
# belong to a later generation by now.
mark() (
	cd "$dir" 2>/dev/null || exit 0
	read -r have holder 2>/dev/null <attempt || have=0
	[ "${generation:-0}" = 0 ] || [ "$have" -le "$generation" ] ||
		die 73 "the host holds generation $have of the sandbox"
	{ echo >destroying; } 2>/dev/null
	exit 0
)

# end_workers kills every worker, also those in a process group of their own.
end_workers() {
	while :; do
		some=
		for process in /proc/[0-9]*; do
			[ "$process/fd/4" -ef /proc/self/fd/9 ] || continue
			kill -s KILL "${process#/proc/}" 2>/dev/null && some=1
		done
		[ -n "$some" ] || return 0
		killed=1
		pause 0.02
	done
}

# seize marks the sandbox, ends its workers and takes its lock. It begins again
# when another teardown or a new reservation was faster.
seize() {
	while :; do
		exec 9>>"$root/lock/$id"
		mark || return
		end_workers
		take 9 "${patience:-120}" || die 75 "another teardown holds the sandbox"
		same 9 || continue
		if [ ! -d "$dir" ] || [ -e "$dir/destroying" ]; then return 0; fi
	done
}

# destroy is the whole teardown of the sandbox in $id.
destroy() {
	killed=
	seize || return
	[ -z "$killed" ] || echo "removed process job job"
	sweep_engine || return
	[ -z "$killed" ] || settle || return
	note_steps
	sweep_steps
	forget_files || return
	let_go
	wake_reaper
}

# forget_files removes what the host keeps for the sandbox: before the
# directory all that it alone remembers, and before its mark all that may
# refuse to go.
forget_files() {
	drop_claims
	for stage in "$root/cache/src/.stage.$id".*; do [ ! -e "$stage" ] || rm -rf "$stage"; done
	if read -r tree 2>/dev/null <"$dir/tree"; then
		rm -f "$dir/tree"
		cache_ttl
		[ "$ttl" != 0 ] || drop_tree "$tree"
	fi
	[ -d "$dir" ] || return 0
	remove_written || { chmod -R u+rwX "$dir/src" "$dir/pins" 2>/dev/null; remove_written; } || return 74
	mv "$dir" "$root/sb/.gone.$id" && rm -rf "$root/sb/.gone.$id" || return 74
	echo "removed directory $dir $dir"
}

# remove_written removes what containers may have written to.
remove_written() { rm -rf "$dir/src" "$dir/.src" "$dir/pins" 2>/dev/null; }

# drop_claims gives back the sandbox's subnets.
drop_claims() {
	for claim in "$root"/net/*; do
		read -r owner 2>/dev/null <"$claim" && [ "$owner" = "$id" ] && rm -f "$claim"
	done
}

# cache_ttl sets ttl to the seconds that an unused tree may stay.
cache_ttl() {
	ttl=0
	read -r ttl 2>/dev/null <"$root/cache/ttl"
	case $ttl in '' | *[!0-9]*) ttl=0 ;; esac
}

# drop_tree removes a cached tree that no sandbox uses.
drop_tree() {
	exec 7>>"$root/slots/cache"
	if take 7 30 && ! used_tree "$1" && mv "$root/cache/src/$1" "$root/cache/src/.drop.$$" 2>/dev/null; then
		exec 7>&-
		rm -rf "$root/cache/src/.drop.$$"
	fi
	exec 7>&-
}

used_tree() { grep -qxsF "$1" "$root"/sb/*/tree "$root"/sb/.new.*/tree; }

# wake_reaper has the reaper look at once, for instance to find that nothing is
# left to wait for.
wake_reaper() {
	alive "$root/slots/reaper.pid" && kill -s USR1 "$apid" 2>/dev/null
	return 0
}
