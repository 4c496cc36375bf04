# The host's own caretaker: one per root while it holds a sandbox, or notes of
# build steps that can not be removed yet, with no client alive. It looks at
# least every 30 seconds, by the host's clock, and when a teardown or a short
# lease wakes it. With the argument "sweep" it also looks around at once.
cd / || exit 1
wakeable
patience=5

# overdue: the lease in $dir has ended, or cannot be read, or a teardown that
# began a minute ago was not finished.
overdue() {
	[ -z "$(find "$dir/destroying" -mmin +1 2>/dev/null)" ] || return 0
	read -r until 2>/dev/null <"$dir/lease" || return 0
	case $until in '' | *[!0-9]*) return 0 ;; esac
	[ "$now" -ge "$until" ]
}

# reap_expired destroys every sandbox that is overdue. Renewing and reaping
# exclude each other by the lease's own lock.
reap_expired() {
	now=$(epoch)
	for dir in "$root"/sb/*; do
		[ -d "$dir" ] && overdue && reap
	done
}

reap() (
	id=${dir##*/}
	job=$dir/jobs/up
	exec 6>>"$dir/lease.lock"
	flock -n 6 && overdue || exit
	generation=0
	[ ! -e "$dir/attempt" ] || read -r generation holder <"$dir/attempt" || exit
	echo >"$dir/destroying"
	exec 6>&-
	destroy
) >/dev/null 2>&1

# reap_strays removes what carries our root's label and has no directory: the
# directory is made first and removed last, so nobody is at work on it.
reap_strays() {
	know_root
	[ -n "$root_id" ] || return
	for id in $(ids_on_engine "label=dev.sandboxer.root=$root_id" 2>/dev/null | sort -u); do
		dir=$root/sb/$id
		case $id in *[!a-z0-9]*) continue ;; esac
		[ -d "$dir" ] || (
			hold 5 || exit
			[ -d "$dir" ] || sweep_engine
			let_go
		) >/dev/null 2>&1
	done
}

ids_on_engine() {
	docker ps -a --filter "$1" --format '{{.Label "dev.sandboxer.id"}}'
	docker network ls --filter "$1" --format '{{.Label "dev.sandboxer.id"}}'
	docker volume ls --filter "$1" --format '{{.Label "dev.sandboxer.id"}}'
	images=$(docker image ls -aq --filter "$1")
	[ -z "$images" ] || docker image inspect --format '{{index .Config.Labels "dev.sandboxer.id"}}' $images
}

# reap_secrets removes secrets whose sandbox is not there any more.
reap_secrets() {
	know_secrets
	[ -n "$vault" ] || return 0
	for stray in "$vault"/* "$vault"/.new.*; do
		id=${stray##*/}
		id=${id#.new.}
		id=${id%%.*}
		dir=$root/sb/$id
		case $id in '' | *[!a-z0-9]*) continue ;; esac
		[ -d "$dir" ] || (
			hold 5 || exit
			[ -d "$dir" ] || drop_secrets
			let_go
		) >/dev/null 2>&1
	done
}

# trim removes what the cache may no longer keep, and what scripts that were
# killed left half done.
trim() {
	cache_ttl
	for tree in "$root"/cache/src/*; do
		read -r used 2>/dev/null <"$tree/used" || continue
		[ $((now - used)) -lt "$ttl" ] || drop_tree "${tree##*/}"
	done
	for stage in "$root"/cache/src/.stage.*; do
		id=${stage#"$root/cache/src/.stage."}
		[ -d "$root/sb/${id%%.*}" ] || rm -rf "$stage"
	done
	rm -rf "$root"/cache/src/.drop.* "$root"/sb/.gone.*
}

# rest ends the reaper when nothing is left to reap, or another is on duty. New
# sandboxes are admitted and reapers started under the same lock, so none is
# left without one.
rest() {
	exec 8>>"$root/slots/admit"
	if take 8 30; then
		read -r mine born 2>/dev/null <"$root/slots/reaper.pid" && [ "$mine" = "$$" ] || exit 0
		set -- "$root"/sb/*
		if [ ! -e "$1" ] && ! steps_wait; then
			rm -f "$root/slots/reaper.pid" "$root/slots/engine"
			exit 0
		fi
	fi
	exec 8>&-
}

# steps_wait: images of build steps are noted, and whoever stands on them may
# soon be gone. An hour after they were due that is left to the next reaper.
steps_wait() {
	cache_ttl
	[ -n "$(find "$root"/cache/steps -type f -name '[!.]*' -mmin "-$((ttl / 60 + 60))" 2>/dev/null)" ]
}

nap() {
	next=30
	# what somebody stands on for longer can wait longer
	[ -z "$(find "$root"/cache/steps -type f -mmin -5 2>/dev/null)" ] || [ -z "$(due_steps)" ] || next=5
	now=$(epoch)
	for lease in "$root"/sb/*/lease; do
		read -r until 2>/dev/null <"$lease" || continue
		case $until in '' | *[!0-9]*) continue ;; esac
		[ $((until - now)) -ge "$next" ] || next=$((until - now))
	done
	[ "$next" -ge 1 ] || next=1
	begin_doze "$next"
	if [ -n "$woken" ]; then end_doze; else doze; fi
}

sweep=${1:-}
round=0
while :; do
	woken=
	reap_expired
	reap_secrets
	sweep_steps
	trim
	round=$(((round + 1) % 10))
	[ "$round" != 0 ] || sweep=sweep
	if [ -n "$sweep" ]; then
		sweep=
		: >"$root/slots/swept"
		reap_strays
	fi
	rest
	nap
done
