# The detached job: pull, build, up. The stage that fails is the class of the
# error, because compose's exit code says nothing. In: id project
# build bound import (the name that import.tar gets, or nothing) labels (of that).
cd "$dir" || exit 1

# finish CODE [STAGE] tells how the job ended, and what is to blame if that is
# not the stage that it came to. The stage itself stays: a teardown goes by it.
finish() {
	echo "$1 ${2:-}" >"$job/.rc" && mv "$job/.rc" "$job/rc"
	wake_followers
	exec 8>&-
	wake "$root/slots/waiting"
	exit 0
}

stage() {
	echo "$1" >"$job/.stage" && mv "$job/.stage" "$job/stage"
	echo "::stage $1"
	wake_followers
}

# Nothing of the account's environment reaches compose, and nothing of the
# workspace steers it.
compose() {
	env -i PATH="$PATH" HOME="$dir/docker" DOCKER_CONFIG="$dir/docker" DOCKER_HOST="$DOCKER_HOST" LC_ALL=C \
		COMPOSE_DISABLE_ENV_FILE=1 COMPOSE_EXPERIMENTAL_GIT_REMOTE=false COMPOSE_EXPERIMENTAL_OCI_REMOTE=false COMPOSE_MENU=false \
		BUILDX_GIT_INFO=false BUILDX_GIT_LABELS=0 GIT_DIR=/nonexistent DOCKER_CLI_HINTS=false \
		timeout -k 10 "$bound" docker compose --ansi never --progress plain -p "$project" --project-directory "$dir/src" \
		--env-file /dev/null -f "$dir/compose.yaml" "$@"
}

# try runs compose, and ends the job if that fails.
try() {
	compose "$@"
	ended "$?" "$1"
}

ended() {
	[ "$1" != 0 ] || return 0
	case $1 in
	124) echo "docker compose $2 was ended: it took longer than $bound seconds" ;;
	? | ?? | 1[01]? | 12[0-3]) blame_file ;; # no signal ended it
	esac
	finish "$1"
}

# blame_file ends the job if compose cannot read its file at all. It is asked
# when something failed: that it can is the rule, and asking is a call more.
blame_file() {
	unreadable=$(compose config -q 2>&1)
	rc=$?
	if [ "$rc" != 0 ] && [ "$rc" -lt 124 ]; then
		printf '::stage config\n%s\n' "$unreadable"
		finish "$rc" config
	fi
}

# build_images builds again when somebody removed an image, of an earlier build
# of the same, that the engine was about to use.
build_images() {
	for again in 1 2 3 ''; do
		from=$(wc -c <"$job/out")
		compose build
		rc=$?
		if [ "$rc" = 0 ] || [ -z "$again" ]; then break; fi
		tail -c "+$((from + 1))" "$job/out" | grep -qE '(No such image:|failed to get digest|unknown parent image ID) sha256:' || break
	done
	ended "$rc" build
}

# slot waits for one of the host's places for heavy work: more than twice the
# processors at once makes nothing faster. One job at a time looks for a place,
# woken by whoever gives one back.
slot() {
	places=$(($(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null || echo 2) * 2))
	exec 7>>"$root/slots/queue"
	flock 7
	myself
	wakeable
	echo "$me" >"$root/slots/waiting"
	until begin_doze 1 && free_place; do doze; done
	end_doze
	exec 7>&-
}

# free_place takes a place, if one is free.
free_place() {
	n=0
	while [ "$n" -lt "$places" ]; do
		exec 8>>"$root/slots/up.$n"
		flock -n 8 && return
		n=$((n + 1))
	done
	exec 8>&-
	return 1
}

# absent sets services to those whose images are not on the host.
absent() {
	services=
	set --
	while read -r service image; do set -- "$@" "$image"; done <"$dir/images"
	if [ "$#" = 0 ] || docker image inspect "$@" >/dev/null 2>&1; then return; fi
	while read -r service image; do
		docker image inspect "$image" >/dev/null 2>&1 || services="$services $service"
	done <"$dir/images"
}

stage queue
slot
absent
if [ -n "$services" ]; then
	stage pull
	try pull $services
fi
if [ "$build" = 1 ]; then
	stage build
	date -u +%Y-%m-%dT%H:%M:%S >"$job/built"
	exec 5>>"$root/slots/build"
	flock -s 5
	build_images
	exec 5>&-
fi
if [ -n "$import" ]; then
	stage import
	docker import --change "LABEL $labels" "$dir/import.tar" "$import" >/dev/null
	ended "$?" import
	rm -f "$dir/import.tar"
fi
stage up
try up -d --no-build --pull never
finish 0
