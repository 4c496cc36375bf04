# Shared by every script of the host protocol. Variables come from the client
# or, in the reaper, from its own file. Exit codes are the protocol:
#   65 gone or taken by another attempt   66 another generation is there
#   67 no free slot     68 subnet taken    69 something is left
#   70 a tool is missing                   71 not enough disk
#   72 being destroyed  73 newer generation 74 files only root can remove
#   75 lock not obtained 77 the job failed 78 the engine does not answer
#   79 an upload arrived incomplete        80 the root directory is not ours
#   81 the cached tree is gone
set -u
umask 077

say() { printf '%s\n' "$*" >&2; }
die() { code=$1; shift; say "$*"; exit "$code"; }

if [ -z "${root:-}" ]; then
	if [ "$(id -u)" = 0 ]; then
		root=/var/lib/sandboxer
	else
		root=${XDG_STATE_HOME:-$HOME/.local/state}/sandboxer/host
	fi
fi
dir=$root/sb/${id:-none}

if [ -n "${socket:-}" ]; then
	DOCKER_HOST=unix://$socket
	export DOCKER_HOST
fi

# open_root makes the layout, once, and refuses one that somebody else owns.
open_root() {
	mkdir -p "$root" 2>/dev/null || die 80 "cannot create $root: give the account a directory it may write (root: in the host configuration)"
	if [ -L "$root" ] || [ ! -O "$root" ]; then
		die 80 "$root is a link or belongs to another account: choose another directory (root: in the host configuration)"
	fi
	[ -e "$root/host.json" ] && return
	chmod 700 "$root" && mkdir -p "$root/lock" "$root/slots" "$root/net" "$root/sb" "$root/cache/src" || die 80 "cannot write in $root"
	new=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
	printf '{"schema":1,"root":"%s"}\n' "$new" >"$root/.host.json.$$"
	# a hard link loses the race quietly where a rename would win it twice
	ln "$root/.host.json.$$" "$root/host.json" 2>/dev/null
	rm -f "$root/.host.json.$$"
}

root_id() { sed -n 's/.*"root":"\([0-9a-f]*\)".*/\1/p' "$root/host.json" 2>/dev/null; }

# lock takes the sandbox's lock on descriptor 9. The file may have been removed
# between open and flock by a teardown; then the lock is worthless.
lock() {
	mkdir -p "$root/lock"
	while :; do
		exec 9>"$root/lock/$id"
		flock -w "$1" 9 || return 1
		[ "$root/lock/$id" -ef /proc/self/fd/9 ] && return 0
	done
}

# guard lets only the attempt that holds the reservation go on.
guard() {
	if [ ! -d "$dir" ]; then
		rm -f "$root/lock/$id"
		die 65 "the sandbox was removed meanwhile"
	fi
	[ -e "$dir/destroying" ] && die 72 "the sandbox is being destroyed"
	[ "$(cat "$dir/attempt" 2>/dev/null)" = "$generation $attempt" ] || die 65 "another attempt holds the sandbox"
}

# started is the start time of a process: a PID alone may have been used again.
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# alive FILE: the process that wrote "pid start" into FILE still runs.
alive() {
	read -r apid astart 2>/dev/null <"$1" || return 1
	[ -n "$astart" ] && [ "$(started "$apid")" = "$astart" ]
}

epoch() { date +%s; }

# objects LABEL lists "kind id name" of everything on the engine that carries it.
objects() {
	docker ps -a --no-trunc --filter "label=$1" --format 'container {{.ID}} {{.Names}}' || return 78
	docker network ls --no-trunc --filter "label=$1" --format 'network {{.ID}} {{.Name}}' || return 78
	docker volume ls --filter "label=$1" --format 'volume {{.Name}} {{.Name}}' || return 78
	docker image ls -a --no-trunc --filter "label=$1" --format 'image {{.ID}} {{.Repository}}:{{.Tag}}' || return 78
}

# pick KIND prints the ids of that kind from the list in $found.
pick() { printf '%s\n' "$found" | sed -n "s/^$1 \([^ ]*\) .*/\1/p" | sort -u; }

# remove_objects takes away what $found lists. Errors are not read: what counts is the next look.
remove_objects() {
	for object in $(pick container); do echo "$object"; done | xargs -r docker rm -f -v >/dev/null 2>&1
	for object in $(pick network); do
		docker network rm "$object" >/dev/null 2>&1 && continue
		for foreign in $(docker network inspect --format '{{range $k, $v := .Containers}}{{$k}} {{end}}' "$object" 2>/dev/null); do
			docker network disconnect -f "$object" "$foreign" >/dev/null 2>&1
		done
		docker network rm "$object" >/dev/null 2>&1
	done
	for object in $(pick volume); do echo "$object"; done | xargs -r docker volume rm -f >/dev/null 2>&1
	for object in $(pick image); do echo "$object"; done | xargs -r docker rmi -f >/dev/null 2>&1
}

# sweep_engine removes everything labelled with the sandbox's id and looks
# again, up to three times. It prints what it removed and what it could not.
sweep_engine() {
	round=0
	while :; do
		found=$(objects "dev.sandboxer.id=$id") || return 78
		[ -n "$found" ] || return 0
		if [ "$round" = 3 ]; then
			printf '%s\n' "$found" | sed 's/^/left /'
			return 69
		fi
		[ "$round" = 0 ] && printf '%s\n' "$found" | sed 's/^/removed /'
		remove_objects
		round=$((round + 1))
	done
}

