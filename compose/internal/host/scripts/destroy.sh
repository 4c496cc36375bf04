# The whole teardown of a sandbox, for the script and for the reaper.

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
# root may be standing on them, or the cache keeps them; see steps.sh.
remove_images() {
	cache_ttl
	if [ "$ttl" = 0 ] && no_builds; then docker rmi -f $images; else docker rmi -f --no-prune $images; fi
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

# unsettled: the job ended out of order while the engine worked for it, killed
# by this teardown or by whomever before.
unsettled() {
	[ -z "$killed" ] || return 0
	[ -e "$job/pid" ] || return
	read -r rc blamed 2>/dev/null <"$job/rc" || return 0
	read -r stage 2>/dev/null <"$job/stage"
	case $rc:${blamed:-$stage} in 0:* | *:config | *:queue | *:pull) return 1 ;; esac
}

# settle sweeps until two more looks, half a second apart, found nothing: what
# the engine was doing for such a job comes to light late.
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
		wake_followers
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
	drop_secrets
	sweep_engine || return
	if unsettled; then settle || return; fi
	note_steps
	sweep_steps
	drop_secrets
	if [ -n "$secrets_left" ]; then
		printf 'left secrets %s\n' "$secrets_left"
		return 69
	fi
	forget_files || return
	let_go
	wake_reaper
}

# drop_secrets removes the sandbox's secrets wherever they may lie, also those
# that were only on their way there, and sets secrets_left to what would not go.
# It runs before containers stop and, as the proof, after all else.
drop_secrets() {
	know_root
	vault=/dev/shm/sandboxer-${root_id:-none} secrets_left=
	for place in "$vault/$id" "$vault/.new.$id".* "$dir/secrets" "$dir/.new.$id".*; do
		[ -e "$place" ] || [ -L "$place" ] || continue
		rm -rf "$place" 2>/dev/null
		if [ -e "$place" ]; then secrets_left="$place $place"; else echo "removed secrets $place $place"; fi
	done
	rmdir "$vault" 2>/dev/null
	return 0
}

# forget_files removes what the host keeps for the sandbox: before the
# directory all that it alone remembers, and before its mark all that may
# refuse to go.
forget_files() {
	drop_claims
	rm -rf "$root/sb/.new.$id" # of a reservation that was killed
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
