# The detached job: config, pull, build, up. The stage that fails is the class
# of the error, because compose's exit code is 1 for everything.
job=$dir/jobs/up
echo "$$ $(started $$)" >"$job/.pid" && mv "$job/.pid" "$job/pid"
cd "$dir" || exit 1

finish() {
	echo "$1" >"$job/.rc" && mv "$job/.rc" "$job/rc"
	exit 0
}

stage() {
	echo "$1" >"$job/.stage" && mv "$job/.stage" "$job/stage"
	echo "::stage $1"
}

# Nothing of the account's environment reaches compose, and nothing of the
# workspace steers it.
compose() {
	env -i PATH="$PATH" HOME="$dir/docker" DOCKER_CONFIG="$dir/docker" ${DOCKER_HOST:+DOCKER_HOST="$DOCKER_HOST"} LC_ALL=C \
		COMPOSE_DISABLE_ENV_FILE=1 COMPOSE_EXPERIMENTAL_GIT_REMOTE=false COMPOSE_EXPERIMENTAL_OCI_REMOTE=false COMPOSE_MENU=false \
		BUILDX_GIT_INFO=false BUILDX_GIT_LABELS=0 GIT_DIR=/nonexistent \
		timeout -k 10 "$bound" docker compose --ansi never --progress plain -p "$project" --project-directory "$dir/src" \
		--env-file /dev/null -f "$dir/compose.yaml" "$@"
}

# slot waits for one of the host's places for heavy work: more than twice the
# processors at once makes nothing faster.
slot() {
	places=$(($(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) * 2))
	while :; do
		n=0
		while [ "$n" -lt "$places" ]; do
			exec 8>"$root/slots/up.$n"
			flock -n 8 && return
			n=$((n + 1))
		done
		sleep 0.2 2>/dev/null || sleep 1
	done
}

stage config
compose config -q || finish 1
stage queue
slot
missing=
while read -r service image; do
	docker image inspect "$image" >/dev/null 2>&1 || missing="$missing $service"
done <"$dir/images"
if [ -n "$missing" ]; then
	stage pull
	compose pull $missing || finish 1
fi
if [ "$build" = 1 ]; then
	stage build
	compose build || finish 1
fi
stage up
compose up -d --no-build --pull never || finish 1
finish 0