# kill_jobs ends every process of the sandbox's job: they hold its lock on
# descriptor 4, which children inherit, also those in a group of their own.
kill_jobs() {
	killed=
	while :; do
		some=
		for process in /proc/[0-9]*; do
			[ "$process/fd/4" -ef "$root/lock/$id" ] || continue
			kill -s KILL "${process#/proc/}" 2>/dev/null && some=1
		done
		[ -n "$some" ] || break
		killed=1
	done
	[ -n "$killed" ] && echo "removed process job job"
}

# forget_files removes what the host keeps for the sandbox.
forget_files() {
	digest=$(cat "$dir/tree" 2>/dev/null)
	if [ -d "$dir" ]; then
		rm -rf "$dir" 2>/dev/null || chmod -R u+rwX "$dir" 2>/dev/null && rm -rf "$dir" 2>/dev/null
		[ -d "$dir" ] && return 74
		echo "removed directory $dir $dir"
	fi
	rm -rf "$root/sb/.$id".*
	for claim in "$root"/net/*; do
		[ "$(cat "$claim" 2>/dev/null)" = "$id" ] && rm -f "$claim"
	done
	[ -n "$digest" ] && drop_tree "$digest"
	return 0
}

# drop_tree removes a cached tree that no sandbox uses any more, unless the
# host was told to keep unused ones for a while.
drop_tree() {
	[ "$(cat "$root/cache/ttl" 2>/dev/null || echo 0)" = 0 ] || return 0
	exec 7>"$root/slots/cache"
	if flock -w 30 7 && ! used_tree "$1"; then forget_tree "$1"; fi
	exec 7>&-
}

# forget_tree removes a cached tree and what says that it was the last of its source.
forget_tree() {
	rm -rf "$root/cache/src/$1" "$root/cache/src/$1.manifest"
	for last in "$root"/cache/src/base.*; do
		[ "$(cat "$last" 2>/dev/null)" = "$1" ] && rm -f "$last"
	done
}

used_tree() { grep -qxsF "$1" "$root"/sb/*/tree "$root"/sb/.*/tree; }

# trim_cache removes what the cache may no longer keep: unused trees past their
# time, and stages of uploads that were abandoned an hour ago.
trim_cache() {
	ttl=$(cat "$root/cache/ttl" 2>/dev/null || echo 0)
	exec 7>"$root/slots/cache"
	flock -n 7 || return 0
	for old in $(find "$root/cache/src" -mindepth 1 -maxdepth 1 -type d -mmin "+$((ttl / 60))" 2>/dev/null); do
		digest=${old##*/}
		case $digest in .*) continue ;; esac
		used_tree "$digest" || forget_tree "$digest"
	done
	find "$root/cache/src" -mindepth 1 -maxdepth 1 -name '.stage.*' -mmin +60 -exec rm -rf {} + 2>/dev/null
	find "$root/sb" -mindepth 1 -maxdepth 1 -name '.*' -mmin +60 -exec rm -rf {} + 2>/dev/null
	exec 7>&-
}

# destroy is the whole teardown of the sandbox in $id.
destroy() {
	[ -d "$dir" ] && : >"$dir/destroying"
	kill_jobs
	lock 120 || die 75 "another operation holds the sandbox"
	sweep_engine || return $?
	if [ -n "$killed" ]; then
		# what the engine was doing for the killed job may come to light late
		sleep 1
		sweep_engine || return $?
	fi
	forget_files || return $?
	rm -f "$root/lock/$id"
	exec 9>&-
	rest
}

# rest ends the reaper when nothing is left to reap. New sandboxes are
# admitted under the same lock, so none is left without one.
rest() {
	exec 5>"$root/slots/admit"
	flock -w 30 5 || return 0
	for other in "$root"/sb/*; do
		[ -e "$other" ] && exec 5>&- && return 0
	done
	if alive "$root/slots/reaper.pid"; then
		rm -f "$root/slots/reaper.pid" "$root/slots/reaper.sh"
		kill -s KILL -- "-$apid" 2>/dev/null
	fi
	exec 5>&-
}

# overdue: the lease in $dir has ended, by the host's own clock, or a teardown
# that began a minute ago was not finished.
overdue() {
	[ -n "$(find "$dir/destroying" -mmin +1 2>/dev/null)" ] && return 0
	until=$(cat "$dir/lease" 2>/dev/null)
	[ -n "$until" ] && [ "$(epoch)" -ge "$until" ]
}

# reap_expired destroys every sandbox whose lease has ended. Renewing and
# reaping exclude each other by the lease's own lock.
reap_expired() {
	for dir in "$root"/sb/*; do
		[ -d "$dir" ] || continue
		id=${dir##*/}
		(
			exec 6>"$dir/lease.lock" && flock -w 5 6 || exit 0
			overdue || exit 0
			: >"$dir/destroying"
			exec 6>&-
			destroy >/dev/null
		)
	done
}

# reap_strays removes what carries our root's label and has no directory: the
# directory is made first and removed last, so nobody is at work on it.
reap_strays() {
	mine=$(root_id)
	[ -n "$mine" ] || return 0
	for id in $(docker ps -a --filter "label=dev.sandboxer.root=$mine" --format '{{.Label "dev.sandboxer.id"}}' 2>/dev/null | sort -u); do
		case $id in '' | *[!a-z0-9]*) continue ;; esac
		dir=$root/sb/$id
		[ -d "$dir" ] || (destroy >/dev/null)
	done
}
